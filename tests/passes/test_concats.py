"""Concatenations become weights for each part, or stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from value_graphs import Net, assert_same_function, run_passes

from hsnn_compiler.driver import capture_model, lower
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import BatchNorm, Clip, Concat, MaxPool2d, Mean, ReLU
from hsnn_compiler.options import Options
from hsnn_compiler.reference.float_executor import FloatExecutor


def norm(net: Net, channels: int) -> BatchNorm:
    rng = net.rng
    return BatchNorm(
        rng.normal(size=channels), rng.normal(size=channels), rng.normal(size=channels), rng.random(channels) + 0.5
    )


def inception() -> Net:
    """Branches of two kernels and a pooling, then everything that works channel by channel, and a layer of weights."""
    net = Net((2, 8, 8), seed=1).conv("stem", 4, padding=1).add("r", ReLU())
    net.conv("a", 3, 1, "r").add("ra", ReLU()).conv("b", 5, 3, "r", padding=1).add("rb", Clip(0, 6))
    net.add("m", MaxPool2d((3, 3), (1, 1), (1, 1)), "r")
    net.add("cat", Concat(0), "ra", "rb", "m").add("bn", norm(net, 12)).add("rc", ReLU()).pool("p")
    return net.conv("c", 6, padding=1).add("rd", ReLU()).flatten().linear("fc", 10)


def dense_block() -> Net:
    """Each layer reads all before it, through a batch norm of its own."""
    net = Net((2, 6, 6), seed=2).conv("stem", 4, padding=1).add("r", ReLU())
    at, channels = "r", 4
    for i in range(3):
        net.add(f"bn{i}", norm(net, channels), at).add(f"relu{i}", ReLU()).conv(f"conv{i}", 3, padding=1)
        net.add(f"cat{i}", Concat(0), at, f"conv{i}")
        at, channels = f"cat{i}", channels + 3
    return net.add("bn", norm(net, channels)).add("relu", ReLU()).add("mean", Mean((1, 2))).linear("fc", 5)


def flat() -> Net:
    """Images of two sizes, flattened before and after they meet; two layers and a second concatenation read them."""
    net = Net((2, 4, 4), seed=3).conv("a", 3, padding=1).add("ra", ReLU()).conv("b", 2, 3, "x").add("rb", ReLU())
    net.flatten("fb").add("mean", Mean((1, 2)), "ra").add("cat", Concat(0), "fb", "mean", "mean")
    net.linear("one", 6).add("r1", ReLU()).linear("two", 4, "cat", bias=False).add("r2", ReLU())
    net.add("both", Concat(0), "r1", "cat", "r2")
    return net.linear("fc", 5)


@pytest.mark.parametrize("build", [inception, dense_block, flat])
def test_the_same_without_a_concatenation(build: Any) -> None:
    graph = build().done()
    (stage,) = run_passes(graph, "split-concats")
    after = stage.result.graph
    assert not list(after.of_kind("Concat"))
    assert stage.result.modified
    x = np.random.default_rng(0).normal(size=(20, *graph["x"].shape)).astype(np.float32)
    assert_same_function(graph, after, x)
    for node in graph:  # who is looked for by name is still there, with the same shape
        assert node.kind == "Concat" or node.name not in after or after[node.name].shape == node.shape
    assert {"fc", "y"} <= {node.name for node in after}


def analog() -> Net:
    net = Net((2, 4, 4)).conv("a", 3, padding=1).add("r", ReLU()).add("cat", Concat(0), "r", "x")
    return net.conv("b", 4).add("s", ReLU())


def grouped() -> Net:
    net = Net((2, 4, 4)).conv("a", 2, padding=1).add("r", ReLU()).conv("b", 2, 3, "x", padding=1).add("s", ReLU())
    return net.add("cat", Concat(0), "r", "s").conv("c", 4, groups=2).add("t", ReLU())


def read_whole() -> Net:
    return Net((2, 4, 4)).conv("a", 2, padding=1).add("r", ReLU()).add("cat", Concat(0), "r", "r")


def another_axis() -> Net:
    net = Net((2, 4, 4)).conv("a", 2, padding=1).add("r", ReLU()).add("cat", Concat(1), "r", "r")
    return net.conv("c", 4).add("t", ReLU())


@pytest.mark.parametrize("build", [analog, grouped, read_whole, another_axis])
def test_what_cannot_be_split_stays(build: Any) -> None:
    graph = build().done()
    (stage,) = run_passes(graph, "split-concats")
    assert not stage.result.modified
    assert [node.name for node in stage.result.graph] == [node.name for node in graph]


@pytest.mark.parametrize("layers", [{"cat": {"place": "host"}}, {"c": {"bits": "6"}}, {"rc": {"threshold": "2.5"}}])
def test_options_of_a_layer_find_it(layers: dict[str, dict[str, str]]) -> None:
    (stage,) = run_passes(inception().done(), "split-concats", layers=layers)
    assert [node.name for node in stage.result.graph.of_kind("Concat")] == ["cat"]


class Branches(nn.Module):
    """Two branches that meet, and meet again before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.c, self.fc = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3), nn.Linear(288 + 256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        y = torch.cat([self.a(x).relu(), self.b(x).relu()], 1)
        z = self.c(self.norm(y)).relu()
        return self.fc(torch.cat([z.flatten(1), nn.functional.avg_pool2d(y, 2).flatten(1)], 1))


def compiled() -> tuple[Graph, Any, np.ndarray]:
    torch.manual_seed(0)
    x = torch.rand(64, 1, 8, 8)
    model = Branches()
    model(x)  # statistics of the batch norm
    graph, _ = capture_model(model.eval(), x.numpy(), "branches")
    return graph, lower(graph, Options(timesteps=8), x.numpy()), x.numpy()


def test_a_model_is_on_the_chip_as_a_whole() -> None:
    graph, program, x = compiled()
    assert len(list(graph.of_kind("Concat"))) == 2
    hosts = [node.name for node in program.graph if not node.on_chip and node.kind not in ("Input", "Output", "Decode")]
    assert set(hosts) <= {"stem", "relu.normalise"}, hosts
    wanted = FloatExecutor(graph).run(x).output
    error = np.square(program.simulate(x).output - wanted).mean() / wanted.var()
    assert error < 0.02
