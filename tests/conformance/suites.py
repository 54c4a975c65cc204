"""The upstream suites: those of the installed releases, from their source distributions."""
from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ('Suite', 'SUITES')

#: What of a source distribution is unpacked. Not the package itself: the installed one is tested.
_WANTED = ('t', 'pyproject.toml', 'setup.cfg')


@dataclass(frozen=True)
class Suite:
    """The integration tests of one project.

    Attributes:
        name: the project, as on PyPI.
        pattern: which files of ``t/integration`` speak to a Redis broker.
        quick: the files of a quick run, by name.
    """

    name: str
    pattern: str
    quick: tuple[str, ...]

    @property
    def release(self) -> str:
        return f'{self.name} {version(self.name)}'

    def folder(self) -> Path:
        """The unpacked source distribution of the installed release, downloaded where it is not yet there."""
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'celery-qos', 'conformance')
        stem = f'{self.name}-{version(self.name)}'
        folder = cache / stem
        if not folder.is_dir():
            subprocess.run(
                [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary', self.name,
                 '--dest', str(cache), f'{self.name}=={version(self.name)}'], check=True)
            with tarfile.open(cache / f'{stem}.tar.gz') as archive:
                archive.extractall(cache, [
                    member for member in archive.getmembers() if member.name.split('/')[1:2] in ([w] for w in _WANTED)
                ], filter='data')
        return folder

    def files(self, quick: bool) -> list[Path]:
        """Test files, relative to `folder`."""
        folder = self.folder()
        return [path.relative_to(folder) for path in sorted(folder.glob(f't/integration/{self.pattern}'))
                if not quick or path.name in self.quick]


SUITES = (
    Suite('kombu', 'test_redis*.py', ('test_redis.py', 'test_redis_brpop_qos.py')),
    Suite('celery', 'test_*.py', ('test_inspect.py', 'test_worker.py', 'test_loader.py')),
)
