"""The parts of ``network.py`` that are the same for every network."""

HEADER = '''\
"""{title}

    python network.py --simulator nest                 runs the samples of example.npz on NEST
    python network.py --simulator spinnaker            the same on a board that spynnaker.cfg in this folder names
    python network.py --simulator nest --data x.npz --samples 10 --out results.npz

A sample is {timesteps} steps of 1 ms, and one run for each turn of the chip; between turns, and at the ends, the host
runs ONNX models. Populations begin one step after what feeds them: one at depth d has its window in steps d + 1 ...
d + {timesteps}. Needs numpy, onnxruntime, PyNN and NEST or sPyNNaker, and nothing of the compiler.
"""

import argparse
import importlib
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SIMULATORS = ["nest", "spinnaker"]
TIMESTEPS = {timesteps}
NETLIST = json.loads((HERE / "netlist.json").read_text())
ARRAYS = np.load(HERE / "arrays.npz")
CELLS = np.load(HERE / "cells.npz")


class Builder:
    """Puts one turn of the chip together, for one sample."""

    def __init__(self, simulator, given):
        self.sim = importlib.import_module({{"nest": "pyNN.nest", "spinnaker": "pyNN.spiNNaker"}}[simulator])
        self.on_nest = simulator == "nest"
        if self.on_nest:  # PyNN 0.13 does not know where NEST keeps the potential (PyNN issue 844)
            self.sim.IF_curr_delta.variable_map = {{"v": "V_m"}}
            self.sim.IF_curr_delta.scale_factors = {{"v": 1}}
        more = {{"spike_precision": "on_grid", "max_delay": {longest}.0}} if self.on_nest else {{}}
        self.sim.setup(timestep=1.0, min_delay=1.0, **more)
        # The time of step 1. On NEST idle steps go before it, because PyNN's sources cannot fire in the first.
        self.first = 3.0 if self.on_nest else 0.0
        self.given, self.populations, self.starts = given, {{}}, {{}}

    def lif(self, name, size, tau_m, cm, v_thresh, i_offset, v_init, presented="", ring_buffers=None):
        """Neurons: V <- exp(-1/tau_m) V + i_offset + weights; a spike where V >= v_thresh, then V = 0."""
        if not self.on_nest:  # the smallest number of s16.15 that is not below it: the same test
            v_thresh = np.ceil(np.asarray(v_thresh) * 2**15) / 2**15
        cell = dict(tau_m=tau_m, cm=cm, v_thresh=v_thresh, v_rest=0.0, v_reset=0.0, tau_refrac=0.0, i_offset=0.0)
        more = {{"additional_parameters": {{"max_expected_summed_weight": ring_buffers}}}}
        cell = {{key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in cell.items()}}
        model = self.sim.IF_curr_delta(**cell)
        self.populations[name] = self.sim.Population(size, model, **({{}} if self.on_nest else more))
        if presented:
            i_offset = i_offset + self.given[presented].reshape(-1).astype(np.float64)
        self.starts[name] = (i_offset, v_init)

    def spikes(self, name, train, depth=0):
        """A source that fires where `train` [steps, size] is not 0."""
        train = np.asarray(train).reshape(TIMESTEPS, -1)
        times = [(np.flatnonzero(column) + depth + self.first).tolist() for column in train.T]
        if not self.on_nest and not any(times):  # sPyNNaker 7.4 fails where a source is silent: one spike after the run
            times[0] = [1e6]
        self.populations[name] = self.sim.Population(len(times), self.sim.SpikeSourceArray(spike_times=times))

    def synapses(self, name, before, after, delay):
        """Lists of synapses, excitatory and inhibitory ones apart; `delay` in steps."""
        pre, post, weight = (ARRAYS[f"projection/{{name}}/{{key}}"] for key in ("pre", "post", "weight"))
        for kind, chosen in (("excitatory", weight > 0), ("inhibitory", weight < 0)):
            if chosen.any():
                rows = np.column_stack([pre[chosen], post[chosen], weight[chosen], np.full(chosen.sum(), float(delay))])
                ends = self.populations[before], self.populations[after]
                listed = self.sim.FromListConnector(self._rows(rows), column_names=["weight", "delay"])
                self.sim.Projection(*ends, listed, self.sim.StaticSynapse(), receptor_type=kind)

    def _rows(self, rows):
        if self.on_nest:
            return [(int(i), int(j), w, d) for i, j, w, d in rows]
        return rows

    def run(self, steps, read):
        """Run the turn; what the host reads: spikes [{timesteps}, size], or the potential [size] as the window ends."""
        for name, (variable, _) in read.items():
            self.populations[name].record(variable)
        if self.on_nest:
            self.sim.run(self.first - 2.0)  # PyNN goes one step further than it is asked to
        for name, (i_offset, v_init) in self.starts.items():
            if np.any(i_offset):
                self.populations[name].set(i_offset=np.broadcast_to(i_offset, self.populations[name].size).tolist())
            self.populations[name].initialize(v=np.broadcast_to(v_init, self.populations[name].size).tolist())
        self.sim.run(steps + 1.0)  # one more, which records the last potential
        found = {{name: self._read(name, *how) for name, how in read.items()}}
        self.sim.end()
        return found

    def _read(self, name, variable, depth):
        segment = self.populations[name].get_data(variable).segments[0]
        if variable == "v":
            # sPyNNaker records the potential that a step begins with, NEST the one that it ends with.
            last = self.first + depth + TIMESTEPS - (1 if self.on_nest else 0)
            signal = segment.filter(name="v")[0]
            return np.asarray(signal.magnitude)[np.abs(np.asarray(signal.times.magnitude) - last).argmin()]
        window = np.zeros((TIMESTEPS, self.populations[name].size), np.float32)
        for neuron, train in enumerate(segment.spiketrains):
            steps = np.rint(np.asarray(train.magnitude) - self.first).astype(int) - depth
            window[steps[(steps >= 0) & (steps < TIMESTEPS)], neuron] = 1
        return window

'''

FOOTER = '''\


def run_sample(simulator, inputs):
    """The outputs of the program for one sample, by name; inputs by name, without a samples' axis."""
    import onnxruntime

    values = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
    for number in range(max([len(TURNS), *(stage["number"] + 1 for stage in NETLIST["stages"])])):
        for stage in NETLIST["stages"]:
            if stage["number"] == number:
                session = onnxruntime.InferenceSession(str(HERE / "host" / stage["model"]))
                shapes = {name: list(values[name].shape[:1] * (how["kind"] in ("spikes", "series"))) + how["shape"]
                          for name, how in stage["reads"].items()}
                feeds = {name: values[name].reshape(1, *shape).astype(np.float32) for name, shape in shapes.items()}
                names = [output.name for output in session.get_outputs()]
                results = session.run(names, feeds)
                values.update({name.removesuffix(".out"): result[0] for name, result in zip(names, results)})
        if number < len(TURNS):
            build, steps, read = TURNS[number]
            net = Builder(simulator, values)
            build(net)
            values.update(net.run(steps, read))
    return {name: values[source] for name, source in NETLIST["outputs"].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulator", choices=SIMULATORS, required=True)
    parser.add_argument("--data", type=Path, default=HERE / "example.npz", help="inputs, .npz with x or one array each")
    parser.add_argument("--samples", type=int, help="only so many, from the first on")
    parser.add_argument("--out", type=Path, help="write the results here, .npz")
    options = parser.parse_args()
    data = np.load(options.data)
    names = list(NETLIST["inputs"])
    x = {name: (data[name if name in data else "x"] if hasattr(data, "files") else data) for name in names}
    count = min([*(len(array) for array in x.values()), *([options.samples] if options.samples else [])])
    results = []
    for k in range(count):
        results.append(run_sample(options.simulator, {name: array[k] for name, array in x.items()}))
        for name, result in results[-1].items():
            text = f"sample {k}  {name}: {np.array2string(np.asarray(result), precision=4)}"
            if hasattr(data, "files") and f"out.{name}" in data:
                text += f"   differs from the reference by at most {np.abs(result - data[f'out.{name}'][k]).max():.2g}"
            print(text, flush=True)
    if options.out:
        np.savez(options.out, **{name: np.stack([result[name] for result in results]) for name in results[0]})


if __name__ == "__main__":
    main()
'''
