"""Our Processes inside a running Lava: order within a step, delays, phases, recordings."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hsnn_compiler.backends.lava.runner import run_network
from hsnn_compiler.diagnostics import HsnnError

pytestmark = pytest.mark.usefixtures("leftovers")

# Spikes given by the test go through everything that takes spikes.
SPIKE_NETWORK = """\
    import numpy as np
    from hsnn_lava import AxonDelay, SoftResetLIF
    from lava.proc.dense.process import Dense
    from lava.proc.io.source import RingBuffer


    class Network:
        def __init__(self, inputs):
            spikes = inputs["spikes"]  # [steps, n]
            n = spikes.shape[1]
            source = RingBuffer(data=spikes.T)
            self.neurons = {}
            for delay in (0, 1, 3):
                line = AxonDelay(shape=(n,), delay=delay, name=f"delay {delay}")
                identity = Dense(weights=2 * np.eye(n, dtype=int), num_message_bits=8)
                neuron = SoftResetLIF(shape=(n,), du=4095, dv=4096, vth=1, name=f"after {delay}")
                source.s_out.connect(line.s_in)
                line.s_out.connect(identity.s_in)
                identity.a_out.connect(neuron.a_in)
                self.neurons[str(delay)] = neuron
            self.steps = len(spikes)
"""


def later(x: np.ndarray, steps: int) -> np.ndarray:
    return np.concatenate([np.zeros_like(x[:steps]), x])[: len(x)]


@pytest.mark.parametrize("graded", [False, True])
def test_axon_delay(network_dir: Callable[..., Path], graded: bool) -> None:
    spikes = np.random.default_rng(3).integers(0, 90 if graded else 2, (12, 5))
    signal = "u" if graded else "s"
    result = run_network(network_dir(SPIKE_NETWORK), {"spikes": spikes}, {d: [signal] for d in "013"}, deadline_s=60)
    for delay in "013":
        # The synapse adds its one step.
        wanted = later(spikes, int(delay) + 1) * (2 * 64 if graded else 1)
        np.testing.assert_array_equal(result[delay, signal], wanted)


LOOP_NETWORK = """\
    import numpy as np
    from hsnn_lava import AxonDelay, SoftResetLIF
    from lava.proc.dense.process import Dense


    class Network:
        def __init__(self, inputs):
            # Shifts its spikes on by one neuron in 1 + delay steps, for ever.
            neuron = SoftResetLIF(shape=(3,), du=4095, dv=4096, vth=1, bias_exp=6, name="ring")
            delay = AxonDelay(shape=(3,), delay=int(inputs["delay"]), name="delay")
            back = Dense(weights=2 * np.roll(np.eye(3, dtype=int), 1, axis=0))
            kick = SoftResetLIF(shape=(3,), dv=0, vth=1, bias_mant=np.array([3, 0, 0]), name="kick")
            once = Dense(weights=np.zeros((3, 3), int))
            neuron.s_out.connect(delay.s_in)
            delay.s_out.connect(back.s_in)
            back.a_out.connect(neuron.a_in)
            kick.s_out.connect(once.s_in)
            once.a_out.connect(neuron.a_in)
            neuron.bias_mant.init = np.array([2, 0, 0])
            self.neurons = {"ring": neuron, "kick": kick}
            self.steps = 12
"""


@pytest.mark.parametrize("delay", [0, 2])
def test_a_loop_does_not_deadlock(network_dir: Callable[..., Path], delay: int) -> None:
    result = run_network(network_dir(LOOP_NETWORK), {"delay": np.array(delay)}, {"ring": ["s"]}, deadline_s=60)
    spikes = np.zeros((12, 3), int)
    for t in range(12):
        spikes[t, 0] = 1  # its bias
        if t > delay:
            spikes[t] |= np.roll(spikes[t - delay - 1], 1)
    np.testing.assert_array_equal(result["ring", "s"], spikes)


def test_a_loop_of_nothing_but_a_delay(network_dir: Callable[..., Path]) -> None:
    # Neither side of it buffers but the delay: it must send before it receives.
    folder = network_dir("""\
        import numpy as np
        from hsnn_lava import AxonDelay, SoftResetLIF


        class Network:
            def __init__(self, inputs):
                bias = np.array([2, 0])
                neuron = SoftResetLIF(shape=(2,), du=4095, dv=4096, vth=1, bias_exp=6, bias_mant=bias)
                delay = AxonDelay(shape=(2,), delay=2)
                neuron.s_out.connect(delay.s_in)
                delay.s_out.connect(neuron.a_in)
                self.neurons = {"neuron": neuron}
                self.steps = 5
    """)
    result = run_network(folder, {}, {"neuron": ["u"]}, deadline_s=20)
    np.testing.assert_array_equal(result["neuron", "u"], [[0, 0], [0, 0], [64, 0], [64, 0], [64, 0]])


PLACE_NETWORK = """\
    import numpy as np
    from hsnn_lava import AxonDelay, Place, SoftResetLIF
    from lava.proc.io.source import RingBuffer


    class Network:
        def __init__(self, inputs):
            x = RingBuffer(data=np.moveaxis(inputs["x"], 0, -1))
            later = AxonDelay(shape=(2, 3), delay=inputs["delay"], name="later")
            spread = Place(shape=(2, 3), out_shape=(5, 6), start=(1, 0), step=(3, 2), name="spread")
            du = int(inputs["du"])  # so that u is what arrives
            self.neurons = {
                "later": SoftResetLIF(shape=(2, 3), du=du, vth=100000, name="n1"),
                "spread": SoftResetLIF(shape=(5, 6), du=du, vth=100000, name="n2"),
            }
            x.s_out.connect(later.s_in)
            later.s_out.connect(self.neurons["later"].a_in)
            x.s_out.connect(spread.s_in)
            spread.s_out.connect(self.neurons["spread"].a_in)
            self.steps = len(inputs["x"])
"""


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("least", [0, 1])
def test_delays_of_each_neuron_and_places(network_dir: Callable[..., Path], least: int, tag: str) -> None:
    x = np.random.default_rng(2).integers(-9, 10, (9, 2, 3))
    delay = np.array([[0, 3, 1], [4, 0, 2]]) + least
    result = run_network(
        network_dir(PLACE_NETWORK),
        {"x": x, "delay": delay, "du": np.array(4095 if tag == "fixed_pt" else 1)},
        {"later": ["u"], "spread": ["u"]},
        deadline_s=60,
        tag=tag,
    )
    unit = 64 if tag == "fixed_pt" else 1
    for index in np.ndindex(2, 3):
        wait = delay[index]
        wanted = np.concatenate([np.zeros(wait, int), x[: 9 - wait, index[0], index[1]]])
        np.testing.assert_array_equal(result["later", "u"][:, index[0], index[1]], unit * wanted)
    spread = np.zeros((9, 5, 6), int)
    spread[:, 1::3, 0:5:2] = x
    np.testing.assert_array_equal(result["spread", "u"], unit * spread)


def test_a_place_outside_is_refused(network_dir: Callable[..., Path]) -> None:
    wrong = PLACE_NETWORK.replace("start=(1, 0)", "start=(2, 0)")
    inputs = {"x": np.zeros((2, 2, 3), int), "delay": np.zeros((2, 3), int), "du": np.array(4095)}
    with pytest.raises(HsnnError, match=r"E0113.*does not fit into"):
        run_network(network_dir(wrong), inputs, {"later": ["u"]}, deadline_s=60)


BIAS_NETWORK = """\
    from hsnn_lava import SampleBias, SoftResetLIF


    class Network:
        def __init__(self, inputs):
            # v is the bias in force in this step, no more.
            data = inputs["data"]
            neuron = SoftResetLIF(
                shape=data.shape[1:], dv=int(inputs["dv"]), vth=100000, bias_mant=-5, name="neuron"
            )
            bias = SampleBias(data=data, interval=4, offset=int(inputs["offset"]))
            bias.connect_var(neuron.bias_mant)
            self.neurons = {"neuron": neuron}
            self.steps = 20
"""


@pytest.mark.parametrize("tag", ["fixed_pt", "floating_pt"])
@pytest.mark.parametrize("offset", [0, 1, 6])
def test_sample_bias(network_dir: Callable[..., Path], offset: int, tag: str) -> None:
    data = np.random.default_rng(4).integers(-4096, 4096, (3, 2, 3))
    result = run_network(
        network_dir(BIAS_NETWORK),
        {"data": data, "offset": np.array(offset), "dv": np.array(4096 if tag == "fixed_pt" else 1)},
        {"neuron": ["v", "s"]},
        deadline_s=60,
        tag=tag,
    )
    before = np.full((offset, 2, 3), -5)
    wanted = np.concatenate([before, np.repeat(data, 4, axis=0), np.repeat(data[-1:], 20, axis=0)])[:20]
    np.testing.assert_array_equal(result["neuron", "v"], wanted)
    assert result["neuron", "v"].dtype == (np.int32 if tag == "fixed_pt" else np.float64)
    assert result["neuron", "s"].dtype == np.uint8


def replay_example(x: np.ndarray, kernel: np.ndarray, weight: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The network of example_network, step by step, with nothing of Lava."""
    period, steps = 8, len(x) * 8 + 4
    v = {"encode": np.zeros((5, 5, 2), int), "relu": np.zeros((5, 5, 3), int), "out": np.zeros(4, int)}
    v["encode"] += 3200
    v["out"] += 2880
    u = {name: np.zeros_like(value) for name, value in v.items()}
    soft, start = {"encode": True, "relu": False, "out": True}, {"encode": 3200, "relu": 0, "out": 2880}
    vth, offset = {"encode": 6400, "relu": 1920, "out": 5760}, {"encode": 1, "relu": 2, "out": 5}
    history: dict[tuple[str, str], list[np.ndarray]] = {(name, k): [] for name in v for k in "suv"}
    for t in range(1, steps + 1):
        spikes = {name: history[name, "s"] for name in v}
        current = {"encode": x[min((t - 1) // period, len(x) - 1)] * 64, "relu": 0, "out": 0}
        a = {name: np.zeros_like(value) for name, value in v.items()}
        if t > 1:
            padded = np.pad(spikes["encode"][-1], ((1, 1), (1, 1), (0, 0)))
            for i in range(3):
                for j in range(3):
                    # True convolution: the kernel is turned round.
                    window = padded[i : i + 5, j : j + 5]
                    a["relu"] += np.einsum("xyc,oc->xyo", window, kernel[:, 2 - i, 2 - j])
        if t > 3:
            a["out"] += weight @ spikes["relu"][t - 4].reshape(-1)
        for name in v:
            if t % period == offset[name] % period:
                v[name][:] = start[name]
            u[name] = a[name] * 64
            leaky = np.sign(v[name]) * (np.abs(v[name]) * (4096 - 128) >> 12) if name == "relu" else v[name]
            v[name] = leaky + u[name] + current[name]
            s = v[name] > vth[name]
            v[name] = np.where(s, v[name] - vth[name] if soft[name] else 0, v[name])
            for signal, value in zip("suv", (s, u[name], v[name]), strict=True):
                history[name, signal].append(np.array(value, int))
    return {key: np.stack(rows) for key, rows in history.items()}


def test_a_whole_network(example_dir: Path) -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(0, 120, (3, 5, 5, 2))
    kernel = rng.integers(-10, 12, (3, 3, 3, 2)) * 2
    weight = rng.integers(-30, 40, (4, 75)) * 2  # even: mixed signs lose the lowest bit
    np.savez(example_dir / "weights.npz", conv=kernel, fc=weight)
    record = {"encode": "suv", "relu": "suv", "out": "suv"}
    result = run_network(example_dir, {"x": x}, record, deadline_s=60)
    for key, wanted in replay_example(x, kernel, weight).items():
        np.testing.assert_array_equal(result[key], wanted, err_msg=str(key))
        assert key[1] != "s" or 0.02 < wanted.mean() < 0.98, f"{key} is too dull to prove anything"


def test_a_long_name_of_the_folder_for_temporary_files(
    network_dir: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets lie there, and their paths end after 107 bytes."""
    home = tmp_path / ("long" * 25)
    home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    result = run_network(network_dir(LOOP_NETWORK), {"delay": np.array(0)}, {"ring": ["s"]}, deadline_s=60)
    assert result["ring", "s"].size
    assert not list(home.iterdir())


def test_the_folder_stands_alone(example_dir: Path) -> None:
    """A bundle runs in a plain interpreter, without hsnn-compiler and without the child."""
    rng = np.random.default_rng(8)
    kernel, weight = rng.integers(-20, 20, (3, 3, 3, 2)), rng.integers(-60, 60, (4, 75))
    np.savez(example_dir / "weights.npz", conv=kernel, fc=weight)
    script = (
        "import sys, warnings; warnings.simplefilter('error', UserWarning)\n"
        "import numpy as np, hsnn_lava, network\n"
        "net = network.Network({'x': np.full((1, 5, 5, 2), 50)})\n"
        "seen = hsnn_lava.simulate(net, {'relu': ['s']}, directory='recorded')\n"
        "assert seen['relu', 's'].shape == (12, 5, 5, 3), seen\n"
        "assert not [name for name in sys.modules if name.startswith('hsnn_compiler')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=example_dir,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (example_dir / "recorded" / "0000.s.npy").exists()
