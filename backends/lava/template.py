"""The parts of a generated ``network.py`` that are the same for every network."""

HEADER = '''\
"""{title}

Needs lava-nc and numpy; `hsnn_lava` beside this file holds the processes that Lava lacks.
Run it to replay the bundle's example samples:  python network.py

Time: a sample takes {timesteps} steps in every population. Each synapse process adds one step, so
a population at depth L works on sample k in steps k * {period} + L + 1 ... k * {period} + L + {timesteps}
(counted from 1) and is reset as the first of them begins. {gap}
{windows}
Layout: Lava's, (width, height, channels). Potentials are integers; v > vth * 2**6 fires.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

# First, so that lava-nc can be imported on Python 3.11 and newer.
from hsnn_lava import {ours}  # isort: skip
{imports}

HERE = Path(__file__).parent
TIMESTEPS = {timesteps}
PERIOD = {period}  # steps from one sample to the next
LATENCY = {depth}


class Network:
    """The processes, connected.

    Args:
        inputs: {inputs}
    """

    def __init__(self, inputs):
        arrays = np.load(HERE / "arrays.npz")
        samples = len(inputs[{first}])
        self.steps = samples * PERIOD + LATENCY
'''

FOOTER = '''

        self.neurons = {{
{neurons}
        }}


DEPTH = {{
{depths}
}}

# What leaves the chip: spikes (s) to be counted, or a potential (v) to be read at the end of the sample.
OUTPUTS = {{
{outputs}
}}


def windows(recorded, name):
    """Cut a recording [steps, ...] of a population into one window per sample, [samples, TIMESTEPS, ...]."""
    own = recorded[DEPTH[name] : len(recorded) - LATENCY + DEPTH[name]]
    return own.reshape(-1, PERIOD, *recorded.shape[1:])[:, :TIMESTEPS]


def run(inputs):
    """Run samples on Lava's CPU backend; returns what leaves the chip, by population, [samples, ...]."""
    with tempfile.TemporaryDirectory() as directory:
        record = {{name: [signal] for name, signal in OUTPUTS.items()}}
        recorded = simulate(Network(inputs), record, directory=directory)
        results = {{}}
        for (name, signal), array in recorded.items():
            window = windows(np.asarray(array), name)
            results[name] = window.sum(1, dtype=np.int64) if signal == "s" else window[:, -1]
        return results


if __name__ == "__main__":
    example = np.load(HERE / "example.npz")
    inputs = {{key[3:]: example[key] for key in example if key.startswith("in.")}}
    wrong = 0
    for name, result in run(inputs).items():
        same = np.array_equal(result, example["out." + name])
        wrong += not same
        print(name, "(one row per sample)")
        print(result.reshape(len(result), -1))
        print("equal to the compiler's integer reference:", "yes" if same else "NO")
    sys.exit(1 if wrong else 0)
'''

RAW_HEADER = '''\
"""{title}

Needs lava-nc and numpy; `hsnn_lava` beside this file holds the processes that Lava lacks.

Time: row t of the data is presented in step t + 1 (Lava counts from 1). Each synapse process adds one
step; populations that work some steps after the data say so, and need as many rows of zeros at its end.
With a reset interval, the populations of layer L return to their start state as the steps
L + 1, L + 1 + interval, ... begin, counted from where they start to work.

Layout: Lava's, (width, height, channels). Potentials are integers; v > vth * 2**6 fires.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

# First, so that lava-nc can be imported on Python 3.11 and newer.
from hsnn_lava import {ours}  # isort: skip
{imports}

HERE = Path(__file__).parent
RESET_INTERVAL = {reset}


class Network:
    """The processes, connected.

    Args:
        inputs: spikes (0, 1) or payloads, integers:

{inputs}
    """

    def __init__(self, inputs):
        arrays = np.load(HERE / "arrays.npz")
        self.steps = len(inputs[{first}])
'''

RAW_FOOTER = '''

        self.neurons = {{
{neurons}
        }}


def run(inputs):
    """Run on Lava's CPU backend; returns what each population put out, [steps, ...]."""
    with tempfile.TemporaryDirectory() as directory:
        network = Network(inputs)
        recorded = simulate(network, {{name: ["s"] for name in network.neurons}}, directory=directory)
        return {{name: np.array(array) for (name, _), array in recorded.items()}}


if __name__ == "__main__":
    for name, array in run(dict(np.load(sys.argv[1]))).items():
        print(name, array.shape, "sum", array.sum())
'''
