"""A stand-in for py-spinnaker2 as the module ``spinnaker2`` of a child process: its API as public code uses it.

Its chip is written apart from this project: neuron by neuron, convolutions pixel by pixel, in float32. It refuses what
s2_nir.py, and the examples that were read, do not show.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

LIF = {"threshold", "alpha_decay", "i_offset", "reset", "v_init", "v_reset"}
CONVOLUTION = {
    "in_height", "in_width", "stride_x", "stride_y", "pool_x", "pool_y",
    "pad_top", "pad_bottom", "pad_left", "pad_right",
}  # fmt: skip


class Population:
    def __init__(self, size, neuron_model, params, name, record=()):
        assert neuron_model in ("spike_list", "lif_no_delay", "lif_conv2d")
        if neuron_model == "spike_list":
            assert set(params) == set(range(size))
            assert all(isinstance(time, int) for times in params.values() for time in times)
        else:
            assert set(params) <= LIF
            assert params["reset"] in ("reset_by_subtraction", "reset_to_v_reset")
            assert all(np.ndim(v) == 0 or len(v) == size for k, v in params.items() if k != "reset")
        self.size, self.model, self.params, self.name, self.record = size, neuron_model, params, name, record
        self.atoms = None

    def set_max_atoms_per_core(self, atoms):
        assert isinstance(atoms, int)
        assert 1 <= atoms <= 250
        self.atoms = atoms

    def get_spikes(self):
        assert "spikes" in self.record
        return {neuron: np.flatnonzero(self.fired[:, neuron]).tolist() for neuron in range(self.size)}

    def get_voltages(self):
        assert "v" in self.record
        return {neuron: self.seen[:, neuron].tolist() for neuron in range(self.size)}

    def begin(self, steps):
        self.fired, self.seen = np.zeros((steps, self.size), bool), np.zeros((steps, self.size), np.float32)
        if self.model == "spike_list":
            for neuron, times in self.params.items():
                self.fired[times, neuron] = True
        else:
            self.v = np.zeros(self.size, np.float32) + np.float32(self.params.get("v_init", 0.0))

    def update(self, time, arrived):
        part = {k: np.asarray(v, np.float32) for k, v in self.params.items() if k != "reset"}
        self.v = part["alpha_decay"] * self.v
        self.v = self.v + part["i_offset"]
        self.v = (self.v + arrived.astype(np.float32)).astype(np.float32)
        fires = self.v > part["threshold"]
        soft = self.params["reset"] == "reset_by_subtraction"
        after = self.v - part["threshold"] if soft else np.broadcast_to(part["v_reset"], self.v.shape)
        self.v = np.where(fires, after, self.v).astype(np.float32)
        self.fired[time], self.seen[time] = fires, self.v


class Projection:
    def __init__(self, pre, post, connections):
        assert pre.model != "lif_conv2d" or post.model
        assert post.model == "lif_no_delay"
        for row in connections:
            assert all(type(entry) is int for entry in row)
            assert -127 <= row[2] <= 127
            assert row[3] == 0
        self.pre, self.post, self.rows = pre, post, connections

    def deliver(self, fired):
        out = np.zeros(self.post.size, np.int64)
        for before, after, weight, _ in self.rows:
            out[after] += weight * bool(fired[before])
        return out


class Conv2DProjection:
    def __init__(self, pre, post, weights, params):
        assert post.model == "lif_conv2d"
        assert weights.dtype == np.int8
        assert set(params) == CONVOLUTION
        assert params["pool_x"] == params["pool_y"] == 1
        self.pre, self.post, self.weights, self.p = pre, post, weights, params

    def deliver(self, fired):
        p, (channels, outs, height, width) = self.p, self.weights.shape
        image = fired.reshape(channels, p["in_height"], p["in_width"]).astype(np.int64)
        image = np.pad(image, ((0, 0), (p["pad_top"], p["pad_bottom"]), (p["pad_left"], p["pad_right"])))
        rows = (image.shape[1] - height) // p["stride_y"] + 1
        columns = (image.shape[2] - width) // p["stride_x"] + 1
        out = np.zeros((outs, rows, columns), np.int64)
        for y in range(rows):
            for x in range(columns):
                top, left = y * p["stride_y"], x * p["stride_x"]
                patch = image[:, None, top : top + height, left : left + width]
                out[:, y, x] = (patch * self.weights.astype(np.int64)).sum((0, 2, 3))
        return out.reshape(-1)


class Network:
    def __init__(self, name):
        self.populations, self.projections = [], []

    def add(self, *parts):
        for part in parts:
            (self.populations if isinstance(part, Population) else self.projections).append(part)


class SpiNNaker2Chip:
    def __init__(self, eth_ip=None):
        self.used = False

    def run(self, network, timesteps):
        assert not self.used
        self.used = True
        for population in network.populations:
            population.begin(timesteps)
            if population.model == "lif_conv2d":
                (_,) = [part for part in network.projections if part.post is population]
        for time in range(timesteps):
            arrived = {population.name: np.zeros(population.size, np.int64) for population in network.populations}
            if time:
                for part in network.projections:
                    arrived[part.post.name] = arrived[part.post.name] + part.deliver(part.pre.fired[time - 1])
            for population in network.populations:
                if population.model != "spike_list":
                    population.update(time, arrived[population.name])


def install():
    """Make ``from spinnaker2 import snn, hardware`` find these."""
    package, snn, hardware = ModuleType("spinnaker2"), ModuleType("spinnaker2.snn"), ModuleType("spinnaker2.hardware")
    for cls in (Population, Projection, Conv2DProjection, Network):
        setattr(snn, cls.__name__, cls)
    hardware.SpiNNaker2Chip = SpiNNaker2Chip
    package.snn, package.hardware = snn, hardware
    sys.modules.update({"spinnaker2": package, "spinnaker2.snn": snn, "spinnaker2.hardware": hardware})


if __name__ == "__main__":
    import runpy

    install()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
