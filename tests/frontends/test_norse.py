"""Norse's neurons and models, captured: every spike as the library has it."""

import pytest
import torch
from torch import nn

norse = pytest.importorskip("norse.torch", reason="norse is not installed (constraints-peers.txt)")

from dialect_nets import SHAPES, AtOnce, OverTime, compare, series  # noqa: E402
from dialect_rows import row, up_to_date  # noqa: E402
from norse.torch.functional.reset import reset_subtract  # noqa: E402

from hsnn_compiler.diagnostics import HsnnError  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402

WIDTH = 9  # of recurrent layers


def rand(*shape, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(*shape)


def lif(shape=(1,), method="super", one=False):
    """Random parameters of a LIF, numbers or one per neuron."""

    def draw(low, high):
        return rand(1, low=low, high=high)[0] if one else rand(*shape, low=low, high=high)

    return norse.LIFParameters(
        tau_syn_inv=draw(50, 400), tau_mem_inv=draw(20, 200), v_leak=draw(-0.2, 0.3), v_th=draw(0.4, 1.2),
        v_reset=draw(-0.3, 0.3), method=method,
    )  # fmt: skip


def refractory(rho, **options):
    return norse.LIFRefracParameters(lif(one=True, **options), torch.tensor(rho))


def box(**options):
    return norse.LIFBoxParameters(tau_mem_inv=torch.tensor(80.0), v_leak=torch.tensor(0.1), **options)


def li(one=True):
    return norse.LIParameters(torch.tensor(150.0), torch.tensor(60.0), torch.tensor(0.2))


IAF = norse.IAFParameters(v_th=torch.tensor(1.7), v_reset=torch.tensor(-0.4))

# Neuron, options, what makes it for a shape, the scale of inputs, whether it has weights of its own.
CASES = [
    ("LIFCell", "", lambda s: norse.LIFCell(), 12, False),
    ("LIFCell", "parameters per neuron", lambda s: norse.LIFCell(lif(s)), 12, False),
    ("LIFCell", "method tanh, dt=0.003", lambda s: norse.LIFCell(lif(s, "tanh"), dt=0.003), 5, False),
    ("LIFCell", "method heaviside", lambda s: norse.LIFCell(lif(s, "heaviside")), 12, False),
    ("LIFRecurrentCell", "", lambda s: norse.LIFRecurrentCell(s[0], WIDTH), 5, True),
    (
        "LIFRecurrentCell", "parameters, autapses",
        lambda s: norse.LIFRecurrentCell(s[0], WIDTH, lif(one=True), autapses=True), 5, True,
    ),
    ("LIF", "", lambda s: norse.LIF(lif(one=True)), 12, False),
    ("LIF", "record_states", lambda s: norse.LIF(record_states=True), 12, False),
    ("LIFRecurrent", "", lambda s: norse.LIFRecurrent(s[0], WIDTH, lif(one=True)), 5, True),
    ("LIFRefracCell", "", lambda s: norse.LIFRefracCell(), 12, False),
    ("LIFRefracCell", "rho_reset=2.5", lambda s: norse.LIFRefracCell(refractory(2.5)), 12, False),
    ("LIFRefracRecurrentCell", "", lambda s: norse.LIFRefracRecurrentCell(s[0], WIDTH, refractory(3.0)), 6, True),
    ("LIFRefracRecurrent", "", lambda s: norse.LIFRefracRecurrent(s[0], WIDTH, refractory(1.0)), 6, True),
    ("LIFBoxCell", "", lambda s: norse.LIFBoxCell(box()), 12, False),
    ("LIFBoxCell", "reset_subtract", lambda s: norse.LIFBoxCell(box(reset_method=reset_subtract)), 12, False),
    ("IAFCell", "", lambda s: norse.IAFCell(IAF), 1, False),
    ("IAF", "", lambda s: norse.IAF(IAF), 1, False),
    ("LICell", "", lambda s: norse.LICell(li()), 5, False),
    ("LI", "", lambda s: norse.LI(li()), 5, False),
    ("LILinearCell", "", lambda s: norse.LILinearCell(s[0], WIDTH, li()), 5, True),
    ("LIBoxCell", "", lambda s: norse.LIBoxCell(), 5, False),
]  # fmt: skip
SERIES = ("LIF", "LIFRecurrent", "LIFRefracRecurrent", "IAF", "LI")
NOTES = {"LIFRefracCell": "refractory=ceil(rho_reset)", "LI": "potentials to 1e-12", "LICell": "potentials to 1e-12"}
NOTES |= {"LIBoxCell": NOTES["LI"], "LILinearCell": NOTES["LI"]}


def thread(result):
    output, state = result
    return output, (state,), getattr(state, "lif", state).v


@pytest.mark.parametrize(
    ("neuron", "options", "make", "scale", "weights"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES]
)
def test_neuron(neuron, options, make, scale, weights):
    right = []
    for seed, shape in enumerate(SHAPES[:1] if weights else SHAPES):
        torch.manual_seed(seed)
        layer = make(shape)
        model = AtOnce(layer) if neuron in SERIES else OverTime(layer, thread)
        found = compare(model, series(shape, seed, scale))
        if neuron.startswith("LI") and not neuron.startswith("LIF"):
            right.append(found.largest < 1e-12)
        else:
            assert found.total > 50
            right.append(found.different == 0 and found.error < 1e-9)
    row("norse", neuron, options, all(right), NOTES.get(neuron, ""))
    assert all(right)


REFUSED = {
    "LSNN": norse.LSNN, "LSNNCell": norse.LSNNCell, "LIFAdEx": norse.LIFAdEx, "LIFAdExCell": norse.LIFAdExCell,
    "LIFEx": norse.LIFEx, "LIFExCell": norse.LIFExCell, "CobaLIFCell": lambda: norse.CobaLIFCell(7, 7),
    "LSNNRecurrentCell": lambda: norse.LSNNRecurrentCell(7, 7),
}  # fmt: skip


@pytest.mark.parametrize("neuron", REFUSED)
def test_refused(neuron):
    layer = REFUSED[neuron]()
    is_cell = neuron.endswith("Cell")
    model = OverTime(layer, lambda r: (r[0], (r[1],), r[0])) if is_cell else AtOnce(layer)
    with pytest.raises(HsnnError) as caught:
        capture(model, series((7,), 0, steps=4).float(), axes="TB")
    finding = caught.value.findings[0]
    assert finding.code == "E0402"
    assert neuron in finding.message
    row("norse", neuron, "", "refused", "no neuron of the graph computes this")


def test_refused_parameters():
    class Own:
        def __call__(self, z, v, reset, th):
            return v

    cases = [
        (norse.LIFBoxCell(box(reset_method=Own())), "reset_method"),
        (norse.LIFRefracCell(norse.LIFRefracParameters(rho_reset=rand(7, low=1, high=9))), "refractory periods"),
    ]
    for layer, says in cases:
        with pytest.raises(HsnnError, match=says):
            capture(OverTime(layer, thread), series((7,), 0, steps=4).float(), axes="TB")


def fires(threshold=0.3):
    return norse.LIFParameters(v_th=torch.tensor(threshold))


def whole_series():
    return norse.SequentialState(
        norse.Lift(nn.Conv2d(2, 4, 3)), norse.LIF(fires()), norse.Lift(nn.MaxPool2d(2)), nn.Flatten(2),
        norse.LIFRecurrent(16, 8, fires()), norse.Lift(nn.Linear(8, 3)), norse.LIF(fires(0.1)),
    )  # fmt: skip


def one_step():
    return norse.SequentialState(
        nn.Conv2d(2, 4, 3), norse.LIFCell(fires()), nn.MaxPool2d(2), nn.Flatten(1), nn.Linear(16, 8),
        norse.LIFRecurrentCell(8, 8, fires()), nn.Linear(8, 3), norse.LIFCell(fires(0.1)),
    )  # fmt: skip


MODELS = {
    "SequentialState over time": lambda: AtOnce(whole_series()),
    "SequentialState in a loop": lambda: OverTime(one_step(), lambda r: (r[0], (r[1],), None)),
    "Lift of a SequentialState": lambda: AtOnce(norse.Lift(one_step())),
    "SequentialState in a SequentialState": lambda: AtOnce(norse.SequentialState(whole_series(), norse.LIF())),
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    torch.manual_seed(1)
    model = MODELS[name]()
    found = compare(model, series((2, 6, 6), 1, 4, steps=60))
    assert found.total > 15 or "in a Seq" in name
    assert found.different == 0


def test_one_step_per_call():
    torch.manual_seed(1)
    model, x = one_step().double(), torch.rand(3, 2, 6, 6, dtype=torch.float64) * 5
    graph = capture(model, x, timesteps=30)
    state, expected = None, []
    for _ in range(30):
        z, state = model(x, state)
        expected.append(z)
    found = FloatExecutor(graph, torch.float64).run(x.numpy()).output
    assert (found == torch.stack(expected, 1).detach().numpy()).all()


class Mnist(nn.Module):
    """The shape of Norse's MNIST example: constant currents to spikes, a loop, a record filled step by step."""

    def __init__(self, record=True):
        super().__init__()
        self.encode = norse.ConstantCurrentLIFEncoder(20)
        self.conv, self.lif = nn.Conv2d(1, 3, 3), norse.LIFCell(fires(0.2))
        self.count, self.fc, self.out = norse.RegularizationCell(), nn.Linear(48, 5), norse.LICell()

    def forward(self, x):
        x = self.encode(x)
        s = so = None
        voltages = torch.empty(20, x.shape[1], 5)
        for step in range(20):
            z, s = self.lif(self.conv(x[step]), s)
            z, _ = self.count(z, s)
            v, so = self.out(self.fc(z.flatten(1)), so)
            voltages[step] = v
        return voltages


def test_mnist():
    torch.manual_seed(0)
    model, x = Mnist(), torch.rand(4, 1, 6, 6) * 8
    graph = capture(model, x)
    found = FloatExecutor(graph, torch.float32).run(x.numpy()).output
    assert graph.timesteps == 20
    torch.testing.assert_close(torch.from_numpy(found), model(x).transpose(0, 1).detach(), rtol=1e-4, atol=1e-4)


def test_random_encoders_are_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode, self.lif = norse.PoissonEncoder(8), norse.LIF()

        def forward(self, x):
            return self.lif(self.encode(x))[0]

    with pytest.raises(HsnnError) as caught:
        capture(Net(), torch.rand(2, 5))
    assert caught.value.findings[0].code == "E0411"


def test_table():
    up_to_date("norse", [*(case[:2] for case in CASES), *((neuron, "") for neuron in REFUSED)])
