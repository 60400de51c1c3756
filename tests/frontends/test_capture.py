"""Capture of ordinary models: the graph computes what PyTorch computes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluate import assert_same
from torch import nn

from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir.graph import Edge
from hsnn_compiler.ir.records import graphs_equal
from hsnn_compiler.ir.text import arrays_of, parse, to_text


def randomize(model, seed=0):
    """Give every parameter and buffer a value that matters (running statistics included)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1 * name.endswith("var"))
    return model


def check(model, *inputs):
    """Capture with a single sample, compare on a batch; the text of the graph must parse back."""
    randomize(model)
    graph = capture(model, [x[:1] for x in inputs])
    assert_same(graph, model, *inputs)
    assert graphs_equal(parse(to_text(graph), arrays_of(graph)), graph)
    return graph


def names(graph):
    return [node.name for node in graph]


class Fn(nn.Module):
    """A model whose forward is the given function."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *xs):
        return self.function(self, *xs)


torch.manual_seed(0)
IMAGE = torch.randn(4, 3, 8, 8)
ROW = torch.randn(4, 6)


def test_sequential():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 0)),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(24, 5),
    )
    graph = check(model, IMAGE)
    assert names(graph) == ["input", *(f"_{i}" for i in range(10)), "output"]
    assert graph["_0"].source.module == "0"
    assert graph["_2"].type.shape == (4, 8, 8)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 6, 3, groups=3),
        nn.Conv2d(3, 3, 3, groups=3, padding="same", dilation=2),
        nn.Conv2d(3, 2, (2, 4), padding="same"),
        nn.Conv2d(3, 2, 3, padding="valid", stride=2),
        nn.BatchNorm2d(3, affine=False, eps=0.1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.MaxPool2d(3, padding=1),
        nn.AdaptiveAvgPool2d((1, None)),
        nn.AdaptiveAvgPool2d((4, 2)),
        nn.AdaptiveAvgPool2d(3),
        nn.AvgPool2d(3, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Unflatten(1, (1, 3)),
        nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Softsign(),
        nn.SiLU(),
        nn.ELU(0.5),
        nn.Hardswish(),
        nn.PReLU(3),
        nn.Mish(),
        nn.GLU(-1),
        nn.ZeroPad2d(1),
        nn.PixelUnshuffle(2),
        nn.AdaptiveMaxPool2d(3),
        nn.LayerNorm(8),
        nn.LayerNorm([8, 8], elementwise_affine=False, eps=0.3),
        nn.Hardtanh(0, 2),
        nn.LeakyReLU(0.3),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Softmax(dim=1),
        nn.LogSoftmax(dim=-1),
        nn.Linear(8, 3),
        nn.Linear(8, 3, bias=False),
        nn.Flatten(2),
        nn.Flatten(1, 2),
        nn.Identity(),
        nn.Dropout2d(0.3),
    ],
    ids=str,
)
def test_module_alone(module):
    graph = check(module, IMAGE)
    assert len(graph) == 3


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(3, 6, 3, stride=2, padding=1, groups=3),
        nn.BatchNorm1d(3),
        nn.Conv1d(3, 2, 5, padding="same"),
        nn.AvgPool1d(2),
        nn.AvgPool1d(3, 1, 1),
        nn.AvgPool1d(2, ceil_mode=True),
        nn.AdaptiveAvgPool1d(3),
        nn.AdaptiveAvgPool1d(2),
        nn.MaxPool1d(2, padding=1),
        nn.LocalResponseNorm(2),
    ],
)
def test_module_on_series(module):
    check(module, torch.randn(4, 3, 9))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda m, x: F.relu(x), "ReLU"),
        (lambda m, x: torch.relu(input=x), "ReLU"),
        (lambda m, x: x.relu(), "ReLU"),
        (lambda m, x: x.clone().relu_(), "ReLU"),
        (lambda m, x: F.relu(x.clone(), inplace=True), "ReLU"),
        (lambda m, x: x.clamp(min=0), "ReLU"),
        (lambda m, x: torch.clamp(x, 0, 2), "Clip"),
        (lambda m, x: F.relu6(x), "Clip"),
        (lambda m, x: F.hardtanh(x, -0.5, 0.5), "Clip"),
        (lambda m, x: F.leaky_relu(x, 0.2), "LeakyReLU"),
        (lambda m, x: torch.sigmoid(x), "Sigmoid"),
        (lambda m, x: x.tanh(), "Tanh"),
        (lambda m, x: F.tanh(x), "Tanh"),
        (lambda m, x: F.gelu(x, approximate="tanh"), "GELU"),
        (lambda m, x: F.softmax(x, dim=-1), "Softmax"),
        (lambda m, x: x.softmax(1), "Softmax"),
        (lambda m, x: x.log_softmax(-2), "Softmax"),
        (lambda m, x: F.linear(x, m.w), "Linear"),
        (lambda m, x: F.linear(x, m.w, m.b), "Affine"),
        (lambda m, x: x @ m.w.t(), "Linear"),
        (lambda m, x: F.conv2d(x, m.k, stride=2, padding=1), "Conv2d"),
        (lambda m, x: F.conv2d(x, m.k, m.b[:2], padding="same"), "Conv2d"),
        (lambda m, x: F.batch_norm(x, m.c, m.c + 1, m.c, m.c, eps=0.01), "BatchNorm"),
        (lambda m, x: F.layer_norm(x, (8,), m.w[0]), "LayerNorm"),
        (lambda m, x: F.max_pool2d(x, 3, 2, padding=1), "MaxPool2d"),
        (lambda m, x: F.max_pool2d(x, kernel_size=2), "MaxPool2d"),
        (lambda m, x: F.avg_pool2d(x, (2, 4)), "AvgPool2d"),
        (lambda m, x: F.adaptive_avg_pool2d(x, (2, 1)), "AvgPool2d"),
        (lambda m, x: F.dropout(x, 0.4, training=m.training), "NoOp"),
        (lambda m, x: torch.flatten(x, 1), "Flatten"),
        (lambda m, x: x.view(-1, 192), "Flatten"),
        (lambda m, x: x.view(x.size(0), -1), "Flatten"),
        (lambda m, x: x.reshape(len(x), 3, 64), "Flatten"),
        (lambda m, x: x.mean(dim=(2, 3)), "Mean"),
        (lambda m, x: torch.mean(x, -1, keepdim=True), "Mean"),
        (lambda m, x: x + x, "Add"),
        (lambda m, x: torch.add(x, x), "Add"),
        (lambda m, x: x * 2.5, "Scale"),
        (lambda m, x: 3 * x, "Scale"),
        (lambda m, x: x * m.c.view(3, 1, 1), "Scale"),
        (lambda m, x: m.c.view(1, 3, 1, 1) * x, "Scale"),
        (lambda m, x: x * m.w[0], "Scale"),
        (lambda m, x: x * torch.full((x.size(0), 1, 1, 1), 3.0), "Scale"),
        (lambda m, x: x * np.float32(3), "Scale"),
        (lambda m, x: x / 7, "Scale"),
        (lambda m, x: x / m.c.view(3, 1, 1), "Scale"),
        (lambda m, x: -x, "Scale"),
        (lambda m, x: x + 1.5, "BatchNorm"),
        (lambda m, x: 1 + x, "BatchNorm"),
        (lambda m, x: x + m.c.view(3, 1, 1), "BatchNorm"),
        (lambda m, x: x - m.c.view(1, 3, 1, 1), "BatchNorm"),
        (lambda m, x: torch.cat([x, x, x], dim=1), "Concat"),
        (lambda m, x: torch.concat((x, x), -1), "Concat"),
        (lambda m, x: x**2, "HostCall"),
        (lambda m, x: 1 / x, "HostCall"),
        (lambda m, x: x * x, "HostCall"),
        (lambda m, x: x.clamp(torch.zeros(8), torch.ones(8)), "HostCall"),
        (lambda m, x: x[:, 0], "HostCall"),
        (lambda m, x: x[:, torch.tensor([2, 0])], "HostCall"),
        (lambda m, x: x[:, [True, False, True]], "HostCall"),
        (lambda m, x: x[..., None, ::2], "HostCall"),
        (lambda m, x: x.permute(0, 2, 3, 1), "HostCall"),
        (lambda m, x: x.mT, "HostCall"),
        (lambda m, x: x.view(-1, 3, 4, 16), "HostCall"),
        (lambda m, x: x.unsqueeze(1), "HostCall"),
        (lambda m, x: x[..., :5].contiguous().view(-1, 3, 2, 4, 5), "HostCall"),
        (lambda m, x: x[..., :5].reshape(len(x), 5, 24), "HostCall"),
        (lambda m, x: torch.linalg.norm(x, dim=2), "HostCall"),
        (lambda m, x: x.chunk(2, -1)[1], "HostCall"),
        (lambda m, x: x.max(dim=2).values, "HostCall"),
        (lambda m, x: torch.var_mean(x, 1)[1], "HostCall"),
        (lambda m, x: x.masked_fill(torch.eye(8).bool(), float("-inf")), "HostCall"),
        (lambda m, x: torch.cat([x, torch.ones(len(x), 1, 8, 8)], 1), "HostCall"),
        (lambda m, x: x.gather(3, torch.zeros(len(x), 3, 8, 2, dtype=torch.long)), "HostCall"),
        (lambda m, x: torch.addmm(m.b, x[:, 0, 0], m.w.t()), "HostCall"),
    ],
)
def test_function_alone(function, kind):
    model = Fn(function)
    model.w, model.b = nn.Parameter(torch.zeros(5, 8)), nn.Parameter(torch.zeros(5))
    model.k, model.c = nn.Parameter(torch.zeros(2, 3, 3, 3)), nn.Parameter(torch.zeros(3))
    graph = check(model, IMAGE)
    assert [node.kind for node in graph][-2:] == [kind, "Output"]
    assert len(graph) <= 3 + (kind == "HostCall")


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x.clone().contiguous().detach(),
        lambda m, x: x.to(torch.float32).float(),
        lambda m, x: x.view(x.shape),
        lambda m, x: x.squeeze(),
        lambda m, x: x.to(memory_format=torch.channels_last),
        lambda m, x: sum([x]) * 1,
        lambda m, x: x + torch.zeros_like(x),
        lambda m, x: x * torch.ones_like(input=x),
        lambda m, x: (f"{x.shape} {x}", len(x), x.dim(), x)[3],
    ],
)
def test_what_changes_nothing_is_no_node(function):
    assert names(check(Fn(function), IMAGE)) == ["input", "output"]


def test_sum_is_a_scaled_mean():
    for axes in (1, (2, 3), -1):
        graph = check(Fn(lambda m, x, axes=axes: x.sum(axes)), IMAGE)
        assert [node.kind for node in graph] == ["Input", "Mean", "Scale", "Output"]


def test_differences():
    check(Fn(lambda m, x, y: x - y), IMAGE, IMAGE + 1)
    check(Fn(lambda m, x: 1 - x), IMAGE)
    check(Fn(lambda m, x, y: torch.sub(x, y, alpha=2)), IMAGE, IMAGE + 1)
    check(Fn(lambda m, x, y: torch.add(x, y, alpha=0.5)), IMAGE, IMAGE + 1)
    graph = check(Fn(lambda m, x: x - F.relu(x)), IMAGE)
    assert names(graph) == ["input", "relu", "sub.scale", "sub", "output"]


def test_residual_in_place():
    """``relu_`` gives a new value under the old name: both summands are the activated one."""

    def forward(m, x):
        y = m.conv(x)
        identity = y
        z = m.relu(y)
        z += identity
        return F.relu(z + x)

    graph = check(Fn(forward, conv=nn.Conv2d(3, 3, 3, padding=1), relu=nn.ReLU(inplace=True)), IMAGE)
    assert graph.in_edges("add") == [Edge("relu", "add", "0"), Edge("relu", "add", "1")]
    assert names(graph) == ["input", "conv", "relu", "add", "add_2", "relu_2", "output"]


def test_module_used_twice():
    def forward(m, x):
        return m.act(m.fc(m.act(m.fc(x))))

    graph = check(Fn(forward, fc=nn.Linear(6, 6), act=nn.ReLU()), ROW)
    assert names(graph) == ["input", "fc", "act", "fc_2", "act_2", "output"]
    assert graph["fc"].op.weight is graph["fc_2"].op.weight


def test_nested_modules_name_their_nodes():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return F.relu(self.conv(x)) + x

    graph = check(Fn(lambda m, x: m.blocks(x), blocks=nn.Sequential(Block(), Block())), IMAGE)
    assert names(graph)[1:4] == ["blocks.0.conv", "blocks.0.relu", "blocks.0.add"]
    source = graph["blocks.1.relu"].source
    assert source.module == "blocks.1"
    assert source.file.endswith("test_capture.py")
    assert source.line == Block.forward.__code__.co_firstlineno + 1


def test_several_inputs_and_outputs():
    def forward(m, x, y):
        z = m.a(x) + m.b(y)
        return z, [F.relu(z), x][0], z

    graph = check(Fn(forward, a=nn.Linear(6, 3), b=nn.Linear(6, 3)), ROW, ROW + 1)
    assert [node.name for node in graph.of_kind("Input")] == ["input", "input_2"]
    assert [node.name for node in graph.of_kind("Output")] == ["output", "output_2", "output_3"]


def test_names_of_ends_are_kept_free():
    model = Fn(lambda m, x: m.output(m.input(x)), input=nn.Linear(6, 6), output=nn.ReLU())
    assert names(check(model, ROW)) == ["input", "input.affine", "output.relu", "output"]


def test_dead_code_is_left_out_and_may_be_anything():
    def forward(m, x):
        m.seen = torch.sin(x).max()
        m.unused(x)
        return m.fc(x)

    model = Fn(forward, fc=nn.Linear(6, 2), unused=nn.Bilinear(6, 6, 2))
    model.unused = nn.Softsign()
    assert names(check(model, ROW)) == ["input", "fc", "output"]


def test_modules_outside_the_module_tree():
    hidden = [nn.Linear(6, 4), nn.Linear(4, 2)]
    graph = check(Fn(lambda m, x: hidden[1](nn.ReLU()(hidden[0](x)))), ROW)
    assert names(graph) == ["input", "linear", "relu", "linear_2", "output"]


def test_hooks_are_ordinary_code():
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    model[0].register_forward_hook(lambda mod, args, out: out * 2)
    model[1].register_forward_pre_hook(lambda mod, args: (args[0] + 1,))
    assert [n.kind for n in check(model, ROW)] == ["Input", "Affine", "Scale", "BatchNorm", "ReLU", "Output"]


def test_subclass_of_a_layer_is_looked_into():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Standardized(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x, weight - weight.mean(), bias)

    assert names(check(nn.Sequential(Doubled(6, 3)), ROW)) == ["input", "_0.linear", "_0.mul", "output"]
    check(Standardized(3, 2, 3), IMAGE)


def test_weights_that_are_computed():
    check(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))), ROW)
    check(
        Fn(lambda m, x: m.fc(x) * torch.sigmoid(m.gate), fc=nn.Linear(6, 3), gate=nn.Parameter(torch.ones(3))),
        ROW,
    )


def test_weights_swapped_from_outside():
    def forward(m, x):
        return torch.func.functional_call(m.fc, {"weight": m.fc.weight * 2}, (x,))

    check(Fn(forward, fc=nn.Linear(6, 3)), ROW)


def test_custom_autograd_function_is_looked_into():
    class Straight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(0, 1)

    assert [n.kind for n in check(Fn(lambda m, x: Straight.apply(x) + x), ROW)][1] == "Clip"


def test_compiled_model_is_captured_as_written():
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU())
    model.compile()
    compiled = torch.compile(nn.Sequential(nn.Linear(6, 3), nn.ReLU()))
    for each in (model, compiled):
        assert [node.kind for node in capture(each, ROW)] == ["Input", "Affine", "ReLU", "Output"]


def test_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(), nn.BatchNorm1d(3))
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    example = torch.randn(2, 6)
    kept = example.clone()
    graph = capture(model, example)
    assert [part.training for part in model] == [True, False, True]
    assert not any("forward" in vars(part) for part in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(example, kept)
    with torch.no_grad():
        model[0].weight.zero_()
    assert np.any(graph["_0"].op.weight)


def test_inference_mode_inside_the_model():
    def forward(m, x):
        with torch.inference_mode():
            return F.relu(m.fc(x)) + x

    check(Fn(forward, fc=nn.Linear(6, 6)), ROW)


def test_half_precision_weights_become_float32():
    graph = capture(nn.Linear(6, 3).to(torch.bfloat16), ROW.to(torch.bfloat16))
    assert graph["linear"].op.weight.dtype == np.float32


def test_golden_text(request):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / 8)
    golden = request.path.parent.parent / "golden" / "torch_sequential.txt"
    assert to_text(capture(model, torch.zeros(1, 1, 4, 4), name="small")) == golden.read_text()
