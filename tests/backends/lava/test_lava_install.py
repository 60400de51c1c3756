from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from hsnn_compiler.backends.lava import install, presence
from hsnn_compiler.diagnostics import HsnnError


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace pip and the trial run by notes of what was run."""
    calls: list[str] = []

    def run_pip(command: Sequence[str], print_line: Any) -> None:
        calls.append(" ".join(command[4:]))

    monkeypatch.setattr(install, "_run_pip", run_pip)
    monkeypatch.setattr(install, "_verify", lambda: calls.append("verify"))
    return calls


def test_commands_leave_alone_what_is_there() -> None:
    requirements, lava = install.install_commands({"numpy": "1.26.4", "networkx": "3.4.2"})
    assert requirements[:4] == [sys.executable, "-m", "pip", "install"]
    assert set(requirements[5:]) == {
        "asteval>=0.9.31", "networkx==3.4.2", "numpy==1.26.4", "scikit-learn>=1.5", "scipy>=1.10",
    }  # fmt: skip
    assert lava[:4] == requirements[:4]
    # Lava's own pins and its Python <3.11 would make pip refuse, or downgrade numpy.
    assert lava[5:] == ["--no-deps", "--ignore-requires-python", "lava-nc==0.10.0"]


def test_install_then_verify(ran: list[str]) -> None:
    lines: list[str] = []
    install.install_lava(lines.append)
    assert len(ran) == 3
    assert "numpy==" in ran[0]
    assert ran[1].endswith("lava-nc==0.10.0")
    assert ran[2] == "verify"
    assert lines[0].startswith(f"$ {sys.executable} -m pip install")


@pytest.mark.parametrize("version", [(3, 9, 0), (3, 14, 0)])
def test_other_pythons_are_refused(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(install.sys, "version_info", version)
    with pytest.raises(HsnnError, match=r"3\.10 to 3\.13") as caught:
        install.install_lava(print)
    assert caught.value.findings[0].code == "E0702"
    assert ran == []


def test_pip_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [sys.executable, "-c", "import sys; print('ERROR: no matching shoes'); sys.exit(3)"]
    monkeypatch.setattr(install, "install_commands", lambda installed: [failing])
    lines: list[str] = []
    with pytest.raises(HsnnError, match="no matching shoes") as caught:
        install.install_lava(lines.append)
    assert caught.value.findings[0].code == "E0702"
    assert caught.value.exit_code == 7
    assert "ERROR: no matching shoes" in lines


@pytest.mark.usefixtures("lava", "leftovers")
def test_the_trial_run(monkeypatch: pytest.MonkeyPatch) -> None:
    install._verify()
    monkeypatch.setattr(install, "_TRIAL_SPIKES", [0, 1, 1, 0, 1])
    with pytest.raises(HsnnError, match=r"computes \[0, 1, 0, 1, 1\]"):
        install._verify()


@pytest.mark.usefixtures("lava")
def test_status_of_a_good_lava() -> None:
    status = presence.lava_status()
    assert (status.installed, status.importable, status.reason) == (True, True, "")
    assert status.version == presence.lava_version()


def test_status_of_an_absent_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "lava_version", lambda: None)
    assert presence.lava_status() == presence.LavaStatus(False, reason="lava-nc is not installed")


def test_status_of_a_broken_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "lava_version", lambda: "0.10.0")
    monkeypatch.setattr(presence, "_IMPORT", "raise ImportError('half of it is gone')")
    status = presence.lava_status()
    assert (status.installed, status.importable) == (True, False)
    assert "half of it is gone" in status.reason
