"""Write a netlist as a script for py-spinnaker2: ``network.py``, and ``cells.npz``, parameters of neurons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Turn
from hsnn_compiler.backends.spinnaker.script import CELLS, NETWORK, summary
from hsnn_compiler.backends.spinnaker.script_template import FOOTER
from hsnn_compiler.backends.spinnaker2.netlist import Int8Projection, LifPopulation, Spinnaker2Netlist
from hsnn_compiler.backends.spinnaker2.script_template import HEADER


def write_script(netlist: Spinnaker2Netlist, directory: Path, title: str) -> None:
    """Write ``network.py`` and ``cells.npz`` beside the netlist's own files.

    Args:
        netlist: is in `directory` already.
        directory: an existing folder.
        title: first line of the module's docstring.
    """
    writer = _Writer(netlist)
    (directory / NETWORK).write_text(writer.text(title), encoding="utf-8")
    np.savez_compressed(directory / CELLS, **writer.arrays)  # type: ignore[arg-type]


class _Writer:
    """Collects lines, and the arrays that they name."""

    def __init__(self, netlist: Spinnaker2Netlist) -> None:
        self.netlist = netlist
        self.arrays: dict[str, np.ndarray] = {}

    def text(self, title: str) -> str:
        """The whole module."""
        steps = self.netlist.timesteps
        lines: list[str] = []
        for turn in self.netlist.turns:
            lines += ["", f"def turn{turn.number}(net):", f'    """{summary(turn)}"""', *self._turn(turn), ""]
        lines += ["", "TURNS = ["]
        for turn in self.netlist.turns:
            read = {
                name: ("spikes" if kind == "spikes" else "v", turn.populations[name].depth)
                for name, kind in self.netlist.recorded.items()
                if name in turn.populations
            }
            lines.append(f"    (turn{turn.number}, {turn.steps}, {read!r}),")
        lines += ["]", '"""What builds a turn, its steps, and what the host reads of it: (variable, depth)."""']
        head = HEADER.format(title=title, timesteps=steps, last=steps - 1)
        return head + "\n".join(lines) + "\n" + FOOTER

    def _turn(self, turn: Turn) -> list[str]:
        lines = []
        for population in turn.populations.values():
            assert isinstance(population, LifPopulation)
            lines += self._neurons(population) if population.is_neural else _source(population)
        for part in turn.projections.values():
            assert isinstance(part, Int8Projection)
            ends = f"{part.name!r}, {part.pre_population!r}, {part.post_population!r}"
            if part.convolution is None:
                lines.append(f"    net.synapses({ends})  # {len(part.pre):,} synapses")
            else:
                given = ", ".join(f"{key}={value}" for key, value in part.convolution.items())
                lines += [f"    net.convolution({ends},", f"                    {given})"]
        return lines

    def _neurons(self, part: LifPopulation) -> list[str]:
        assert part.v_init is not None
        what = {"neurons": "neurons", "readout": "neurons that never fire", "relay": "relays, a step each"}[part.kind]
        origin = f", from {part.origin}" if part.origin else ""
        kind = self.netlist.recorded.get(part.name, "")
        record = [] if not kind else ["spikes" if kind == "spikes" else "v"]
        values = {"alpha_decay": part.beta, "threshold": part.threshold, "i_offset": part.bias, "v_init": part.v_init}
        return [
            f"    # {part.name}: {part.size:,} {what}, depth {part.depth}{origin}",
            "    net.lif(",
            f"        {part.name!r},",
            f"        {part.size},",
            f"        {part.model!r},",
            *(f"        {key}={self._value(part.name, key, value)}," for key, value in values.items()),
            f"        reset={part.reset!r},",
            f"        scale={self._value(part.name, 'scale', part.scale)},",
            f"        per_core={part.per_core},",
            f"        record={record!r},",
            *([f"        presented={part.presented!r},"] if part.presented else []),
            "    )",
        ]

    def _value(self, name: str, key: str, array: np.ndarray | None) -> str:
        """A number where all neurons have the same, else where the array is."""
        if array is None:
            return "NEVER"
        if array.size and (array == array[0]).all():
            return repr(float(array[0]))
        self.arrays[f"{name}/{key}"] = array
        return f"CELLS[{f'{name}/{key}'!r}]"


def _source(part: LifPopulation) -> list[str]:
    more = f", per_core={part.per_core}" + (f", depth={part.depth}" if part.depth else "")
    if part.kind == "source":
        line = f"    net.spikes({part.name!r}, net.given[{part.name!r}]{more})"
        return [f"    # {part.name}: {part.size:,} sources, spikes from the host", line]
    every = f"np.ones((TIMESTEPS, {part.size}))"
    return [
        f"    # {part.name}: fires in every step of a window; its weights are biases",
        f"    net.spikes({part.name!r}, {every}{more})",
    ]
