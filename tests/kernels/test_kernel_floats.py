"""The float layers against plain numpy and PyTorch: exact sums must give identical states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case, conv_cases, dense_cases, dyadic, float_currents, replay, spikes

from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, FloatNeuron, Layer, channel_last_columns

METHODS = ("events", "dense")
FEW = settings(max_examples=40)


@st.composite
def neurons(draw, out_shape):
    """Coefficients with few bits: a few steps of them are exact, too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def some(low, high):
        kind = draw(st.sampled_from(["number", "channel", "neuron"]))
        shape = {"number": (), "channel": out_shape[-1:], "neuron": out_shape}[kind]
        return rng.integers(low, high + 1, shape) / 4

    has_current = draw(st.booleans())
    return FloatNeuron(
        decay=some(0, 4),
        gain=some(1, 4),
        leak=some(-2, 2),
        threshold=draw(st.sampled_from([some(1, 8), None])),
        v_reset=some(-4, 0),
        v_init=some(-4, 4),
        current_decay=some(0, 4) if has_current else None,
        w_in=some(1, 4) if has_current else None,
        reset=draw(st.sampled_from(["zero", "value", "subtract", "none"])),
        inclusive=draw(st.booleans()),
    )


def check(case: Case, neuron: FloatNeuron, data, dtype=np.float64):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    batch, time = case.inputs[0].shape[:2]
    bias = rng.integers(-4, 5, data.draw(st.sampled_from([(), case.out_shape[-1:], case.out_shape]))) / 4
    extra = rng.integers(-4, 5, (batch, time, *case.out_shape)) / 4 if data.draw(st.booleans()) else None
    resets = rng.random(time) < 0.3 if data.draw(st.booleans()) else None
    expected = float_currents(case) + bias + (0 if extra is None else extra)
    layer = Layer(case.synapses, neuron, bias, dtype)
    s, u, v = replay(neuron, expected, dtype, () if resets is None else resets)
    for method in METHODS:
        run = layer.run(case.inputs, extra, {"u", "v"}, resets, method=method)
        assert run.method.startswith(method)
        np.testing.assert_array_equal(run.u, u)
        np.testing.assert_array_equal(run.v, v)
        np.testing.assert_array_equal(run.output, v if neuron.threshold is None else s)
        np.testing.assert_array_equal(run.state[1], v[:, -1])
        if neuron.has_current:
            np.testing.assert_array_equal(run.state[0], u[:, -1])
        assert run.activity == sum(np.count_nonzero(x) for x in case.inputs) / sum(x.size for x in case.inputs)


@FEW
@given(dense_cases(dyadic), st.data())
def test_dense_layers(case, data):
    check(case, data.draw(neurons(case.out_shape)), data)


@FEW
@given(conv_cases(dyadic), st.data())
def test_convolutions(case, data):
    check(case, data.draw(neurons(case.out_shape)), data)


@FEW
@given(conv_cases(dyadic), st.data())
def test_single_precision(case, data):
    inputs = [np.minimum(np.abs(x), 1).astype(np.uint8) for x in case.inputs]
    check(Case(case.synapses, inputs), FloatNeuron(0.5, threshold=0.5, reset="subtract"), data, np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_random_weights(method):
    rng = np.random.default_rng(0)
    x = spikes(rng, (3, 20, 12, 11, 6), 0.2)
    case = Case([ConvSynapse(rng.normal(0, 0.3, (20, 6, 3, 3)), (12, 11, 6), padding=((1, 1), (1, 1)))], [x])
    neuron = FloatNeuron(0.9, 0.7, 0.01, threshold=None, current_decay=0.8, w_in=0.3)
    run = Layer(case.synapses, neuron, 0.1, np.float64).run(case.inputs, method=method)
    assert run.spikes is None
    np.testing.assert_allclose(run.output, replay(neuron, float_currents(case) + 0.1, np.float64)[2], atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", [1, 70])
def test_a_run_goes_on_from_the_state_of_another(method, batch):
    rng = np.random.default_rng(1)
    x = spikes(rng, (batch, 12, 6, 7, 3), 0.3)
    neuron = FloatNeuron(0.5, threshold=0.5, v_init=0.25, current_decay=0.5, w_in=1.0, reset="subtract")
    layer = Layer([ConvSynapse(dyadic(rng, (5, 3, 2, 2)), (6, 7, 3))], neuron, dtype=np.float64)
    whole = layer.run([x], record={"v"}, method=method)
    first = layer.run([x[:, :5]], method=method)
    second = layer.run([x[:, 5:]], record={"v"}, state=first.state, method=method)
    assert 0 < whole.spikes.mean() < 1
    np.testing.assert_array_equal(np.concatenate([first.spikes, second.spikes], 1), whole.spikes)
    np.testing.assert_array_equal(second.v, whole.v[:, 5:])
    np.testing.assert_array_equal(second.state[0], whole.state[0])


def test_large_work_is_shared_and_the_same():
    rng = np.random.default_rng(2)
    x = spikes(rng, (40, 16, 24, 24, 16), 0.1)
    case = Case([ConvSynapse(dyadic(rng, (32, 16, 3, 3)), (24, 24, 16), padding=((1, 1), (1, 1)))], [x])
    layer = Layer(case.synapses, FloatNeuron(0.5, threshold=0.5), dtype=np.float32)
    runs = [layer.run([x], method="events"), layer.run([x], method="dense")]
    alone = np.concatenate([layer.run([x[i : i + 1]], method="events").spikes for i in range(len(x))])
    s, _, _ = replay(layer.neuron, float_currents(Case(case.synapses, [x[:2]])), np.float32)
    np.testing.assert_array_equal(runs[0].spikes[:2], s)
    for run in runs:
        np.testing.assert_array_equal(run.spikes, alone)


def test_a_matrix_and_a_convolution_onto_one_map():
    rng = np.random.default_rng(3)
    conv = ConvSynapse(dyadic(rng, (4, 2, 3, 3)), (6, 6, 2))
    matrix = DenseSynapse(dyadic(rng, (64, 10)))
    x, y = spikes(rng, (2, 5, 6, 6, 2), 0.3), spikes(rng, (2, 5, 10), 0.3)
    run = Layer([conv, matrix], FloatNeuron(0.5), dtype=np.float64).run([x, y])
    currents = float_currents(Case([conv], [x])) + float_currents(Case([matrix], [y])).reshape(2, 5, 4, 4, 4)
    assert run.method.startswith("dense")
    np.testing.assert_array_equal(run.spikes, replay(FloatNeuron(0.5), currents, np.float64)[0])


def test_neurons_without_synapses():
    extra = np.random.default_rng(4).integers(-4, 5, (3, 9, 2, 3, 4)) / 4
    neuron = FloatNeuron(0.5, threshold=0.5, reset="none")
    run = Layer([], neuron, dtype=np.float64, out_shape=(2, 3, 4)).run([], extra)
    np.testing.assert_array_equal(run.spikes, replay(neuron, extra, np.float64)[0])


def test_columns_of_a_flattened_map():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (2, 3, 4, 5))
    weight = dyadic(rng, (7, 60))
    last = np.moveaxis(x, 1, -1).reshape(2, -1)
    np.testing.assert_array_equal(last @ channel_last_columns(weight, (3, 4, 5)).T, x.reshape(2, -1) @ weight.T)


def test_auto_takes_events_for_few_and_dense_for_many():
    rng = np.random.default_rng(6)
    layer = Layer([ConvSynapse(dyadic(rng, (32, 16, 3, 3)), (16, 16, 16))], FloatNeuron())
    few, many = (layer.run([spikes(rng, (8, 4, 16, 16, 16), activity)]).method for activity in (0.02, 1.0))
    assert few.startswith("events: 2.")
    assert many == "dense: 100.0 % active"


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([], "0 inputs for 1"),
        ([np.zeros((2, 3, 5), np.uint8)], "not \\[2, 3\\] and 4"),
        ([np.full((2, 3, 4), 2, np.uint8)], "0 or 1"),
        ([np.full((2, 300, 4), 2, np.uint8)], "0 or 1"),
    ],
)
def test_wrong_inputs_are_refused(inputs, problem):
    with pytest.raises(ValueError, match=problem):
        Layer([DenseSynapse(np.ones((3, 4)))], FloatNeuron()).run(inputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FloatNeuron(reset="soft"),
        lambda: FloatNeuron(current_decay=0.5),
        lambda: DenseSynapse(np.ones(3)),
        lambda: ConvSynapse(np.ones((4, 2, 3, 3)), (8, 8, 3)),
        lambda: ConvSynapse(np.ones((3, 2, 3, 3)), (8, 8, 4), groups=2),
        lambda: ConvSynapse(np.ones((4, 2, 3, 3)), (2, 8, 2)),
        lambda: Layer([DenseSynapse(np.ones((3, 4))), DenseSynapse(np.ones((4, 4)))], FloatNeuron()),
        lambda: Layer([DenseSynapse(np.ones((3, 4)))], FloatNeuron(), dtype=np.int32),
    ],
)
def test_wrong_layers_are_refused(make):
    with pytest.raises(ValueError, match=r"."):
        make()
