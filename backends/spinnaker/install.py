"""Puts sPyNNaker and NEST into the running environment, beside what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hsnn_compiler.backends.pip_install import PIP, failed, installed, requirements, run_pip
from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.mapping import map_netlist
from hsnn_compiler.backends.spinnaker.nest_run import run_nest
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Projection, Turn
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.targets import load_target

SPYNNAKER_VERSION, NEST_VERSION = "1!7.4.1", "3.10.0"
# Not ours to change, though sPyNNaker and NEST would take newer ones.
KEPT = {"numpy": ">=1.26", "scipy": ">=1.10", "matplotlib": ">=3.8"}
_CODE, _WHAT = "E0707", "sPyNNaker and NEST"
_TRIAL_S = 120.0


def install_command(there: Mapping[str, str]) -> list[str]:
    """The pip command.

    Args:
        there: versions of what is there already, by name; pip leaves it alone.
    """
    parts = [f"sPyNNaker=={SPYNNAKER_VERSION}", f"nest-simulator=={NEST_VERSION}"]
    return [*PIP, *requirements(KEPT, there), *parts]


def install_spinnaker(print_line: Callable[[str], None]) -> None:
    """Install both, map a tiny network with sPyNNaker, and run it on NEST.

    Args:
        print_line: called with every line of pip's output.

    Raises:
        HsnnError: E0707 pip failed, or what was installed does not work.
    """
    command = install_command(installed(KEPT))
    print_line("$ " + " ".join(command))
    run_pip(command, print_line, _CODE, _WHAT)
    _verify()
    print_line(f"sPyNNaker {SPYNNAKER_VERSION} and NEST {NEST_VERSION} are installed and run")


def _verify() -> None:
    given = np.array([[[1], [0], [1], [0]]], np.uint8)
    try:
        found = run_nest(_trial(), 4, Given(spikes={"in": given}), [("out", "s")], deadline_s=_TRIAL_S)
        mapped = map_netlist(Netlist("trial", 4, (_trial(),), {"out": "spikes"}), load_target("spinnaker"), _TRIAL_S)
    except HsnnError as error:
        raise failed(_CODE, _WHAT, f"a trial did not run: {error}", []) from error
    if found.spikes["out"].tolist() != given.tolist():
        raise failed(_CODE, _WHAT, f"NEST runs, but computes {found.spikes['out'].tolist()}", [])
    if mapped.findings:
        raise failed(_CODE, _WHAT, f"sPyNNaker maps, but: {mapped.findings[0]}", [])


def _trial() -> Turn:
    """One neuron that fires whenever its source did."""
    one = np.ones(1)
    out = Population("out", "neurons", (1,), 1, beta=one / 2, threshold=one, v_init=one * 0, bias=one * 0)
    first = np.zeros(1, np.int32)
    return Turn(
        0,
        6,
        {"in": Population("in", "source", (1,)), "out": out},
        {"w": Projection("w", "in", "out", first, first, one * 1.5)},
    )
