"""The shop without docker: Redis, two workers, beat, two producers; then who waited how long."""
import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

from celery import Celery
from shop.plans import ACCOUNTS

from celery_qos.embedded import EmbeddedRedis, NoServer

CELERY = [sys.executable, '-m', 'celery', '--quiet', '--app', 'shop']
WORKER = [*CELERY, 'worker', '--loglevel', 'WARNING', '--concurrency', '1']
BEAT = [*CELERY, 'beat', '--loglevel', 'WARNING', '--pidfile', '']
PRODUCE = [sys.executable, 'produce.py']
WEB = [sys.executable, '-m', 'shop.web']
#: Seconds that the workers may take to start, and a program to finish what it does when told to stop.
PATIENCE = 30
#: What `shop.waits` logs.
WAITED = re.compile(r'tenant=(\S*) task=(\S+) waited=(\S+)')


class Report:
    """Shows what the programs print, and adds up who waited how long."""

    def __init__(self):
        self.waits = defaultdict(list)
        self.tasks = Counter()

    def follow(self, name, lines):
        for line in filter(str.strip, lines):
            found = WAITED.search(line)
            if found:
                tenant, task, waited = found.groups()
                self.waits[tenant].append(float(waited))
                self.tasks[task] += 1
            else:
                self.show(name, line.rstrip())

    def progress(self, second):
        done = ', '.join(f'{tenant} {len(waits)}' for tenant, waits in sorted(self.waits.items()))
        self.show(f'after {second} s', f'tasks done: {done}')

    def summary(self):
        print(f'\n{"tenant":<10} {"plan":<8} {"tasks":>6} {"mean wait":>11} {"longest":>11}')
        for tenant, waits in sorted(self.waits.items()):
            mean, longest = sum(waits) / len(waits), max(waits)
            print(f'{tenant:<10} {ACCOUNTS.get(tenant, "-"):<8} {len(waits):>6} {mean:>9.3f} s {longest:>9.3f} s')
        print(f'\n{"task":<27} {"runs":>5}')
        for task, runs in sorted(self.tasks.items()):
            print(f'{task:<27} {runs:>5}')

    @staticmethod
    def show(name, text):
        print(f'{name:<10} | {text}', flush=True)


class Programs:
    """Programs that run side by side; all of them end with the `with`."""

    def __init__(self, report, env):
        self.report = report
        self.env = {**os.environ, **env}
        self.running = {}
        self.readers = []

    def start(self, name, *command):
        # In a session of its own, so that Ctrl-C reaches it through __exit__ only.
        process = self.running[name] = subprocess.Popen(
            command, cwd=Path(__file__).parent, env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        reader = Thread(target=self.report.follow, args=(name, process.stdout))
        reader.start()
        self.readers.append(reader)

    def check(self):
        for name, process in self.running.items():
            if process.poll() is not None:
                sys.exit(f'{name} ended by itself, with exit code {process.returncode}')

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for reader in self.readers:
            reader.join()


def wait_for_workers(count, broker_url, programs):
    control = Celery(broker=broker_url).control
    deadline = monotonic() + PATIENCE
    while len(control.ping(limit=count)) < count:
        programs.check()
        if monotonic() > deadline:
            sys.exit(f'the workers did not start within {PATIENCE} s')


def run(seconds, web_port, report):
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as redis:
        env = {'BROKER_URL': redis.url('qos'), 'RESULT_BACKEND': redis.url('redis', db=1)}
        report.show('redis', 'export ' + ' '.join(f'{name}={shlex.quote(url)}' for name, url in env.items()))
        with Programs(report, env) as programs:
            programs.start('worker-1', *WORKER, '--hostname', 'worker-1@%h')
            programs.start('worker-2', *WORKER, '--hostname', 'worker-2@%h')
            wait_for_workers(2, env['BROKER_URL'], programs)
            programs.start('beat', *BEAT, '--schedule', f'{folder}/beat')
            programs.start('producer-0', *PRODUCE, '--tenant', 'hooli', '--every', '1', '--batch', '1')
            programs.start('producer-2', *PRODUCE, '--tenant', 'acme', 'globex', 'initech',
                           '--every', '3', '--batch', '100')
            if web_port is not None:
                programs.start('web', *WEB, '--port', str(web_port))
            for second in range(1, seconds + 1):
                sleep(1)
                programs.check()
                report.progress(second)


def main():
    parser = argparse.ArgumentParser(description='Run the shop: Redis, two workers, beat, two producers.')
    parser.add_argument('--seconds', type=int, default=15, help='for how long (default: %(default)s)')
    parser.add_argument('--web', type=int, metavar='PORT', help='serve the web side too; 0 takes a free port')
    options = parser.parse_args()
    # A SIGTERM stops the programs as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report()
    try:
        run(options.seconds, options.web, report)
    except KeyboardInterrupt:
        print('stopped')
    except NoServer as exc:
        sys.exit(str(exc))
    report.summary()


if __name__ == '__main__':
    main()
