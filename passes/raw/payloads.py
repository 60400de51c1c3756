"""What the inputs of a network send to the chip: spikes, or graded spikes of signed integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.batches import Inputs, batches

GRADED_MAX, COARSE_MAX = 2047, 127
"""Largest payload made of real numbers: 12 bits, and 8 where a convolution follows, whose sums cannot be shifted."""
FRACTION_BITS = range(12)


@dataclass(frozen=True)
class Payloads:
    """Makes the integers of a network's inputs from what the real network takes.

    Attributes:
        units: by input, payload units per real unit; 0 where what is sent are spikes as they are.
        constants: by input that the user does not give, its payloads in every step, [...].
    """

    units: dict[str, float] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __call__(self, inputs: Inputs) -> Inputs:
        """Payloads [samples, time, ...] of all inputs. Refused: E0330 where spikes were expected and others come."""
        arrays = dict(inputs) if isinstance(inputs, Mapping) else {next(iter(self.units)): inputs}
        sent = {name: self._send(name, array) for name, array in arrays.items() if name in self.units}
        axes = next(iter(sent.values())).shape[:2]
        constant = {name: np.broadcast_to(row, (*axes, *row.shape)) for name, row in self.constants.items()}
        return {**arrays, **sent, **constant}

    def _send(self, name: str, array: np.ndarray) -> np.ndarray:
        unit = self.units[name]
        if unit:
            return np.rint(array * np.float64(unit)).astype(np.int32)
        if not _are_spikes(array):
            raise refuse(
                "E0330",
                f"values for input {name!r}, of which the network was quantised for spikes",
                node=name,
                supported="0 and 1",
                suggestion="quantise it with data like these",
            )
        return array.astype(np.uint8)


def payload_unit(name: str, array: np.ndarray, *, coarse: bool) -> tuple[float, Finding | None]:
    """Payload units per real unit for an input's data, 0 for spikes, and what that costs (I0458).

    Args:
        name: of the input.
        array: its data [samples, time, ...].
        coarse: whether a convolution takes them.
    """
    if _are_spikes(array):
        return 0.0, None
    largest = float(np.abs(array).max(initial=0.0))
    if not np.isfinite(largest):
        raise refuse("E0330", f"the data for input {name!r} are not all finite", node=name, supported="numbers")
    top = COARSE_MAX if coarse else GRADED_MAX
    for bits in FRACTION_BITS:
        unit = 2.0**bits
        if largest * unit <= top and np.array_equal(np.rint(array * unit), array * unit):
            return unit, Finding("I0458", f"sent as payloads of {unit:g} per 1, all of them exact", node=name)
    unit = top / largest
    text = (
        f"values up to {largest:.4g} are sent as payloads of {unit:.4g} per 1, off by at most {0.5 / unit:.3g}"
        f" ({50 / top:.2g}% of the largest)"
    )
    return unit, Finding("I0458", text, node=name, suggestion="spikes, or values on a grid, lose nothing")


def by_input(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    """The data of each input, by name, checked (E0330)."""
    whole, _, _ = next(batches(graph, inputs, 2**62))
    return whole


def _are_spikes(array: np.ndarray) -> bool:
    return bool(((array == 0) | (array == 1)).all())
