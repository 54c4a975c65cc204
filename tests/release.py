"""Builds the wheel and the sdist, and installs the wheel into an empty environment: ``python -m tests.release``.

It needs build, setuptools and twine.
"""
from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import celery_qos

ROOT = Path(__file__).resolve().parents[1]
#: Files of the repository that are no part of a release.
LEFT_OUT = ('.ci/run', '.gitignore', '.readthedocs.yaml')


def run(*command: object, cwd: Path = ROOT) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE).stdout


def check_sdist(path: Path) -> None:
    """It has all that is in the repository."""
    with tarfile.open(path) as archive:
        held = {name.partition('/')[2] for name in archive.getnames()}
    missing = set(run('git', 'ls-files').split()) - {*LEFT_OUT} - held
    assert not missing, f'{path.name} lacks {sorted(missing)}: see MANIFEST.in'


def check_wheel(path: Path) -> None:
    """It has the package, and nothing else."""
    with ZipFile(path) as archive:
        held = {name for name in archive.namelist() if '.dist-info/' not in name}
        metadata, = (archive.read(name).decode() for name in archive.namelist() if name.endswith('/METADATA'))
    expected = set(run('git', 'ls-files', 'celery_qos').split())
    assert held == expected, f'{path.name} and the repository differ in {sorted(held ^ expected)}: see setup.cfg'
    links = re.findall(r'\]\((?!https?:)\S+\)', metadata)
    assert not links, f'the description of {path.name} has links that lead nowhere on PyPI: {links}'


def check_installed(wheel: Path, folder: Path) -> None:
    """It works where there is nothing but what it asks for."""
    venv.create(folder, with_pip=True)
    programs = folder / ('Scripts' if sys.platform == 'win32' else 'bin')
    run(programs / 'python', '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', wheel)
    for command in ('celery-qos', '--help'), ('celery', 'qos', '--help'):
        assert 'Usage' in run(programs / command[0], *command[1:], cwd=folder)
    program = 'import celery_qos; celery_qos.QoS(); print(celery_qos.__version__)'
    said = run(programs / 'python', '-c', program, cwd=folder)
    assert said.split() == [celery_qos.__version__], said


def main() -> None:
    with TemporaryDirectory(prefix='celery-qos-release-') as name:
        folder = Path(name)
        # Tox has built it in isolation before; once is enough.
        run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder / 'dist')
        sdist, = (folder / 'dist').glob('*.tar.gz')
        wheel, = (folder / 'dist').glob('*.whl')
        run(sys.executable, '-m', 'twine', 'check', '--strict', sdist, wheel)
        check_sdist(sdist)
        check_wheel(wheel)
        check_installed(wheel, folder / 'empty')
        print(f'{sdist.name} and {wheel.name}: built, checked, installed')


if __name__ == '__main__':
    main()
