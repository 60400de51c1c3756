"""What capture refuses: every operation is in the graph or among the findings."""

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture, registry
from hsnn_compiler.ir.ops import ReLU

ROW = torch.randn(3, 6)
IMAGE = torch.randn(3, 2, 8, 8)


class Fn(nn.Module):
    """A model whose forward is the given function."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *xs):
        return self.function(self, *xs)


def findings(model, *inputs):
    model = model if isinstance(model, nn.Module) else Fn(model)
    with pytest.raises(HsnnError) as error:
        capture(model, list(inputs) or ROW)
    assert error.value.exit_code == 4
    return error.value.findings


def codes(model, *inputs):
    return [finding.code for finding in findings(model, *inputs)]


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.EmbeddingBag(9, 4), torch.ones(3, 2, dtype=torch.long)),
        (nn.FractionalMaxPool2d(2, output_size=4), IMAGE),
        (nn.CrossMapLRN2d(2), IMAGE),
    ],
)
def test_unknown_torch_module_is_one_finding(module, x):
    def forward(m, x):
        return m.block[0](x)

    (finding,) = findings(Fn(lambda m, x: first(forward(m, x)), block=nn.ModuleList([module])), x)
    assert finding.code == "E0401"
    assert finding.node == "block.0"
    assert type(module).__name__ in finding.message
    assert finding.source.file.endswith("test_findings.py")
    assert finding.source.line == forward.__code__.co_firstlineno + 1
    assert finding.supported
    assert finding.suggestion


def first(result):
    """The first tensor of a module's result."""
    return result if isinstance(result, torch.Tensor) else result[0]


def test_unknown_module_counts_once():
    assert codes(nn.Sequential(nn.CrossMapLRN2d(2), nn.Linear(8, 2)), IMAGE) == ["E0401"]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda m, x: torch.lgamma(x), "E0402"),
        (lambda m, x: x.erfinv(), "E0402"),
        (lambda m, x: x.argmax(1), "E0402"),
        (lambda m, x: (x > 0).float(), "E0402"),
        (lambda m, x: torch.fft.rfft(x).real, "E0402"),
        (lambda m, x: x.sum(1, dtype=torch.float64), "E0402"),
        (lambda m, x: x.mean(), "E0402"),
        (lambda m, x: x.sum(), "E0402"),
        (lambda m, x: x.mean(0), "E0402"),
        (lambda m, x: x - x.mean(0, keepdim=True), "E0402"),
        (lambda m, x: F.softmax(x, dim=0), "E0402"),
        (lambda m, x: torch.cat([x, x]), "E0402"),
        (lambda m, x: x.double(), "E0402"),
        (lambda m, x: F.softmax(x, dim=1, dtype=torch.float64), "E0402"),
        (lambda m, x: x * torch.ones(6, dtype=torch.float64), "E0402"),
        (lambda m, x: x.view(torch.int32), "E0402"),
        (lambda m, x: in_bfloat16(x), "E0402"),
        (lambda m, x: F.dropout(x), "E0402"),
        (lambda m, x: F.batch_norm(x, None, None, training=True), "E0402"),
        (lambda m, x: torch.randn_like(x) + x, "E0402"),
        (lambda m, x: torch.ops.aten.relu(x), "E0402"),
        (lambda m, x: x.data, "E0402"),
        (lambda m, x: torch.full_like(x, 2).copy_(x), "E0402"),
        (lambda m, x: x * 1 if (x > 0).any() else x, "E0403"),
        (lambda m, x: x * float(x[0, 0]), "E0403"),
        (lambda m, x: x * x.max().item(), "E0403"),
        (lambda m, x: x * torch.from_numpy(x.numpy()), "E0403"),
        (lambda m, x: x + torch.tensor(x.tolist()), "E0403"),
        (lambda m, x: x * torch.from_numpy(np.asarray(x)), "E0403"),
        (lambda m, x: x if x.equal(x) else -x, "E0403"),
        (lambda m, x: torch.ones(3, 6), "E0404"),
        (lambda m, x: {"y": x}, "E0404"),
        (lambda m, x: (), "E0404"),
        (lambda m, x: x * nn.Parameter(x), "E0404"),
        (lambda m, x: torch.vmap(lambda row: row * 2)(x), "E0404"),
        (lambda m, x: scripted(x) + x, "E0404"),
        (lambda m, x: torch.add(x, 1, out=torch.empty_like(ROW)), "E0405"),
        (lambda m, x: (z := torch.zeros_like(x), z[:1], z.add_(x))[2], "E0405"),
        (lambda m, x: (x.detach().relu_(), x * 2)[1], "E0405"),
        (lambda m, x: (x.view(-1, 6, 1).flatten(1).relu_(), x)[1], "E0405"),
        (lambda m, x: x.T, "E0406"),
        (lambda m, x: x @ x.T, "E0406"),
        (lambda m, x: x[0], "E0406"),
        (lambda m, x: next(iter(x)), "E0406"),
        (lambda m, x: F.linear(x, x[:2]), "E0406"),
        (lambda m, x: x.cumsum(0), "E0406"),
        (lambda m, x: x.flip(0), "E0406"),
        (lambda m, x: x.roll(1, 0), "E0406"),
        (lambda m, x: F.normalize(x, dim=0), "E0406"),
        (lambda m, x: x / x.norm(), "E0406"),
        (lambda m, x: x.sort(0)[0], "E0406"),
        (lambda m, x: x * x.max(0)[0], "E0406"),
        (lambda m, x: x[torch.arange(len(x) - 1, -1, -1)], "E0406"),
        (lambda m, x: x.view(3, -1), "E0406"),
        (lambda m, x: x.view(1, -1), "E0406"),
        (lambda m, x: x.view(-1, 3), "E0406"),
        (lambda m, x: x.flatten(), "E0406"),
        (lambda m, x: x.view(5, -1), "E0406"),
        (lambda m, x: x * torch.arange(5.0).view(5, 1), "E0406"),
        (lambda m, x: x * torch.arange(len(x)).view(-1, 1), "E0406"),
        (lambda m, x: x.nonsense(), "E0410"),
        (lambda m, x: x * torch.rand(6), "E0411"),
    ],
)  # fmt: skip
def test_refused(function, code):
    found = findings(function)
    assert code in [finding.code for finding in found], found


def in_bfloat16(x):
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(x, torch.ones(2, 6))


def scripted(x):
    return torch.jit.script(_scripted)(x)


def _scripted(x):
    return x * 2 + 1


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.Flatten(0),
        nn.Softmax(dim=0),
    ],
    ids=str,
)
def test_unsupported_form_of_a_module(module):
    (finding,) = findings(Fn(lambda m, x: first(m.layer(x)), layer=module), IMAGE)
    assert finding.code in ("E0401", "E0402", "E0406")
    assert finding.node == "layer"


def test_all_findings_at_once_with_their_places():
    def forward(m, x):
        y = torch.lgamma(m.fc(x))
        y = m.inner(y)
        return torch.digamma(y)

    model = Fn(forward, fc=nn.Linear(6, 6), inner=Fn(lambda m, x: F.relu(x).erfinv()))
    found = findings(model)
    line = forward.__code__.co_firstlineno
    assert [f.message.split()[1] for f in found] == ["torch.lgamma", "torch.Tensor.erfinv", "torch.digamma"]
    assert [f.node for f in found] == ["(forward)", "inner (forward)", "(forward)"]
    assert [f.source.line for f in found] == [line + 1, line + 5, line + 3]


def test_same_finding_in_a_python_loop_is_told_once():
    def forward(m, x):
        for _ in range(3):
            x = torch.lgamma(x)
        return x

    assert codes(forward) == ["E0402"]


def test_branching_hides_what_only_led_to_it():
    assert codes(lambda m, x: F.relu(x) if x.sum() > 0 else x) == ["E0403"]


def test_custom_function_with_unsupported_inside():
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x > 0).to(x.dtype)

    found = findings(lambda m, x: Spike.apply(x))
    assert found[0].source.line == Spike.forward.__code__.co_firstlineno + 2
    assert "torch.bool to torch.float32" in found[0].message


def test_state_between_calls():
    class Leaky(nn.Module):
        mem = None

        def forward(self, x):
            self.mem = x if self.mem is None else 0.5 * self.mem + x
            return self.mem

    assert codes(Leaky()) == ["E0411"]


def test_in_place_change_seen_through_a_view():
    def forward(m, x):
        y = m.fc(x)
        z = y.view(y.shape)
        z.mul_(2)
        return y

    assert codes(Fn(forward, fc=nn.Linear(6, 6))) == ["E0405"]


def test_assignment_to_a_part():
    def forward(m, x):
        y = m.fc(x)
        y[:, 0] = 0
        return F.relu(y)

    assert codes(Fn(forward, fc=nn.Linear(6, 6))) == ["E0402"]


def test_computed_value_written_into_a_buffer():
    def forward(m, x):
        buffer = torch.zeros(len(x), 8)
        buffer[:, :6] = x
        return buffer

    assert codes(forward) == ["E0405"]


def test_model_that_fails_on_the_example():
    (finding,) = findings(nn.Sequential(nn.Linear(5, 2)))
    assert finding.code == "E0410"
    assert "RuntimeError" in finding.message


def test_code_that_capture_cannot_see_is_noticed():
    """Torch's hooks are per thread: what runs in another is found by running the graph."""

    def elsewhere(function):
        with ThreadPoolExecutor() as pool:
            return pool.submit(function).result()

    assert codes(lambda m, x: elsewhere(lambda: F.relu(x)) + x, ROW[:1]) == ["E0406"]
    assert codes(lambda m, x: elsewhere(lambda: F.relu(x)), ROW[:1]) == ["E0404"]


def test_graph_is_run_against_the_model(monkeypatch):
    monkeypatch.setitem(registry.MODULES, nn.Softsign, registry.Entry(lambda call, mod, x: call.emit(ReLU(), x)))
    with pytest.raises(HsnnError, match="E0103"):
        capture(nn.Softsign(), ROW)


def test_handler_that_overlooks_an_argument(monkeypatch):
    overlooking = registry.Entry(lambda call, x, y: call.emit(ReLU(), x), "copysign")
    monkeypatch.setitem(registry.FUNCTIONS, torch.copysign, overlooking)
    assert codes(lambda m, x: torch.copysign(x, x + 1)) == ["E0402"]


def test_swallowed_exceptions_do_not_hide_findings():
    def forward(m, x):
        try:
            return torch.lgamma(x)
        except Exception:
            return x

    assert codes(forward) == ["E0402"]


@pytest.mark.parametrize("example", [[], torch.tensor(1.0), torch.zeros(0, 3), [ROW, ROW[:2]], [1]])
def test_bad_example(example):
    with pytest.raises(HsnnError, match="E0408"):
        capture(nn.Identity(), example)


@pytest.mark.filterwarnings("ignore")
def test_script_modules():
    with pytest.raises(HsnnError, match="E0401"):
        capture(torch.jit.script(nn.Linear(6, 2)), ROW)
    inner = torch.jit.trace(nn.Linear(6, 2).eval(), ROW)
    assert codes(nn.Sequential(inner))[0] in ("E0401", "E0404")


def test_pages_list_what_the_tables_hold():
    """`hsnn-compile explain` names every supported module and function, and every code has a page."""
    pages = files("hsnn_compiler.codes")
    modules = pages.joinpath("E0401.md").read_text()
    functions = pages.joinpath("E0402.md").read_text()
    known = [cls.__name__ for cls in registry.MODULES if cls.__module__.startswith(("torch.", "hsnn_compiler."))]
    assert not [name for name in known if f"`{name}`" not in modules]
    assert not [e.stem for e in registry.FUNCTIONS.values() if e.stem and f"`{e.stem}`" not in functions]
    for number in (*range(401, 412), 420):
        assert pages.joinpath(f"E0{number}.md").read_text().startswith("# ")
