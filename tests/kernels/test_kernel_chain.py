"""Chains of layers against the same layers one by one: bit for bit, also divided among threads and along time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from kernel_cases import dyadic, integers, spikes
from picks import Picks

from hsnn_compiler.kernels import (
    Chain,
    ConvSynapse,
    DenseSynapse,
    Feed,
    FloatNeuron,
    Layer,
    LoihiNeuron,
    execution,
    workers,
)
from hsnn_compiler.kernels import chain as chain_module
from hsnn_compiler.kernels.pace import Pace

TIME = 11


def neuron(p: Picks, dtype: type, *, spiking: bool) -> FloatNeuron | LoihiNeuron:
    if dtype is np.int32:
        du, dv, reset = p.choice([4095, 2000]), p.choice([0, 410]), p.choice(["zero", "subtract"])
        return LoihiNeuron(du, dv, p.integer(100, 3000), 0, p.integer(-900, 900), reset, spiking)
    return FloatNeuron(
        decay=0.5,
        threshold=p.integer(2, 12) / 4 if spiking else None,
        v_init=p.choice([0.0, -0.5]),
        current_decay=0.5,
        w_in=1.0,
        reset=p.choice(["zero", "subtract", "none"]),
    )


def random_chain(p: Picks, dtype: type) -> tuple[Chain, dict[str, tuple[int, ...]]]:
    """Layers, each fed by one or two signals from outside or of earlier layers, and the shapes of those outside.

    The first are convolutions of one map each, or not; the last may not spike.
    """
    weights, rng = (integers if dtype is np.int32 else dyadic), p.rng()
    shapes: dict[Any, tuple[int, ...]] = {"a": p.choice([(2, 9, 7), (2, 9, 7), (40,), (3, 5)]), "b": (70,)}
    outside = {name: shapes[name] for name in ("a", "b")}
    layers, feeds = [], []
    for i in range(p.integer(1, 4)):
        sources: list[Any] = [s for s in shapes if p.flag() or s == i - 1 or s == "a"][: 1 + p.integer(0, 1)]
        source, synapses = sources[-1], []
        shape = shapes[source]
        if len(shape) == 3 and not p.flag(3):
            form = (shape[1], shape[2], shape[0]) if source == "a" else shape
            out, groups = p.choice([4, 16, 20, 32]), p.choice([1, form[2]]) if form[2] == 2 else 1
            weight = weights(rng, (out, form[2] // groups, 3, 2))
            synapses.append(ConvSynapse(weight, form, p.choice([(1, 1), (2, 1)]), ((1, 1), (0, 1)), (1, 1), groups))
            sources = [source]
        else:
            out = p.choice([5, 33, 130])
            synapses = [DenseSynapse(weights(rng, (out, int(np.prod(shapes[s]))))) for s in sources]
        layers.append(Layer(synapses, neuron(p, dtype, spiking=i < 3), None, dtype))
        feeds.append([Feed(s, shapes[s] if isinstance(s, str) else (), p.choice([0, 0, 1, 4])) for s in sources])
        shapes[i] = layers[-1].out_shape
    return Chain(layers, feeds), outside


def one_by_one(chain: Chain, signals: dict[str, np.ndarray], resets: dict[int, np.ndarray]) -> list[Any]:
    """Runs of the layers."""
    values: dict[Any, np.ndarray] = {
        name: np.moveaxis(array, 2, -1) if array.ndim > 3 else array for name, array in signals.items()
    }
    runs = []
    for i, (layer, feeds) in enumerate(zip(chain.layers, chain.feeds, strict=True)):
        arrived = []
        for feed in feeds:
            late = np.zeros_like(values[feed.source])
            late[:, feed.delay :] = values[feed.source][:, : TIME - feed.delay]
            arrived.append(late)
        runs.append(layer.run(arrived, None, ["u", "v"], resets.get(i), method="events"))
        values[i] = runs[-1].spikes
    return runs


class AlwaysShared(Pace):
    """Shares every call, however long that takes."""

    def __init__(self) -> None:
        super().__init__()
        self.shares = True

    def took(self, nanoseconds: float) -> None:
        """Not taken into account."""


@pytest.fixture(params=["alone", "shared", "awake"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller alone, or three threads on everything, or on single samples those that are awake."""
    monkeypatch.setattr(execution, "WORTH_SHARING", np.inf if request.param == "alone" else 0)
    monkeypatch.setattr(execution, "WORTH_WAITING", np.inf if request.param == "awake" else 0)
    monkeypatch.setattr(execution, "WORTH_TRYING", np.inf if request.param == "alone" else 0)
    monkeypatch.setattr(execution, "Pace", AlwaysShared)
    for module in (execution, workers):
        monkeypatch.setattr(module, "THREADS", 3)
    monkeypatch.setattr(workers, "_orders", None)
    return


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
@pytest.mark.parametrize("steps", [2, 100])
def test_as_one_by_one(dtype: type, steps: int, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "WINDOW_BYTES", 0)
    monkeypatch.setattr(chain_module, "FEWEST_STEPS", steps)  # of a window
    monkeypatch.setattr(chain_module, "FIRST_SAMPLES", 2)
    monkeypatch.setattr(Layer, "most_active", lambda *_: np.inf)
    fired = maps = 0
    for seed in range(40):
        p = Picks.seeded(seed)
        chain, shapes = random_chain(p, dtype)
        rng, batch = p.rng(), p.choice([1, 2, 9])
        signals = {name: spikes(rng, (batch, TIME, *shape), 0.3) for name, shape in shapes.items()}
        resets = {i: rng.random(TIME) < 0.2 for i in range(len(chain.layers)) if p.flag()}
        expected = one_by_one(chain, signals, resets)
        everything = {(i, what) for i in range(len(expected)) for what in ("s", "u", "v")}
        record = {key for key in everything if key[1] != "s" or chain.layers[key[0]].neuron.spiking}
        for wanted in (record, {key for key in record if p.flag()}):
            done = chain.run(signals, wanted, resets)
            assert done is not None
            assert done.kept.keys() == wanted
            for (i, what), array in done.kept.items():
                found = {"s": expected[i].spikes, "u": expected[i].u, "v": expected[i].v}[what]
                np.testing.assert_array_equal(array, found, err_msg=f"seed {seed}, layer {i}, {what}")
            assert done.saturated == [run.saturated for run in expected]
            assert done.counts == [0 if run.spikes is None else run.spikes.sum() for run in expected]
            used = {feed.source for feeds in chain.feeds for feed in feeds if isinstance(feed.source, str)}
            assert done.signals == {name: signals[name].sum() for name in used}
        fired += sum(done.counts)
        maps += sum(len(layer.out_shape) == 3 for layer in chain.layers)
    assert fired > 10_000
    assert maps > 20


def test_activity_and_what_is_no_chain() -> None:
    rng = np.random.default_rng(0)
    layers = [Layer([DenseSynapse(dyadic(rng, (512, 512)))], FloatNeuron(0.5)) for _ in range(2)]
    feeds = [[Feed("x", (512,))], [Feed(0)]]
    x = spikes(rng, (40, 16, 512), 0.05)
    done = Chain(layers, feeds).run({"x": x}, {(0, "s"), (1, "s")})
    assert done is not None
    assert done.activity == [x.mean(), done.kept[0, "s"].mean()]
    assert done.method(0) == layers[0].run([x]).method
    assert Chain(layers, feeds).run({"x": np.ones_like(x)}) is None  # a matrix product is faster
    for sample in (39, 0):
        x[sample, 0, 0] = 2
        assert Chain(layers, feeds).run({"x": x}) is None  # values
        assert Chain(layers, feeds, counts_bytes=True).run({"x": x}) is not None


def test_layers_are_not_copied() -> None:
    layer = Layer([DenseSynapse(np.ones((3, 4)))], FloatNeuron(0.5))
    with pytest.raises(TypeError, match="addresses"):
        copy.deepcopy(layer)
