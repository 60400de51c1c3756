"""What a netlist for SpiNNaker 2 holds besides: int8 weights, resets, convolutions, units of potentials.

Steps, windows and delays are those of `hsnn_compiler.backends.spinnaker.netlist`; step n of a run is py-spinnaker2's
time n - 1. In a step, with weights that are integers and everything else in float32, rounded after each operation:

    V <- (alpha V + i_offset) + sum of the weights that arrive;  a spike where V > threshold, then V - threshold, or 0
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import NETLIST, Netlist, Population, Projection

UNTESTED = "not yet tested against py-spinnaker2, nor on a chip"


@dataclass(frozen=True, eq=False)
class LifPopulation(Population):
    """A population of py-spinnaker2; potentials are in units of its weights.

    Attributes:
        kind: also ``relay``: each neuron passes on the spikes of one of another population, a step later.
        model: ``spike_list``, ``lif_no_delay`` or ``lif_conv2d``.
        reset: ``reset_by_subtraction`` or ``reset_to_v_reset`` (zero); empty for sources.
        scale: units of potential per unit of the model's, float64 [size]; None for sources.
        per_core: most neurons of a core, estimated.
    """

    model: str = "spike_list"
    reset: str = ""
    scale: np.ndarray | None = None
    per_core: int = 1

    @property
    def is_neural(self) -> bool:
        """Whether it has a membrane potential."""
        return self.kind in ("neurons", "readout", "relay")


@dataclass(frozen=True, eq=False)
class Int8Projection(Projection):
    """Synapses whose weights are integers, -127 to 127, as a list and, where they stay a convolution, as that too.

    Attributes:
        convolution: parameters of Conv2DProjection, None for lists.
        kernel: its weights, int8 [channels in, channels out, height, width].
    """

    convolution: Mapping[str, int] | None = None
    kernel: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Spinnaker2Netlist(Netlist):
    """A whole program.

    Attributes:
        mac_array: layers of the host's stages that the chip's multiply-accumulate arrays could run, marked as such:
            plain data, see `hsnn_compiler.backends.spinnaker2.mac_array`.
    """

    mac_array: Sequence[Mapping[str, Any]] = ()

    def save(self, folder: Path) -> None:
        """Write ``netlist.json`` and ``arrays.npz``: the same bytes each time; convolutions without lists."""
        none = np.zeros(0, np.int32)
        short = [
            replace(
                turn,
                projections={
                    name: replace(part, pre=none, post=none, weight=none.astype(np.int8))
                    if isinstance(part, Int8Projection) and part.convolution
                    else part
                    for name, part in turn.projections.items()
                },
            )
            for turn in self.turns
        ]
        plain = Netlist(**{**{name: getattr(self, name) for name in vars(self) if name != "mac_array"}, "turns": short})
        plain.save(folder)
        text = json.loads((folder / NETLIST).read_text("utf-8"))
        text |= {"chip": "spinnaker2", "status": UNTESTED, "mac_array": [dict(layer) for layer in self.mac_array]}
        (folder / NETLIST).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
