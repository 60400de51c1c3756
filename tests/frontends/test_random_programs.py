"""Property: random programs of supported operations are captured as what PyTorch computes."""

import torch
import torch.nn.functional as F
from evaluate import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hsnn_compiler.frontends.torch import capture


def on_image(m, x, y):
    """Operations on an image [B, 3, 4, 4], by name; `y` is an earlier image."""
    return {
        "conv": lambda: m.conv(x),
        "depthwise": lambda: m.depthwise(x),
        "norm": lambda: m.norm(x),
        "act": lambda: m.act(x),
        "relu6": lambda: F.relu6(x),
        "leaky": lambda: F.leaky_relu(x, 0.2),
        "gelu": lambda: F.gelu(x),
        "softmax": lambda: x.softmax(1),
        "layer_norm": lambda: m.layer_norm(x),
        "max": lambda: F.max_pool2d(x, 3, 1, 1),
        "avg": lambda: F.avg_pool2d(x, 3, stride=1, padding=1),
        "add": lambda: x + y,
        "sub": lambda: x - y,
        "rsub": lambda: 1 - x,
        "scale": lambda: x * m.scale,
        "div": lambda: x / 3,
        "shift": lambda: x - m.scale,
        "weights": lambda: x * m.full,
        "cat": lambda: m.join(torch.cat([x, y], 1)),
        "in_place": lambda: x.clone().add_(y).relu_(),
        "iadd": lambda: iadd(m.conv(x), y),
        "linear": lambda: m.last(x),
        "drop": lambda: F.dropout(x, training=m.training),
        "noop": lambda: x.contiguous().view(x.shape),
        "permute": lambda: x.permute(0, 1, 3, 2),
        "mixed": lambda: x.transpose(1, 3).contiguous().view(len(x), 4, 12).reshape(-1, 3, 4, 4),
        "heads": lambda: x.reshape(len(x), 3, 2, 8).unbind(2)[1].unflatten(2, (2, 4)).repeat(1, 1, 2, 1),
        "batch_last": lambda: torch.sin(x.permute(1, 2, 3, 0)).add(1).permute(3, 0, 1, 2),
        "product": lambda: x * y,
        "quotient": lambda: x / (1 + y.abs()),
        "power": lambda: torch.tanh(x) ** 2,
        "gate": lambda: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
        "matmul": lambda: x.softmax(-1) @ y,
        "einsum": lambda: torch.einsum("bchw,bcvw->bchv", x.tanh(), y),
        "attention": lambda: F.scaled_dot_product_attention(x, y, y),
        "where": lambda: torch.where(x > y, x, 0.1 * x),
        "largest": lambda: torch.maximum(x, y) - x.amax(1, keepdim=True),
        "slice": lambda: torch.cat([x[:, 1:], y[:, :1]], 1),
        "chunk": lambda: torch.cat(x.chunk(2, dim=2)[::-1], 2),
        "stack": lambda: torch.stack([x, y], 2).sum(2),
        "token": lambda: torch.cat([m.scale.view(1, 3, 1, 1).expand(len(x), -1, -1, 4), x[:, :, 1:]], 2),
        "pad": lambda: F.pad(x, (1, 1, 0, 0), mode="reflect")[..., 2:],
        "resize": lambda: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear"),
        "silu": lambda: F.silu(x.clone(), inplace=True),
        "group_norm": lambda: F.group_norm(x, 3, m.scale.view(3)),
        "ceil": lambda: F.max_pool2d(x, 3, 1, 1, ceil_mode=True),
        "uneven": lambda: F.interpolate(F.adaptive_avg_pool2d(x, 3), 4),
        "times_in_place": lambda: x.clone().mul_(y).div_(2),
        "attend": lambda: m.attend(x.flatten(1, 2), x.flatten(1, 2), y.flatten(1, 2))[0].reshape(x.shape),
        "lstm": lambda: m.lstm(x.flatten(1, 2))[0].reshape(x.shape),
        "up": lambda: m.up(x)[:, :, 1:-1, 1:-1],
    }


def iadd(x, y):
    x += y
    return x


OPS = tuple(on_image(None, None, None))
HEADS = {
    "flatten": lambda x: x.flatten(1),
    "view": lambda x: x.view(x.size(0), -1),
    "mean": lambda x: x.mean((2, 3)),
    "pool": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
}


class Program(nn.Module):
    def __init__(self, steps, head):
        super().__init__()
        self.steps, self.head = steps, head
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.depthwise = nn.Conv2d(3, 3, (1, 3), padding="same", groups=3, bias=False)
        self.join = nn.Conv2d(6, 3, 1)
        self.norm, self.act, self.layer_norm = nn.BatchNorm2d(3), nn.ReLU(), nn.LayerNorm([4, 4])
        self.last = nn.Linear(4, 4)
        self.attend, self.lstm = nn.MultiheadAttention(4, 2, batch_first=True), nn.LSTM(4, 4, batch_first=True)
        self.up = nn.ConvTranspose2d(3, 3, 3)
        self.scale, self.full = nn.Parameter(torch.randn(3, 1, 1)), nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        past = [x]
        for op, i in self.steps:
            past.append(on_image(self, past[-1], past[i % len(past)])[op]())
        return HEADS[self.head](past[-1]), past[-1]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 20)), min_size=1, max_size=8),
    head=st.sampled_from(sorted(HEADS)),
)
def test_random_program(steps, head):
    torch.manual_seed(0)
    model = Program(steps, head)
    with torch.no_grad():
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(0.5, 2)
    assert_same(capture(model, torch.zeros(1, 3, 4, 4)), model, torch.randn(3, 3, 4, 4))
