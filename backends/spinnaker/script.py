"""Write a netlist as a PyNN script that stands alone: ``network.py``, and ``cells.npz``, parameters of neurons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.cells import cells
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Turn
from hsnn_compiler.backends.spinnaker.ring_buffers import max_expected_summed_weight, shifts
from hsnn_compiler.backends.spinnaker.script_template import FOOTER, HEADER

NETWORK, CELLS, CONFIG = "network.py", "cells.npz", "spynnaker.cfg"

CONFIG_TEXT = """\
# Where sPyNNaker finds a board for: python network.py --simulator spinnaker
# Name the machine in one of these two ways, then remove the # in front.
[Machine]
# machine_name = 192.168.240.253
# version = 5
# spalloc_server = https://spinnaker.cs.man.ac.uk/spalloc/

[Reports]
write_network_graph = False
"""


def write_script(netlist: Netlist, directory: Path, title: str) -> None:
    """Write ``network.py``, ``cells.npz`` and ``spynnaker.cfg`` beside the netlist's own files.

    Args:
        netlist: is in `directory` already.
        directory: an existing folder.
        title: first line of the module's docstring.
    """
    writer = _Writer(netlist)
    (directory / NETWORK).write_text(writer.text(title), encoding="utf-8")
    np.savez_compressed(directory / CELLS, **writer.arrays)  # type: ignore[arg-type]
    (directory / CONFIG).write_text(CONFIG_TEXT, encoding="utf-8")


class _Writer:
    """Collects lines, and the arrays that they name."""

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.arrays: dict[str, np.ndarray] = {}

    def text(self, title: str) -> str:
        """The whole module."""
        netlist = self.netlist
        delays = [part.delay for turn in netlist.turns for part in turn.projections.values()]
        lines: list[str] = []
        for turn in netlist.turns:
            lines += ["", f"def turn{turn.number}(net):", f'    """{summary(turn)}"""', *self._turn(turn), ""]
        lines += ["", "TURNS = ["]
        for turn in netlist.turns:
            read = {
                name: ("spikes" if kind == "spikes" else "v", turn.populations[name].depth)
                for name, kind in netlist.recorded.items()
                if name in turn.populations
            }
            lines.append(f"    (turn{turn.number}, {turn.steps}, {read!r}),")
        lines += ["]", '"""What builds a turn, its steps, and what the host reads of it: (variable, depth)."""']
        head = HEADER.format(title=title, timesteps=netlist.timesteps, longest=max([2, *delays]))
        return head + "\n".join(lines) + "\n" + FOOTER

    def _turn(self, turn: Turn) -> list[str]:
        lines = []
        for population in turn.populations.values():
            lines += self._neurons(turn, population) if population.is_neural else _source(population)
        for part in turn.projections.values():
            count = f"{len(part.pre):,} synapses"
            ends = f"{part.name!r}, {part.pre_population!r}, {part.post_population!r}"
            lines.append(f"    net.synapses({ends}, delay={part.delay})  # {count}")
        return [line if line.strip() else "" for line in lines]

    def _neurons(self, turn: Turn, population: Population) -> list[str]:
        found = cells(population)
        origin = f", from {population.origin}" if population.origin else ""
        what = "neurons" if population.kind == "neurons" else "neurons that never fire"
        assert population.v_init is not None
        values = {
            "tau_m": found.tau_m,
            "cm": found.cm,
            "v_thresh": found.v_thresh,
            "i_offset": found.i_offset,
            "v_init": population.v_init,
        }
        lines = [
            f"    # {population.name}: {population.size:,} {what}, depth {population.depth}{origin}",
            "    net.lif(",
            f"        {population.name!r},",
            f"        {population.size},",
        ]
        lines += [f"        {key}={self._value(population.name, key, value)}," for key, value in values.items()]
        lines += [f"        presented={population.presented!r},"] if population.presented else []
        buffers = [max_expected_summed_weight(shift) for shift in shifts(turn, population.name)]
        return [*lines, f"        ring_buffers={buffers!r},", "    )"]

    def _value(self, name: str, key: str, array: np.ndarray) -> str:
        """A number where all neurons have the same, else where the array is."""
        if array.size and (array == array[0]).all():
            return repr(float(array[0]))
        self.arrays[f"{name}/{key}"] = array
        return f"CELLS[{f'{name}/{key}'!r}]"


def _source(population: Population) -> list[str]:
    if population.kind == "source":
        line = f"    net.spikes({population.name!r}, net.given[{population.name!r}])"
        return [f"    # {population.name}: {population.size:,} sources, spikes from the host", line]
    every = {"clock": "np.ones(TIMESTEPS)", "start": "np.arange(TIMESTEPS) == 0"}[population.kind]
    what = {"clock": "fires in every step", "start": "fires in the first step"}[population.kind]
    depth = f", depth={population.depth}" if population.depth else ""
    return [f"    # {population.name}: {what} of a window", f"    net.spikes({population.name!r}, {every}{depth})"]


def summary(turn: Turn) -> str:
    """What a turn holds, in a line."""
    sizes: Mapping[str, int] = {part.name: part.size for part in turn.populations.values() if part.is_neural}
    synapses = sum(len(part.pre) for part in turn.projections.values())
    return f"{sum(sizes.values()):,} neurons in {len(sizes)} populations, {synapses:,} synapses."
