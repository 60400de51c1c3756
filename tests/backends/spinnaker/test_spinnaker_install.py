from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from hsnn_compiler.backends.spinnaker import install, presence
from hsnn_compiler.backends.spinnaker.execute import TurnResult
from hsnn_compiler.diagnostics import HsnnError


def test_the_command_leaves_alone_what_is_there() -> None:
    command = install.install_command({"numpy": "1.26.4"})
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert set(command[5:]) == {
        "numpy==1.26.4", "scipy>=1.10", "matplotlib>=3.8", "sPyNNaker==1!7.4.1", "nest-simulator==3.10.0",
    }  # fmt: skip


def test_pip_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "import sys; print('ERROR: no matching board'); sys.exit(3)"]
    monkeypatch.setattr(install, "install_command", lambda there: failing)
    lines: list[str] = []
    with pytest.raises(HsnnError, match="no matching board") as caught:
        install.install_spinnaker(lines.append)
    assert caught.value.findings[0].code == "E0707"
    assert caught.value.exit_code == 7
    assert lines[-1] == "ERROR: no matching board"


@pytest.mark.usefixtures("spynnaker")
def test_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here maps and runs; an installation that does neither is an error."""
    ran: list[str] = []

    def run_pip(command: Sequence[str], print_line: Any, *_: str) -> None:
        ran.append(command[-1])

    monkeypatch.setattr(install, "run_pip", run_pip)
    lines: list[str] = []
    install.install_spinnaker(lines.append)
    assert ran == ["nest-simulator==3.10.0"]
    assert lines[-1].endswith("are installed and run")

    def silent(turn: Any, timesteps: int, given: Any, *_: Any, **__: Any) -> TurnResult:
        return TurnResult(spikes={"out": given.spikes["in"] * 0})

    monkeypatch.setattr(install, "map_netlist", lambda *_: None)
    monkeypatch.setattr(install, "run_nest", silent)
    with pytest.raises(HsnnError, match="NEST runs, but computes"):
        install.install_spinnaker(lines.append)


def test_parts_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "PARTS", (("no-such-part", "nothing"), ("pytest", "no_such_module")))
    assert presence.part_status("no-such-part").reason == "no-such-part is not installed"
    assert presence.part_status("pytest").reason == "its module no_such_module is not found"
    assert presence.part_status("pytest").version
