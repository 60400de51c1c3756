"""Puts lava-nc into the running environment, on Pythons it does not declare.

lava-nc 0.10.0 is the last release; it declares Python < 3.11 and pins from 2023, and runs
on newer ones all the same (``hsnn_lava/compat.py``). So pip is told to ignore both, and the
few packages Lava needs to run are installed by themselves.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hsnn_compiler.backends.lava.runner import run_network
from hsnn_compiler.backends.pip_install import PIP, failed, installed, requirements, run_pip
from hsnn_compiler.diagnostics import refuse

LAVA_VERSION = "0.10.0"
OLDEST, NEWEST = (3, 10), (3, 13)
REQUIREMENTS = {
    "asteval": ">=0.9.31",
    "networkx": ">=3.2",
    "numpy": ">=1.26",
    "scikit-learn": ">=1.5",
    "scipy": ">=1.10",
}
_TRIAL_S = 120.0
# v grows by 6400 and spikes above 9600: 6400, 12800!, 9600 (not above), 16000!, 12800!
_TRIAL_NETWORK = """\
import numpy as np
from hsnn_lava import SoftResetLIF


class Network:
    def __init__(self, inputs):
        self.neurons = {"trial": SoftResetLIF(shape=(1,), du=4095, dv=0, vth=150, bias_mant=100, bias_exp=6)}
        self.steps = 5
"""
_TRIAL_SPIKES = [0, 1, 0, 1, 1]


def install_commands(there: Mapping[str, str]) -> list[list[str]]:
    """The pip commands that install Lava.

    Args:
        there: versions of what is there already, by name. It is required in exactly
            that version, so that pip leaves it alone, whatever a newcomer would prefer.
    """
    lava = ["--no-deps", "--ignore-requires-python", f"lava-nc=={LAVA_VERSION}"]
    return [[*PIP, *requirements(REQUIREMENTS, there)], [*PIP, *lava]]


def install_lava(print_line: Callable[[str], None]) -> None:
    """Install lava-nc and what it needs here, and run a tiny network to see that it works.

    Args:
        print_line: called with every line of pip's output.

    Raises:
        HsnnError: E0702, pip failed or this Python is not one Lava runs on; E0110 to E0113
            or E0801, the tiny network did not run.
    """
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise refuse(
            "E0702",
            f"Lava is not known to run on Python {sys.version_info[0]}.{sys.version_info[1]}",
            supported=f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}",
        )
    for command in install_commands(installed(REQUIREMENTS)):
        print_line("$ " + " ".join(command))
        _run_pip(command, print_line)
    _verify()
    print_line(f"lava-nc {LAVA_VERSION} is installed and runs")


def _run_pip(command: Sequence[str], print_line: Callable[[str], None]) -> None:
    run_pip(command, print_line, "E0702", "Lava")


def _verify() -> None:
    with tempfile.TemporaryDirectory(prefix="hsnn-lava-trial-") as folder:
        (Path(folder) / "network.py").write_text(_TRIAL_NETWORK)
        recorded = run_network(Path(folder), {}, {"trial": ["s"]}, deadline_s=_TRIAL_S)
    spikes = recorded["trial", "s"][:, 0].tolist()
    if spikes != _TRIAL_SPIKES:
        raise failed("E0702", "Lava", f"it runs, but computes {spikes} instead of {_TRIAL_SPIKES}", [])
