"""The Loihi layers against the integer executor's arithmetic, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, conv_cases, dense_cases, integers, loihi_currents, loihi_replay, payloads, spikes

from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, Layer, LoihiNeuron

METHODS = ("events", "dense")
FEW = settings(max_examples=40)


@st.composite
def neurons(draw, case):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch = len(case.inputs[0])
    shape = draw(st.sampled_from([(), case.out_shape[-1:], case.out_shape, (batch, *case.out_shape)]))

    def one_or_each(*values):
        each = draw(st.sampled_from([(), (), case.out_shape[-1:], case.out_shape]))
        return rng.choice(values, each) if each else draw(st.sampled_from(values))

    return LoihiNeuron(
        du=one_or_each(0, 1, 1000, 4094, 4095),
        dv=one_or_each(0, 1, 300, 4095, 4096),
        vth=draw(st.sampled_from([0, 10, 3000, 2**17 - 1])),
        bias=rng.integers(-(2**19), 2**19, shape),
        v_init=draw(st.sampled_from([0, 5000, -(2**23) + 1])),
        reset=draw(st.sampled_from(["zero", "subtract"])),
        spiking=draw(st.booleans()),
        taken=one_or_each(0, 5000, 2**23) if draw(st.booleans()) else None,
    )


def check(case: Case, neuron: LoihiNeuron, resets=None, state=None, extra=None):
    currents = loihi_currents(case) + (0 if extra is None else extra)
    output, states, population = loihi_replay(neuron, currents, () if resets is None else resets, state)
    layer = Layer(case.synapses, neuron, dtype=np.int32)
    for method in METHODS:
        run = layer.run(case.inputs, extra, {"u", "v"}, resets, state, method)
        assert run.method.startswith(method)
        np.testing.assert_array_equal(run.u, states["u"])
        np.testing.assert_array_equal(run.v, states["v"])
        np.testing.assert_array_equal(run.output, output)
        np.testing.assert_array_equal(run.state[1], population.v.numpy())
        assert run.state[0] is None if np.all(neuron.du == 4095) else np.array_equal(run.state[0], population.u.numpy())
        assert run.saturated == population.saturated


@FEW
@given(dense_cases(integers), st.data())
def test_dense_layers(case, data):
    check(case, data.draw(neurons(case)))


@FEW
@given(conv_cases(integers), st.data())
def test_convolutions(case, data):
    check(case, data.draw(neurons(case)))


@FEW
@given(st.one_of(dense_cases(integers), conv_cases(integers)), st.data())
def test_resets_and_states(case, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, time = case.inputs[0].shape[:2]
    u, v = (rng.integers(-(2**23) + 1, 2**23, (batch, *case.out_shape)).astype(np.int32) for _ in range(2))
    extra = rng.integers(-(2**31), 2**31, (batch, time, *case.out_shape)).astype(np.int32)
    check(case, data.draw(neurons(case)), rng.random(time) < 0.4, (u, v), extra)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("shape", [(40,), (3, 5, 4), (4,)])
def test_neurons_that_differ(reset, shape):
    """Decays, and what a spike takes, for each neuron or each channel; inputs without synapses."""
    rng, size = np.random.default_rng(4), (40,) if shape == (40,) else (3, 5, 4)
    extra = rng.integers(-2000, 4000, (3, 12, *size)).astype(np.int32)
    du, dv, taken = rng.integers(0, 4096, shape), rng.integers(0, 4097, shape), rng.integers(0, 2**20, shape)
    neuron = LoihiNeuron(du, dv, 900, rng.integers(-999, 999, size), rng.integers(0, 999, size), reset, taken=taken)
    output, states, population = loihi_replay(neuron, extra.astype(np.int64))
    run = Layer([], neuron, dtype=np.int32, out_shape=size).run([], extra, {"u", "v"})
    for got, wanted in ((run.spikes, output), (run.u, states["u"]), (run.v, states["v"])):
        np.testing.assert_array_equal(got, wanted)
    assert run.saturated == population.saturated
    assert 0.05 < output.mean() < 0.95


def test_the_cases_are_hard():
    """Large payloads wrap convolutions and u, and saturate v; or the tests above would say little."""
    rng = np.random.default_rng(0)
    x = payloads(rng, (2, 6, 8, 8, 4), 0.5, 2**23)
    case = Case([ConvSynapse(integers(rng, (16, 4, 3, 3)), (8, 8, 4))], [x])
    sums = loihi_currents(case)
    plain = Case([ConvSynapse(case.synapses[0].weight.astype(np.float64), (8, 8, 4))], [x])
    layer = Layer(case.synapses, LoihiNeuron(1000, 100, 1000), dtype=np.int32)
    assert layer.run([x]).saturated > 1000
    assert np.abs(sums).max() < 2**23 < np.abs(Layer(plain.synapses, _watch(), dtype=np.float64).run([x]).output).max()
    check(case, LoihiNeuron(1000, 100, 1000))


def _watch():
    from hsnn_compiler.kernels import FloatNeuron

    return FloatNeuron(decay=0.0, threshold=None)


@pytest.mark.parametrize("exponent", [-3, 0, 3])
def test_payloads_beyond_what_float64_holds(exponent):
    rng = np.random.default_rng(1)
    x = payloads(rng, (2, 3, 3000), 0.9, 2**31 - 1)
    case = Case([DenseSynapse(integers(rng, (20, 3000)) * 2**14, exponent)], [x])
    expected = np.einsum("oi,bti->bto", case.synapses[0].weight.astype(np.int64), x.astype(np.int64)).astype(np.int32)
    expected = expected << exponent if exponent >= 0 else expected >> -exponent
    layer = Layer(case.synapses, LoihiNeuron(4095, 4096, 1000), dtype=np.int32)
    runs = [layer.run([x], record={"u"}, method=method) for method in METHODS]
    _, states, _ = loihi_replay(layer.neuron, expected)
    for run in runs:
        np.testing.assert_array_equal(run.u, states["u"])


def test_a_bias_per_sample_in_a_batch_that_is_cut(monkeypatch):
    """Batches are packed in parts: each must see its own samples' bias."""
    rng = np.random.default_rng(2)
    x = spikes(rng, (50, 4, 200), 0.1)
    bias = rng.integers(-(2**12), 2**12, (50, 30))
    case = Case([DenseSynapse(integers(rng, (30, 200)))], [x])
    monkeypatch.setattr("hsnn_compiler.kernels.layer.PACKED_BYTES", 2000)
    monkeypatch.setattr("hsnn_compiler.kernels.execution.CURRENT_BYTES", 2000)
    monkeypatch.setattr("hsnn_compiler.kernels.execution.WORTH_SHARING", 0)
    check(case, LoihiNeuron(1000, 100, 300, bias, spiking=True))
    check(case, LoihiNeuron(1000, 100, 300, bias, spiking=False))


@pytest.mark.parametrize(
    "change",
    [
        {"du": 4096},
        {"dv": -1},
        {"du": [9, 4096]},
        {"dv": [-1, 9]},
        {"taken": [0, 2**24]},
        {"vth": -1},
        {"bias": 2**24},
        {"v_init": -(2**24)},
        {"reset": "none"},
    ],
)
def test_what_loihi_has_not_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        LoihiNeuron(**{"du": 0, "dv": 0, "vth": 100, **change})


@pytest.mark.parametrize("du", [4095, 4094, 0])
@pytest.mark.parametrize("vth", [0, 100, 2**17 - 1])
def test_edges_of_wrapping_saturating_and_firing(du, vth):
    """Inputs at and beside every edge: of u, of v, of 32 bits, and at the threshold."""
    edges = [0, 1, 100, 2**17, 2**18, 3 * 2**17, 2**25, 2**26, 2**31 - 1]
    values = sorted({sign * edge + step for edge in edges for sign in (-1, 1) for step in (-1, 0, 1)})
    extra = np.array([value for value in values if -(2**31) <= value < 2**31], np.int32)
    extra = np.stack([extra, extra[::-1], extra], 0)[None]
    for dv, bias in ((4096, 0), (4096, 1), (4096, -1), (0, 0), (300, 2**19)):
        neuron = LoihiNeuron(du, dv, vth, bias)
        output, states, population = loihi_replay(neuron, extra.astype(np.int64))
        run = Layer([], neuron, dtype=np.int32, out_shape=extra.shape[2:]).run([], extra, {"u", "v"})
        np.testing.assert_array_equal(run.u, states["u"])
        np.testing.assert_array_equal(run.v, states["v"])
        np.testing.assert_array_equal(run.spikes, output)
        assert run.saturated == population.saturated
