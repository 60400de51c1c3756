"""The parts of ``network.py`` for py-spinnaker2 that are the same for every network; its end is SpiNNaker 1's."""

HEADER = '''\
"""{title}

Not yet tested against py-spinnaker2, nor on a chip: names of models and parameters are those of its NIR import.

    python network.py --simulator chip                 runs the samples of example.npz on the chip at S2_IP
    python network.py --simulator brian2               the same on py-spinnaker2's own simulator
    python network.py --simulator chip --data x.npz --samples 10 --out results.npz

A sample is {timesteps} steps, and one run for each turn of the chip; between turns, and at the ends, the host runs ONNX
models. Populations begin one step after what feeds them: one at depth d has its window at times d ... d + {last}.
Needs numpy, onnxruntime and py-spinnaker2, and nothing of the compiler.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SIMULATORS = ["chip", "brian2"]
TIMESTEPS = {timesteps}
NEVER = 1e9  # a threshold that is never reached
NETLIST = json.loads((HERE / "netlist.json").read_text())
ARRAYS = np.load(HERE / "arrays.npz")
CELLS = np.load(HERE / "cells.npz")


class Builder:
    """Puts one turn of the chip together, for one sample."""

    def __init__(self, simulator, given):
        from spinnaker2 import snn

        self.snn, self.simulator, self.given = snn, simulator, given
        self.populations, self.projections, self.scales = {{}}, [], {{}}

    def lif(self, name, size, model, alpha_decay, threshold, i_offset, v_init, reset, scale, per_core, record,
            presented=""):
        """Neurons: V <- alpha_decay V + i_offset + weights; a spike where V > threshold, then V less it, or zero."""
        if presented:
            i_offset = i_offset + scale * self.given[presented].reshape(-1).astype(np.float64)
        params = dict(threshold=threshold, alpha_decay=alpha_decay, i_offset=i_offset, reset=reset)
        if np.any(v_init):
            params["v_init"] = v_init
        if reset == "reset_to_v_reset":
            params["v_reset"] = 0.0
        population = self.snn.Population(size=size, neuron_model=model, params=params, name=name, record=record)
        population.set_max_atoms_per_core(per_core)
        self.populations[name], self.scales[name] = population, scale

    def spikes(self, name, train, per_core, depth=0):
        """A source that fires where `train` [steps, size] is not 0."""
        train = np.asarray(train).reshape(TIMESTEPS, -1)
        times = {{neuron: (np.flatnonzero(column) + depth).tolist() for neuron, column in enumerate(train.T)}}
        population = self.snn.Population(size=len(times), neuron_model="spike_list", params=times, name=name)
        population.set_max_atoms_per_core(per_core)
        self.populations[name] = population

    def synapses(self, name, before, after):
        """A list of synapses (pre, post, weight, delay); a delay of 0 is one step."""
        pre, post, weight = (ARRAYS[f"projection/{{name}}/{{key}}"] for key in ("pre", "post", "weight"))
        rows = np.column_stack([pre, post, weight.astype(np.int64), np.zeros(len(pre), np.int64)]).tolist()
        ends = dict(pre=self.populations[before], post=self.populations[after])
        self.projections.append(self.snn.Projection(**ends, connections=rows))

    def convolution(self, name, before, after, **params):
        """A convolution; weights int8 [channels in, channels out, height, width]."""
        kernel = ARRAYS[f"projection/{{name}}/kernel"]
        ends = self.populations[before], self.populations[after]
        self.projections.append(self.snn.Conv2DProjection(*ends, kernel, params))

    def run(self, steps, read):
        """Run the turn; what the host reads: spikes [{timesteps}, size], or the potential [size] as the window ends."""
        network = self.snn.Network("turn")
        network.add(*self.populations.values(), *self.projections)
        hardware(self.simulator).run(network, steps)
        return {{name: self._read(name, *how) for name, how in read.items()}}

    def _read(self, name, variable, depth):
        population = self.populations[name]
        if variable == "v":
            voltages = population.get_voltages()
            last = np.array([voltages[neuron][depth + TIMESTEPS - 1] for neuron in range(population.size)])
            return last / self.scales[name]
        window = np.zeros((TIMESTEPS, population.size), np.float32)
        for neuron, times in population.get_spikes().items():
            steps = np.asarray(times, np.int64) - depth
            window[steps[(steps >= 0) & (steps < TIMESTEPS)], neuron] = 1
        return window


def hardware(simulator):
    """What runs a network: a chip, or py-spinnaker2's simulator."""
    if simulator == "brian2":
        from spinnaker2 import brian2_sim

        return brian2_sim.Brian2Backend()
    from spinnaker2 import hardware as chips

    address = os.environ.get("S2_IP")
    return chips.SpiNNaker2Chip(eth_ip=address) if address else chips.SpiNNaker2Chip()

'''
