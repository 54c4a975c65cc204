"""A run as data and as a page of Markdown."""
from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from .checks import CHECKS, EXAMPLES, Finding, Judge
from .run import Evidence

__all__ = ('Report',)


class Report:
    """The findings of a run; on the stock transport they are told, and fail nothing."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.stock = evidence.options.transport != 'qos'
        judge = Judge(evidence)
        self.findings: list[Finding] = [check(judge) for check, general in CHECKS if general or not self.stock]

    @property
    def holds(self) -> bool:
        return self.stock or all(finding.holds for finding in self.findings)

    @property
    def summary(self) -> dict[str, Any]:
        evidence, options = self.evidence, self.evidence.options
        seconds = evidence.stopped - evidence.began
        kinds = Counter(fault.kind for fault in evidence.faults)
        tasks = evidence.history.tasks.values()
        kills = sum(kinds[kind] for kind in ('kill_worker', 'kill_main_process', 'kill_child'))
        duplicates = sum(len(runs) - 1 for task in tasks for runs in task.runs.values())
        return {
            'transport': options.transport, 'seed': options.seed, 'versions': evidence.versions,
            'workers': list(options.pools), 'minutes': round(seconds / 60, 2), 'tasks': len(tasks),
            'tasks per second': round(len(tasks) / seconds, 1), 'faults': dict(kinds.most_common()),
            'faults in all': kinds.total(), 'executions twice or more': duplicates,
            'of these, per kill of a process': round(duplicates / kills, 2) if kills else 0,
        }

    def as_data(self) -> dict[str, Any]:
        return {**self.summary, 'holds': self.holds, 'findings': [asdict(finding) for finding in self.findings],
                'every fault': [asdict(fault) for fault in self.evidence.faults],
                'every worker': [asdict(life) for life in self.evidence.lives],
                'logs': self.evidence.logs}

    def as_markdown(self) -> str:
        summary = self.summary
        versions = ', '.join(f'{name} {version}' for name, version in summary['versions'].items())
        pools = ', '.join(f'{count} {pool}' for pool, count in Counter(summary['workers']).items())
        lines = [
            f'{summary["tasks"]} tasks, {summary["faults in all"]} faults in {summary["minutes"]} minutes '
            f'({summary["tasks per second"]} tasks a second), transport `{summary["transport"]}`, seed '
            f'{summary["seed"]}.', '', f'Workers: {pools}. {versions}.', '',
            '| check | | |', '|---|---|---|']
        for finding in self.findings:
            facts = '; '.join(f'{name}: {value}' for name, value in finding.facts.items())
            holds = 'holds' if finding.holds else 'differs' if self.stock else '**FAILS**'
            lines.append(f'| {finding.name} | {holds} | {facts} |')
        lines += ['', '| fault | times |', '|---|---|']
        lines += [f'| {kind} | {count} |' for kind, count in summary['faults'].items()]
        lines += ['', f'Executions twice or more: {summary["executions twice or more"]}, '
                  f'{summary["of these, per kill of a process"]} per kill of a process.']
        for finding in self.findings:
            if finding.against:
                lines += ['', f'{finding.name}: {len(finding.against)}', '']
                lines += [f'- {each}' for each in finding.against[:EXAMPLES]]
        return '\n'.join(lines) + '\n'
