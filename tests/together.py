"""Runs several commands side by side and shows what each said: ``python -m tests.together COMMAND ...``."""
from __future__ import annotations

import shlex
import signal
import subprocess
import sys


def main(commands: list[str]) -> int:
    """Returns 0 where all of them do; none outlives this."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    running = [subprocess.Popen([sys.executable, *shlex.split(each)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True) for each in commands]
    codes = []
    try:
        for command, process in zip(commands, running):
            said, _ = process.communicate()
            codes.append(process.returncode)
            print(f'$ python {command}\n{said}ended with {process.returncode}\n', flush=True)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return min(1, sum(map(abs, codes)))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
