"""Captured models of PyTorch give the same in onnxruntime; random hosts do what the float executor does."""

import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from picks import picks
from same import assert_same, model_of
from torch import nn
from value_graphs import Net

from hsnn_compiler.backends.host.onnx_export import to_onnx
from hsnn_compiler.backends.host.onnx_run import Session
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.ir import ops as hs

sys.path.append(str(Path(__file__).parents[2] / "frontends"))
from ann_models import INPUTS, MODELS


class AttentionBlock(nn.Module):
    """As in a transformer, normalised first."""

    def __init__(self, fused):
        super().__init__()
        self.norm1, self.norm2, self.fused = nn.LayerNorm(16), nn.LayerNorm(16), fused
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, 4, 4).permute(2, 0, 3, 1, 4)
        plain = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        mixed = F.scaled_dot_product_attention(q, k, v) if self.fused else plain
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.norm2(x))


class LSTMClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True), nn.Linear(16, 4)

    def forward(self, x):
        out, (h, _) = self.lstm(x)
        return self.fc(out[:, -1] + torch.cat([h[-2], h[-1]], 1)).log_softmax(1)


class GRUTagger(nn.Module):
    """A label for every step, time first."""

    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.gru(x.transpose(0, 1))[0]).transpose(0, 1).softmax(-1)


class MobileBlock(nn.Module):
    """Inverted residual with squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(4, 12, 1, bias=False), nn.BatchNorm2d(12), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU6(), nn.Conv2d(4, 12, 1))
        self.project = nn.Sequential(nn.Conv2d(12, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x):
        wide = self.depth(self.expand(x))
        return x + self.project(wide * F.hardsigmoid(self.squeeze(wide)))


OWN = {
    "attention": (lambda: AttentionBlock(False), (5, 16)),
    "fused attention": (lambda: AttentionBlock(True), (5, 16)),
    "nn.TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (5, 16)),
    "LSTM": (LSTMClassifier, (7, 6)),
    "GRU": (GRUTagger, (7, 6)),
    "MLP with LayerNorm": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU("tanh"), nn.Linear(8, 3), nn.Softmax(-1)),
        (6,),
    ),
    "max pooling": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Flatten()),
        (2, 9, 8),
    ),
    "mobile block": (MobileBlock, (4, 6, 6)),
}


def assert_equals_torch(model, xs):
    graph = capture(model, [x[:1] for x in xs])
    session = Session(to_onnx(graph, "host"))
    names = [node.name for node in graph.of_kind("Input")]
    for samples in (1, len(xs[0])):
        with torch.no_grad():
            wanted = model(*(x[:samples].clone() for x in xs))
        wanted = [wanted] if isinstance(wanted, torch.Tensor) else list(wanted)
        found = session.run({name: x[:samples].numpy() for name, x in zip(names, xs, strict=True)})
        for value, tensor in zip(found.values(), wanted, strict=True):
            largest = float(tensor.abs().max())
            np.testing.assert_allclose(value, tensor.numpy(), rtol=1e-5, atol=1e-5 * largest)


def randomised(model):
    for name, buffer in model.named_buffers():
        if name.endswith(("running_var", "running_mean")):
            buffer.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.parametrize("name", OWN)
def test_models(name):
    make, shape = OWN[name]
    torch.manual_seed(0)
    model = randomised(make())
    assert_equals_torch(model, [torch.randn(6, *shape)])
    model_of(capture(model, torch.randn(1, *shape)))


CHOSEN = [
    "VGG, QCFS activations", "ResNet", "MobileNetV3", "Inception", "U-Net", "Vision Transformer, nn.MultiheadAttention",
    "MLP-Mixer", "1-d convolutions, max pooling", "RNN, then ReLU layers", "two inputs, two outputs",
]  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_models_of_the_frontend(name):
    make, inputs, _ = MODELS[name]
    torch.manual_seed(0)
    assert_equals_torch(randomised(make()), [torch.rand(6, *INPUTS[kind]) for kind in inputs.split()])


# -- random hosts -------------------------------------------------------------------------------------


def random_layer(p, net, name, timed):
    """One more node that fits."""
    shape = net.shape(net.at)
    rank = len(shape)
    makers = [
        lambda: net.add(name, p.choice([hs.ReLU(), hs.Tanh(), hs.Sigmoid(), hs.LeakyReLU(0.2), hs.GELU(), hs.NoOp()])),
        lambda: net.add(name, nir.Scale(p.rng().normal(size=(shape[0],) + (1,) * (rank - 1)))),
        lambda: net.add(name, hs.Softmax(p.choice([0, -1]))),
        lambda: net.add(name, hs.Concat(0), net.at, net.at),
        lambda: net.add(name, hs.HostCall("Tensor.mul", "x0, x1", shape), net.at, net.at),
        lambda: net.add(name, hs.HostCall("torch.cumsum", "x0, 1", shape), net.at),
    ]
    if rank == 3 and min(shape[1:]) > 2:
        makers += [
            lambda: net.conv(name, p.integer(1, 4), p.choice([1, 2, 3])),
            lambda: net.conv(name, shape[0], 3, padding="same", groups=shape[0]),
            lambda: net.pool(name, 2, total=p.flag()),
            lambda: net.add(name, hs.MaxPool2d((2, 2), (1, 2))),
            lambda: net.flatten(name),
        ]
    if rank == 1:
        makers.append(lambda: net.linear(name, p.integer(1, 5), bias=p.flag()))
    if timed:
        makers.append(lambda: net.neuron(name, reset=p.choice(["zero", "subtract"])))
    p.choice(makers)()


@settings(max_examples=25, deadline=None)
@given(p=picks())
def test_random_hosts(p):
    """Values, then steps, then values again; nodes are added to others that came before."""
    net = Net(p.choice([(3,), (2, 6, 7), (4, 3)]), p.integer(1, 6), p.integer(0, 99))
    count = 0
    for timed in (False, True, False):
        if timed:
            net.add("encode", p.choice([hs.Encode(), hs.Encode("rate", 1.0), hs.Encode("ttfs", 0.5, True)]))
        for _ in range(p.integer(1, 4)):
            count += 1
            before = net.at
            random_layer(p, net, f"n{count}", timed)
            if p.flag() and net.shape(net.at) == net.shape(before):
                net.add(f"a{count}", hs.Add(), net.at, before)
        if timed:
            net.add("decode", hs.Decode(p.choice(["mean", "sum", "last", "ttfs"]), 0.5))
    assert_same(net.done())


def test_a_spiking_network_with_a_loop_over_time():
    snntorch = pytest.importorskip("snntorch")

    class Spiking(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 5)
            self.lif1, self.lif2 = snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.8, reset_mechanism="zero")

        def forward(self, x):
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            total = 0.0
            for _ in range(8):
                spikes, mem1 = self.lif1(self.conv(x), mem1)
                spikes, mem2 = self.lif2(self.fc(spikes.flatten(1)), mem2)
                total = total + spikes
            return total

    torch.manual_seed(0)
    assert_equals_torch(Spiking().eval(), [torch.rand(6, 1, 8, 8)])
