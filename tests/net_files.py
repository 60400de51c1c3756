"""Writes ``.net`` files as lava-dl's export_hdf5 does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

CUBA = {"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}
SDNN = {"type": "SDNN", "vThMant": 2}


def write_net(path: Path, *layers: dict[str, Any]) -> Path:
    """Layers as dicts; ``neuron`` is a dict of its own, strings are stored as lava-dl does."""
    with h5py.File(path, "w") as file:
        for number, layer in enumerate(layers):
            group = file.create_group(f"layer/{number}")
            for key, value in layer.items():
                if key == "type":
                    group.create_dataset("type", (1,), "S10", [value.encode()])
                elif key == "neuron":
                    for name, parameter in value.items():
                        group.create_dataset(f"neuron/{name}", data=parameter)
                else:
                    group.create_dataset(key, data=np.asarray(value))
    return path


def dense(weight: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"type": "dense", "shape": [len(weight)], "neuron": CUBA, "weight": weight.astype(np.float32), **more}


def image(kind: str, shape: tuple[int, ...], weight: np.ndarray, **more: Any) -> dict[str, Any]:
    """A layer on images; every field that lava-dl writes."""
    fields = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "neuron": CUBA}
    return {"type": kind, "shape": shape, "weight": weight.astype(np.float32), **fields, **more}
