"""Plain networks: each is captured as what PyTorch computes, and compiles or says why not."""

import time

import numpy as np
import pytest
import torch
from ann_models import INPUTS, MODELS, resnet
from dialect_rows import row, up_to_date
from test_capture import randomize
from torch import nn

import hsnn_compiler as hc
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir import storage
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse, to_text
from hsnn_compiler.reference.float_executor import FloatExecutor


def made(name):
    """A model with random weights, and a batch of inputs."""
    make, inputs, _ = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return model, [torch.rand(6, *INPUTS[kind]) for kind in inputs.split()]


def assert_computes(graph, model, xs):
    """The graph gives what the model gives, whatever the batch."""
    executor = FloatExecutor(graph)
    names = [node.name for node in graph.of_kind("Input")]
    for size in (6, 1):
        with torch.no_grad():
            expected = model(*(x[:size].clone() for x in xs))
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        outputs = executor.run({name: x[:size].numpy() for name, x in zip(names, xs, strict=True)}).outputs
        for output, tensor in zip(outputs.values(), expected, strict=True):
            np.testing.assert_allclose(output, tensor.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_captured_and_stored(name, tmp_path):
    model, xs = made(name)
    graph = capture(model, [x[:1] for x in xs])
    assert_computes(graph, model, xs)
    storage.write(graph, tmp_path / "graph.h5")
    back = storage.read(tmp_path / "graph.h5")
    assert graphs_equal(back, graph)
    assert graphs_equal(parse(to_text(graph), arrays_of(graph)), graph)
    assert_computes(back, model, xs)


def compiled(name):
    """Whether a model compiles for Loihi 2, and why not or what is on the chip."""
    model, xs = made(name)
    try:
        program = hc.compile(model, calibration=xs[0].numpy()) if len(xs) == 1 else hc.compile(capture(model, xs))
    except HsnnError as error:
        return False, error.findings[0]
    return True, program


@pytest.mark.parametrize("name", MODELS)
def test_compiles_or_says_why_not(name):
    yes, what = compiled(name)
    assert yes is MODELS[name][2], what
    if yes:
        chip = sum(node.on_chip for node in what.graph)
        note = f"{chip} nodes on the chip, {len(what.graph) - chip} on the host"
    else:
        assert what.code in ("E0430", "E0216", "E0434"), what
        assert what.message
        note = f"{what.code}: {what.message.partition(';')[0]}"
    row("torch", name, "yes", yes, note)


def test_table_is_up_to_date():
    header = ("network", "captured graph equals PyTorch", "compiles for Loihi 2", "where it runs, or why it does not")
    up_to_date("torch", [(name, "yes") for name in MODELS], header)


def test_a_chip_segment_behind_host_calls_runs():
    model, (x,) = made("Vision Transformer, then ReLU layers")
    program = hc.compile(model, calibration=x.numpy(), timesteps=64)
    assert [node.kind for node in program.graph if node.on_chip].count("Affine") == 2
    assert any("F.multi_head_attention_forward has no spiking form" in note for s in program.stages for note in s.notes)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(program.simulate(x.numpy(), backend="reference").output, expected, atol=0.1)


def test_everything_in_the_way_is_named():
    """Attention, a custom function that cannot be seen into, and a branch on the data: all three at once."""

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(np.rint(x.numpy()))

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.MultiheadAttention(6, 2, batch_first=True) for _ in range(2))

        def forward(self, x):
            x = self.second(*[self.first(x, x, x)[0]] * 3)[0]
            x = x + Round.apply(x)
            return x if x.mean() > 0 else -x

    with pytest.raises(HsnnError) as error:
        capture(Model(), torch.rand(2, 9, 6))
    found = error.value.findings
    assert [finding.code for finding in found] == ["E0403", "E0403", "W0436"]
    assert [finding.source.line for finding in found[:2]] == [
        Round.forward.__code__.co_firstlineno + 2,
        Model.forward.__code__.co_firstlineno + 3,
    ]
    assert found[2].node == "first"
    assert "F.multi_head_attention_forward" in found[2].message
    assert "1 modules like it" in found[2].message
    assert error.value.exit_code == 4


def test_resnet18_is_captured_in_seconds():
    model = randomize(resnet((64, 128, 256, 512))).eval()
    x = torch.rand(2, 3, 32, 32)
    start = time.perf_counter()
    graph = capture(model, x)
    assert time.perf_counter() - start < 10
    assert len(graph.of_kind("Conv2d")) == 20
    with torch.no_grad():
        expected = model(x).numpy()
    got = FloatExecutor(graph).run(x.numpy()).output
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
