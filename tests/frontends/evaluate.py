"""A tiny evaluator of value-domain graphs in torch: the tests' own idea of what nodes mean."""

import torch
import torch.nn.functional as F

from hsnn_compiler.ir.shapes import conv_padding
from hsnn_compiler.reference.torch_ops import bind


def evaluate(graph, *inputs):
    """Outputs of the graph, in the order of its output nodes, for batched inputs."""
    values = {}
    given = iter(inputs)
    for node in graph.topological():
        if node.kind == "Input":
            values[node.name] = next(given)
            continue
        feeds = [values[edge.src] for edge in graph.in_edges(node.name)]
        values[node.name] = RULES[node.kind](node.op, *feeds)
        assert tuple(values[node.name].shape[1:]) == node.shape, node.name
    return [values[node.name] for node in graph.of_kind("Output")]


def t(array):
    return torch.from_numpy(array)


def conv(op, x):
    pads = [p for before, after in reversed(conv_padding(op)) for p in (before, after)]
    function = F.conv2d if op.weight.ndim == 4 else F.conv1d
    return function(F.pad(x, pads), t(op.weight), t(op.bias), op.stride, 0, op.dilation, op.groups)


def batch_norm(op, x):
    w, b, m, v = (t(a).reshape(-1, *[1] * (x.dim() - 2)) for a in (op.weight, op.bias, op.mean, op.var))
    return (x - m) / torch.sqrt(v + op.eps) * w + b


def quantised(op, x):
    counts = x.clamp(min=0).minimum(t(op.threshold)) / t(op.threshold) * op.levels
    return (torch.round(counts) if op.ties == "even" else torch.floor(counts + 0.5)) * t(op.threshold) / op.levels


def batch_axes(x, *axes):
    rank = x.dim() - 1
    return [axis % rank + 1 for axis in axes]


RULES = {
    "Output": lambda op, x: x,
    "NoOp": lambda op, x: x,
    "Affine": lambda op, x: x @ t(op.weight).T + t(op.bias),
    "Linear": lambda op, x: x @ t(op.weight).T,
    "Conv1d": conv,
    "Conv2d": conv,
    "Scale": lambda op, x: x * t(op.scale),
    "Flatten": lambda op, x: x.flatten(*batch_axes(x, op.start_dim, op.end_dim)),
    "AvgPool2d": lambda op, x: F.avg_pool2d(x, op.kernel_size.tolist(), op.stride.tolist(), op.padding.tolist()),
    "MaxPool2d": lambda op, x: F.max_pool2d(x, op.kernel_size, op.stride, op.padding),
    "Mean": lambda op, x: x.mean(batch_axes(x, *op.axes), keepdim=op.keepdim),
    "BatchNorm": batch_norm,
    "LayerNorm": lambda op, x: F.layer_norm(x, op.weight.shape, t(op.weight), t(op.bias), op.eps),
    "Add": lambda op, *xs: sum(xs[1:], xs[0]),
    "Concat": lambda op, *xs: torch.cat(xs, batch_axes(xs[0], op.axis)[0]),
    "HostCall": lambda op, *xs: bind(op, xs[0].dtype)(*xs),
    "ReLU": lambda op, x: x.clamp(min=0),
    "Clip": lambda op, x: x.clamp(op.low, op.high),
    "Quantised": quantised,
    "LeakyReLU": lambda op, x: torch.where(x > 0, x, op.slope * x),
    "Sigmoid": lambda op, x: 1 / (1 + torch.exp(-x)),
    "Tanh": lambda op, x: torch.tanh(x),
    "GELU": lambda op, x: F.gelu(x, approximate=op.approximate),
    "Softmax": lambda op, x: (torch.log_softmax if op.log else torch.softmax)(x, batch_axes(x, op.axis)[0]),
}


def assert_same(graph, model, *inputs):
    """The graph computes what the model computes, on these inputs."""
    model.eval()
    with torch.no_grad():
        expected = model(*(x.clone() for x in inputs))
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    got = evaluate(graph, *inputs)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
