from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from preloaded import PreloadedPool

from hsnn_compiler.backends.lava import simulate

HERE = Path(__file__).parent
OWN_PROCESSES = HERE.parents[2] / "backends" / "lava" / "hsnn_lava"


@pytest.fixture
def network_dir(tmp_path: Path, lava: None) -> Callable[..., Path]:
    """Write ``network.py`` (and other files) into a folder, as a bundle does."""

    def write(network: str, **files: str) -> Path:
        folder = tmp_path / "network"
        shutil.copytree(OWN_PROCESSES, folder / "hsnn_lava", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "network.py").write_text(textwrap.dedent(network))
        for name, text in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        return folder

    return write


@pytest.fixture
def example_dir(network_dir: Callable[..., Path]) -> Path:
    """The network of ``example_network/``."""
    return network_dir((HERE / "example_network" / "network.py").read_text())


class Leftovers:
    """Looks for what a run may have left behind.

    Attributes:
        home: a temporary directory of this test's own, so what is left in it is this test's.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def processes(self) -> list[int]:
        """Living processes (zombies are not) of runs; forks share the command line."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.home).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def shared_memory(self, pid: int | None = None) -> list[str]:
        """Shared memory and semaphores of runs started by a process, by default this one."""
        start = f"hsnn_{pid or os.getpid()}_"
        names = [path.name for path in Path("/dev/shm").iterdir()]
        return [name for name in names if name.removeprefix("sem.").startswith(start)]

    def check(self, pid: int | None = None) -> None:
        """Assert that nothing is left, or will not be in a moment."""
        end = time.monotonic() + 5.0
        while self.processes():
            assert time.monotonic() < end, "processes are left"
            time.sleep(0.02)
        assert self.shared_memory(pid) == []
        assert list(self.home.glob("hsnn-lava-*")) == []


@pytest.fixture
def leftovers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Leftovers:
    home = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    return Leftovers(home)


@pytest.fixture
def fast_lava(lava: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lava is imported once for all networks of a test; two threads can run some at the same time."""
    lava = PreloadedPool()
    monkeypatch.setattr(simulate, "run_network", lava.run)
    yield
    lava.close()
