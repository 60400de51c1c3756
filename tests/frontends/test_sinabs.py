"""sinabs' neurons and layers, captured: every spike as the library has it."""

import numpy as np
import pytest
import stand_ins
import torch
from torch import nn

stand_ins.for_sinabs()
sinabs = pytest.importorskip("sinabs", reason="sinabs is not installed (constraints-peers.txt)")

import sinabs.layers as sl  # noqa: E402
from dialect_nets import series  # noqa: E402
from dialect_rows import row, up_to_date  # noqa: E402
from sinabs.activation import MaxSpike, MembraneReset, MembraneSubtract, MultiSpike, SingleSpike  # noqa: E402

from hsnn_compiler.diagnostics import HsnnError  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.frontends.torch.stateful import prepared  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402

SHAPES = [(7,), (3, 4, 5)]
STEPS = 120
FIRES = {"MultiSpike": MultiSpike, "SingleSpike": SingleSpike, "MaxSpike(2)": MaxSpike(2)}
RESETS = {
    "MembraneSubtract()": MembraneSubtract(),
    "MembraneReset()": MembraneReset(),
    "MembraneReset(0.2)": MembraneReset(0.2),
}


def per_channel(shape, low, high):
    """Values that broadcast against [B, *shape]."""
    return low + (high - low) * torch.rand(shape[0], *[1] * (len(shape) - 1))


def per_neuron(shape, low, high):
    return low + (high - low) * torch.rand(shape)


def cases():
    """Neuron, options, what makes one for a shape, and the axes of its input."""
    for fires, spike_fn in FIRES.items():
        for resets, reset_fn in RESETS.items():
            for synapse in (None, 3.0):
                both = {"spike_fn": spike_fn, "reset_fn": reset_fn, "tau_syn": synapse}
                name = f"{fires}, {resets}" + (", tau_syn" if synapse else "")
                yield "IAF", name, lambda s, b=both: sl.IAF(torch.tensor(0.8), **b), "BT"
                yield "LIF", name, lambda s, b=both: sl.LIF(6.0, spike_threshold=torch.tensor(0.3), **b), "BT"
        kind = {"spike_fn": spike_fn}
        yield "IAF", f"{fires}, min_v_mem", lambda s, k=kind: sl.IAF(min_v_mem=-0.5, **k), "BT"
        yield (
            "LIFSqueeze",
            f"{fires}, min_v_mem",
            lambda s, k=kind: sl.LIFSqueeze(tau_mem=9.0, min_v_mem=-0.1, norm_input=False, batch_size=1, **k),
            "(BT)",
        )
        yield "IAFSqueeze", fires, lambda s, k=kind: sl.IAFSqueeze(num_timesteps=10, **k), "(BT)"
    yield "IAF", "spike_threshold per channel", lambda s: sl.IAF(per_channel(s, 0.5, 1.5)), "BT"
    yield (
        "LIF",
        "tau_mem, tau_syn, spike_threshold per neuron",
        lambda s: sl.LIF(per_neuron(s, 2, 9), per_neuron(s, 1, 5), per_neuron(s, 0.1, 0.6)),
        "BT",
    )
    yield "LIF", "train_alphas", lambda s: sl.LIF(per_neuron(s, 2, 9), 2.5, train_alphas=True, norm_input=False), "BT"
    yield "LIF", "norm_input=False, record_states", lambda s: sl.LIF(5.0, norm_input=False, record_states=True), "BT"
    yield (
        "LIF",
        "MembraneSubtract(the threshold)",
        lambda s: sl.LIF(5.0, reset_fn=MembraneSubtract(1.0), norm_input=False),
        "BT",
    )
    for name, make, axes in (("ExpLeak", sl.ExpLeak, "BT"), ("ExpLeakSqueeze", sl.ExpLeakSqueeze, "(BT)")):
        more = {"batch_size": 2} if axes == "(BT)" else {}
        for norm in (True, False):
            yield (
                name,
                f"norm_input={norm}",
                lambda s, make=make, norm=norm, more=more: make(tau_mem=per_neuron(s, 2, 9), norm_input=norm, **more),
                axes,
            )
    for make in (sl.IAFRecurrent, sl.LIFRecurrent):
        more = {"tau_mem": 5.0, "norm_input": False} if make is sl.LIFRecurrent else {"tau_syn": 2.0}
        for fires, spike_fn in FIRES.items():
            yield (
                make.__name__,
                fires,
                lambda s, make=make, more=more, fn=spike_fn: make(rec_connect=recurrence(s), spike_fn=fn, **more),
                "BT",
            )


def recurrence(shape):
    """Weights that dampen, so that no run ends in nothing but spikes; with a bias."""
    made = nn.Linear(7, 7) if len(shape) == 1 else nn.Conv2d(3, 3, 3, padding=1)
    made.weight.data -= 0.05
    return made


CASES = list(cases())


def compare(model, x, axes):
    """What the graph and the model put out for x [B, T, ...], in float64."""
    graph = capture(model, x[:, :6].float(), axes=axes)
    graph.timesteps = x.shape[1]
    model = model.double()
    with torch.no_grad(), prepared(model, len(x)):
        merged = axes == "(BT)"
        expected = model(x.flatten(0, 1) if merged else x)
        expected = expected.unflatten(0, x.shape[:2]) if merged else expected
    return FloatExecutor(graph, torch.float64).run(x.numpy()).output, expected.numpy()


@pytest.mark.parametrize(("name", "options", "make", "axes"), CASES, ids=[f"{n}-{o}" for n, o, _, _ in CASES])
def test_neuron(name, options, make, axes):
    wrong = []
    for seed, shape in enumerate(SHAPES):
        torch.manual_seed(seed)
        x = series(shape, seed, 1.2, steps=STEPS).transpose(0, 1).contiguous()
        found, expected = compare(make(shape), x, axes)
        assert np.abs(expected).sum() > 50
        equal = np.abs(found - expected).max() < 1e-9 if "Leak" in name else np.array_equal(found, expected)
        wrong.append(not equal)
    row("sinabs", name, options, not any(wrong))
    assert not any(wrong)


REFUSED = {
    ("ALIF", ""): (lambda: sl.ALIF(5.0, 4.0), "adapts"),
    ("ALIFRecurrent", ""): (lambda: sl.ALIFRecurrent(5.0, 4.0, nn.Linear(5, 5)), "adapts"),
    ("IAF", "MembraneSubtract(0.5)"): (lambda: sl.IAF(reset_fn=MembraneSubtract(0.5)), "subtract_value=0.5"),
    ("IAF", "min_v_mem above 0"): (lambda: sl.IAF(min_v_mem=0.1), "min_v_mem"),
    ("IAF", "MembraneReset(0.2), min_v_mem"): (
        lambda: sl.IAF(reset_fn=MembraneReset(0.2), min_v_mem=-1.0),
        "reset_value=0.2",
    ),
    ("ExpLeak", "min_v_mem"): (lambda: sl.ExpLeak(5.0, min_v_mem=-1.0), "before it is bounded"),
    ("NeuromorphicReLU", ""): (sl.NeuromorphicReLU, "rounds"),
    ("SpikingMaxPooling2dLayer", ""): (lambda: sl.SpikingMaxPooling2dLayer((2, 2)), "counts the spikes"),
}


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_refused(name, options):
    make, why = REFUSED[name, options]
    x = torch.rand(3, 6, 4, 4) if "Pool" in name else torch.rand(3, 6, 5)
    with pytest.raises(HsnnError) as error:
        capture(make(), x, axes="BT")
    (finding,) = error.value.findings
    assert finding.code == "E0401"
    assert why in finding.message
    row("sinabs", name, options, "refused", finding.message.partition(": ")[2] if not options else "")


def test_table():
    up_to_date("sinabs", [(n, o) for n, o, _, _ in CASES] + list(REFUSED))


@pytest.mark.parametrize(
    ("layer", "axes", "says"),
    [
        (lambda: sl.IAF(), "B", "axes='BT'"),
        (lambda: sl.IAF(), "TB", "axes='BT'"),
        (lambda: sl.IAFSqueeze(batch_size=1), "B", "axes='(BT)'"),
        (lambda: sl.IAFSqueeze(batch_size=1), "BT", "axes='(BT)'"),
    ],
)
def test_time_that_is_not_where_it_should_be(layer, axes, says):
    with pytest.raises(HsnnError) as error:
        capture(layer(), torch.rand(3, 6, 5), axes=axes)
    (finding,) = error.value.findings
    assert finding.code == "E0407"
    assert says in finding.suggestion


def ann():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), sl.SumPool2d(2), nn.Conv2d(4, 6, 2), nn.ReLU(), nn.Dropout(), nn.Flatten(),
        nn.Linear(24, 5),
    )  # fmt: skip
    return net.eval()


@pytest.mark.filterwarnings("ignore:SNNAnalyzer")
@pytest.mark.parametrize("options", [
    {"batch_size": 1},
    {"num_timesteps": 10, "min_v_mem": -2.0},
    {"batch_size": 4, "add_spiking_output": True, "synops": True, "input_shape": (2, 8, 8)},
    {"batch_size": 1, "spike_layer_class": sl.LIFSqueeze, "kwargs_backend": {"tau_mem": 20.0}},
])  # fmt: skip
def test_from_model(options):
    x = series((2, 8, 8), 2, 2.0, batch=2, steps=30).transpose(0, 1).contiguous()
    found, expected = compare(sinabs.from_torch.from_model(ann(), **options), x, "(BT)")
    assert expected.any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_one_image_per_step():
    """With num_timesteps=1 a call is one step."""
    graph = capture(sinabs.from_torch.from_model(ann(), num_timesteps=1), torch.rand(2, 2, 8, 8), timesteps=12)
    assert graph.timesteps == 12
    assert [node.kind for node in graph].count("IF") == 2


def test_layers_between_series_and_images():
    torch.manual_seed(0)
    model = nn.Sequential(
        sl.Repeat(nn.Conv2d(2, 3, 3)), sl.IAF(), sl.FlattenTime(), sl.SumPool2d(2), sl.IAFSqueeze(batch_size=1),
        sl.UnflattenTime(1), nn.Flatten(2), nn.Linear(27, 5), sl.LIF(4.0, norm_input=False),
    )  # fmt: skip
    x = series((2, 8, 8), 2, 2.0, batch=3, steps=20).transpose(0, 1).contiguous()
    found, expected = compare(model, x, "BT")
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


def test_branches_merge():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.merge = sl.IAF(), sl.ExpLeak(4.0), sl.Merge()

        def forward(self, x):
            return self.merge(self.a(x), self.b(x)).mean(1)

    x = series((5,), 2, steps=9).transpose(0, 1).contiguous()
    model = Net()
    graph = capture(model, x.float(), axes="BT")
    with prepared(model.double(), len(x)):
        expected = model(x)
    np.testing.assert_allclose(FloatExecutor(graph, torch.float64).run(x.numpy()).output, expected.detach(), atol=1e-9)


def test_the_model_is_left_as_it_was():
    model = sinabs.from_torch.from_model(ann(), batch_size=1)
    capture(model, torch.rand(2, 6, 2, 8, 8), axes="(BT)")
    layer = model.spiking_model[1]
    assert (layer.batch_size, layer.num_timesteps, layer.spike_fn) == (1, -1, MultiSpike)
    assert not layer.v_mem.any()


def test_subclass():
    class Mine(sl.LIF):
        def forward(self, x):
            return super().forward(2 * x)

    class Named(sl.LIF):
        """One that only sets options."""

        def __init__(self):
            super().__init__(tau_mem=5.0)

    x = torch.rand(3, 6, 5)
    with pytest.raises(HsnnError) as error:
        capture(Mine(5.0), x, axes="BT")
    assert [finding.code for finding in error.value.findings] == ["E0401"]
    assert "LIF" in {node.kind for node in capture(Named(), x, axes="BT")}
