"""snnTorch's neurons and the models of its tutorials, captured: every spike as the library has it."""

import pytest
import torch
from torch import nn

snn = pytest.importorskip("snntorch", reason="snntorch is not installed (constraints-peers.txt)")

from dialect_nets import SHAPES, AtOnce, OverTime, compare, series  # noqa: E402
from dialect_rows import row, up_to_date  # noqa: E402
from snntorch import surrogate, utils  # noqa: E402

from hsnn_compiler.diagnostics import HsnnError  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402


def step(x):
    """The library's surrogates all return float32; this lets its neurons run in float64."""
    return (x > 0).to(x.dtype)


def rand(*shape, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(*shape)


def number(low, high):
    return float(rand(1, low=low, high=high))


def channels(shape, low, high):
    """A value per channel, in a shape that broadcasts against [B, *shape]."""
    return rand(shape[0], *[1] * (len(shape) - 1), low=low, high=high)


PARAMETERS = {
    "numbers": lambda shape: {"beta": number(0.3, 1), "threshold": number(0.5, 2)},
    "beta, threshold per channel": lambda s: {"beta": channels(s, 0.3, 1), "threshold": channels(s, 0.5, 2)},
    "beta, threshold per neuron, learnable": lambda s: {
        "beta": rand(*s, low=0.3), "threshold": rand(*s, low=0.5), "learn_beta": True, "learn_threshold": True,
    },
    "beta outside of 0..1": lambda s: {"beta": channels(s, -0.5, 1.5)},
}  # fmt: skip


def recurrent(shape):
    if len(shape) == 1:
        return {"linear_features": shape[0]}
    return {"conv2d_channels": shape[0], "kernel_size": 3}


def one_to_one(shape):
    return {"all_to_all": False, "V": rand(*shape, low=-1)}


def synaptic(shape):
    return {"alpha": channels(shape, 0.2, 0.9), "beta": number(0.3, 1), "threshold": number(1, 3)}


def alpha(shape):
    return {"alpha": channels(shape, 0.7, 0.95), "beta": number(0.3, 0.6), "threshold": number(0.3, 1)}


def cases():
    """Neuron, options, what makes its arguments for a shape."""
    for name, parameters in PARAMETERS.items():
        yield "Leaky", name, parameters
    for reset in ("subtract", "zero", "none"):
        kind = {"reset_mechanism": reset}
        for delay in (True, False):
            options = f"reset {reset}" + ("" if delay else ", reset_delay=False")
            both = {**kind, "reset_delay": delay}
            yield "Leaky", options, lambda s, both=both: PARAMETERS["numbers"](s) | both
            yield "Synaptic", options, lambda s, both=both: synaptic(s) | both
            yield "RLeaky", options, lambda s, both=both: {"beta": number(0.3, 1)} | recurrent(s) | both
        rc = {"R": 1.3, "C": 4.0, "time_step": 0.8, "threshold": 0.5}
        yield "Lapicque", f"R, C, reset {reset}", lambda s, kind=kind, rc=rc: rc | kind
        yield "RSynaptic", f"reset {reset}", lambda s, kind=kind: synaptic(s) | recurrent(s) | kind
    yield "Lapicque", "beta", lambda s: {"beta": number(0.5, 0.95), "threshold": 0.3}
    yield "Lapicque", "beta, R", lambda s: {"beta": 0.7, "R": 2.0, "threshold": 0.5}
    yield "RLeaky", "one to one", lambda s: {"beta": number(0.3, 1)} | one_to_one(s)
    yield "RSynaptic", "one to one", lambda s: synaptic(s) | one_to_one(s)
    for reset in ("subtract", "zero", "none"):
        kind = {"reset_mechanism": reset}
        yield "Alpha", f"reset {reset}", lambda s, kind=kind: alpha(s) | kind
        hidden = {**kind, "init_hidden": True}
        yield "Alpha", f"reset {reset}, init_hidden", lambda s, hidden=hidden: alpha(s) | hidden
    yield "Leaky", "graded_spikes_factor", lambda s: {"beta": 0.8, "graded_spikes_factor": channels(s, 0.5, 3)}
    yield "Leaky", "init_hidden", lambda s: {"beta": 0.8, "init_hidden": True}
    yield "Leaky", "init_hidden, output", lambda s: {"beta": 0.8, "init_hidden": True, "output": True}
    yield "Synaptic", "init_hidden", lambda s: synaptic(s) | {"init_hidden": True}
    yield "RLeaky", "init_hidden", lambda s: {"beta": 0.8, "init_hidden": True} | recurrent(s)


CASES = list(cases())
NOTES = {
    ("Leaky", "reset subtract, reset_delay=False"): "reset_at=undelayed",
    ("Alpha", "reset subtract"): "reset_to_current",
}


def thread(neuron, hidden):
    """How states go from call to call: handed back, or kept by the layer."""
    back = 0 if neuron in ("RLeaky", "RSynaptic") else 1

    def follow(result):
        if not isinstance(result, tuple):
            return result, (), torch.zeros_like(result)
        return result[0], () if hidden else result[back:], result[-1]

    return follow


@pytest.mark.parametrize(("neuron", "options", "arguments"), CASES, ids=[f"{n}-{o}" for n, o, _ in CASES])
def test_neuron(neuron, options, arguments):
    wrong = []
    for seed, shape in enumerate(SHAPES):
        torch.manual_seed(seed)
        layer = getattr(snn, neuron)(spike_grad=step, **arguments(shape))
        model = OverTime(layer, thread(neuron, layer.init_hidden))
        found = compare(model, series(shape, seed, 1.5))
        assert found.total > 50
        sees_v = "init_hidden" not in options
        wrong.append(found.different or (found.error > 1e-9 and sees_v))
    row("snntorch", neuron, options, not any(wrong), NOTES.get((neuron, options), ""))
    assert not any(wrong)


@pytest.mark.parametrize("neuron", ["Leaky", "Synaptic"])
def test_float32_with_the_librarys_own_surrogate(neuron):
    """In float32 the executor runs the same operations one by one: all bits are the same."""
    torch.manual_seed(3)
    arguments = {"beta": 0.9} if neuron == "Leaky" else {"alpha": 0.7, "beta": 0.9}
    layer = getattr(snn, neuron)(spike_grad=surrogate.fast_sigmoid(), **arguments)
    model = OverTime(layer, thread(neuron, hidden=False))
    assert compare(model, series((30,), 3), torch.float32).different == 0


@pytest.mark.parametrize("options", ["beta", "learnt weights", "graded_spikes_factor"])
def test_leaky_parallel(options):
    torch.manual_seed(0)
    arguments = {"beta": {"beta": 0.8}, "learnt weights": {"learn_beta": True}}
    arguments["graded_spikes_factor"] = {"beta": 0.7, "graded_spikes_factor": 0.5}
    layer = snn.LeakyParallel(7, 9, threshold=0.3, spike_grad=step, **arguments[options])
    found = compare(AtOnce(layer), series((7,), 1))
    row("snntorch", "LeakyParallel", options, not found.different, "weights, an integrator and a threshold")
    assert found.total > 50
    assert not found.different


REFUSED = {
    ("Leaky", "inhibition"): (lambda: snn.Leaky(beta=0.9, inhibition=True), "without inhibition"),
    ("Leaky", "state_quant"): (lambda: snn.Leaky(beta=0.9, state_quant=lambda x: x), "without state_quant"),
    ("Leaky", "a spike_grad that is no step"): (lambda: snn.Leaky(beta=0.9, spike_grad=torch.sigmoid), "surrogate"),
    ("Alpha", "subtract, threshold < 0"): (lambda: snn.Alpha(0.9, 0.8, -1, reset_mechanism="subtract"), "starts above"),
    ("SLSTM", "all"): (lambda: snn.SLSTM(7, 7), "snn.RSynaptic"),
    ("SConv2dLSTM", "all"): (lambda: snn.SConv2dLSTM(3, 3, 3), "gates"),
    ("LeakyParallel", "weight_hh_enable"): (lambda: snn.LeakyParallel(7, 7, weight_hh_enable=True), "snn.RLeaky"),
}


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize(("neuron", "options"), REFUSED, ids=[f"{n}-{o}" for n, o in REFUSED])
def test_refused(neuron, options):
    make, says = REFUSED[neuron, options]
    shape = (3, 6, 6) if "Conv" in neuron else (7,)
    model = AtOnce(make()) if neuron == "LeakyParallel" else OverTime(make(), lambda r: (r[0], r[1:], r[-1]))
    with pytest.raises(HsnnError) as caught:
        capture(model, series(shape, 0, steps=4).float(), axes="TB")
    assert caught.value.findings[0].code == "E0402"
    assert says in str(caught.value)
    row("snntorch", neuron, options, "refused", caught.value.findings[0].message.partition(": ")[2])


def test_a_potential_that_starts_above_the_threshold_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = snn.Leaky(beta=0.9)

        def forward(self, x):
            mem, out = torch.full((x.shape[0], 5), 1.5), []
            for _ in range(4):
                spk, mem = self.lif(x, mem)
                out.append(spk)
            return torch.stack(out)

    with pytest.raises(HsnnError, match="starts above the threshold"):
        capture(Net(), torch.rand(2, 5))


class Tutorial5(nn.Module):
    """https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_5.html"""

    def __init__(self, steps=25):
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(64, 100), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(100, 10), snn.Leaky(beta=0.95)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


class Tutorial6(nn.Module):
    """https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_6.html, smaller."""

    def __init__(self):
        super().__init__()
        self.net = convolutional()

    def forward(self, x):
        utils.reset(self.net)
        recorded = [self.net(x) for _ in range(20)]
        return torch.stack([spk for spk, _ in recorded])


def convolutional():
    grad = surrogate.fast_sigmoid(slope=25)
    lif = {"beta": 0.5, "threshold": 0.15, "spike_grad": grad, "init_hidden": True}
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), snn.Leaky(**lif),
        nn.Conv2d(4, 8, 3), nn.MaxPool2d(2), snn.Leaky(**lif),
        nn.Flatten(), nn.Linear(32, 10), snn.Leaky(**lif, output=True),
    )  # fmt: skip


class Recurrent(nn.Module):
    """Explicit states, a recurrence of its own, and a record that is filled step by step."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(20, 30), snn.RLeaky(beta=0.8, linear_features=30)
        self.fc2, self.lif2 = nn.Linear(30, 8), snn.RSynaptic(alpha=0.7, beta=0.8, all_to_all=False, V=0.3)

    def forward(self, x):
        spk1, mem1 = self.lif1.init_rleaky()
        spk2, syn2, mem2 = self.lif2.init_rsynaptic()
        record = torch.zeros(30, x.shape[0], 8)
        for step in range(30):
            spk1, mem1 = self.lif1(self.fc1(x), spk1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), spk2, syn2, mem2)
            record[step] = spk2
        return record


def spikes_of(graph, x):
    return FloatExecutor(graph, torch.float32).run(x.numpy()).output


def test_tutorial_5():
    torch.manual_seed(0)
    model, x, said = Tutorial5(), torch.rand(6, 64) * 3, []
    graph = capture(model, x, findings=said)
    assert graph.timesteps == 25
    assert [finding.code for finding in said] == ["W0466"]
    expected = model(x)[0].transpose(0, 1).detach().numpy()
    assert expected.sum() > 50
    assert (spikes_of(graph, x) == expected).all()


def test_tutorial_6():
    torch.manual_seed(1)
    model, x = Tutorial6(), torch.rand(3, 1, 16, 16) * 3
    expected = model(x).transpose(0, 1).detach().numpy()
    assert expected.sum() > 20
    assert (spikes_of(capture(model, x), x) == expected).all()


def test_a_sequential_that_is_one_step():
    torch.manual_seed(1)
    model, x = convolutional(), torch.rand(3, 1, 16, 16) * 3
    graph = capture(model, x, timesteps=12)
    utils.reset(model)
    expected = torch.stack([model(x)[0] for _ in range(12)], 1).detach().numpy()
    assert graph.timesteps == 12
    assert (spikes_of(graph, x) == expected).all()


def test_recurrent_layers():
    torch.manual_seed(2)
    model, x = Recurrent(), torch.rand(4, 20) * 3
    graph = capture(model, x)
    assert {(edge.src, edge.dst) for edge in graph.edges_as_added() if edge.delay} == {
        ("lif1", "lif1.recurrent"), ("lif2", "lif2.recurrent"),
    }  # fmt: skip
    expected = model(x).transpose(0, 1).detach().numpy()
    assert expected.sum() > 50
    assert (spikes_of(graph, x) == expected).all()


def test_batch_normalisation_of_its_own_for_every_step():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 8), snn.Leaky(beta=0.8, init_hidden=True)
            self.bn = nn.ModuleList([nn.BatchNorm1d(8) for _ in range(5)])

        def forward(self, x):
            return torch.stack([self.lif(bn(self.fc(x))) for bn in self.bn])

    with pytest.raises(HsnnError) as caught:
        capture(Net(), torch.rand(4, 6))
    (finding,) = caught.value.findings
    assert finding.code == "E0413"
    assert "step 1 computes bn.1" in finding.message
    assert "bn.4" in finding.message


def test_table():
    parallel = [("LeakyParallel", o) for o in ("beta", "learnt weights", "graded_spikes_factor")]
    up_to_date("snntorch", [*((n, o) for n, o, _ in CASES), *parallel, *REFUSED])


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_a_neuron_that_starts_above_its_threshold_is_refused(mechanism: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), snn.Leaky(0.9, threshold=-0.1, reset_mechanism=mechanism, init_hidden=True))
    with pytest.raises(HsnnError, match="starts above the threshold"):
        capture(model, torch.rand(2, 4), timesteps=8)
