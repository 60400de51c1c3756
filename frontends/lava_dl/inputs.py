"""How real values become the integers that an input layer takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.frontends.lava_dl.fields import DAMAGED, Fields, MissingError, layer_groups, open_net

DEFAULT_WEIGHT = 64


@dataclass(frozen=True)
class InputTransform:
    """``trunc(2 * weight * x - weight + bias)`` for x in [0, 1], as netx's Input block has it.

    It is the ``weight * z + bias`` that SLAYER's Input block trains, for z = 2 x - 1. The integers are
    bias mantissas of the input neurons (CUBA), or values that a delta encoder compares (SDNN).

    Attributes:
        weight, bias: of the input layer; 64 and 0 where the file has none.
    """

    weight: int = DEFAULT_WEIGHT
    bias: int = 0

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Integers (int32) for values x in [0, 1], of any shape."""
        return (2 * self.weight * np.asarray(x, np.float64) - self.weight + self.bias).astype(np.int32)


def transform_of(layer: Fields) -> InputTransform:
    """The transform of an input layer."""
    weight = layer.integer("weight") if "weight" in layer else DEFAULT_WEIGHT
    return InputTransform(weight, layer.integer("bias") if "bias" in layer else 0)


def read_input_transform(path: str | Path) -> InputTransform | None:
    """The transform of a file's input layer, or None where its input are spikes. E0250, E0252."""
    path = Path(path)
    findings: list[Finding] = []
    try:
        with open_net(path) as file:
            first = Fields(layer_groups(file, path)[0], "input", path, findings.append)
            if first.text("type") != "input" or "neuron" not in first:
                return None
            return transform_of(first)
    except MissingError:
        raise HsnnError(findings) from None
    except DAMAGED as error:
        raise refuse("E0250", f"{path} cannot be read: {error}", supported="complete, unchanged files") from None
