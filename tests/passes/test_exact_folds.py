"""Exact passes change the graph and not what it computes: normalisation, pooling, scales, additions."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from picks import Picks, picks
from value_graphs import Net, assert_same_function, outputs, run_passes

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Edge, Graph
from hsnn_compiler.ir.ops import Add, BatchNorm, Mean, NoOp, ReLU

ON_CHIP = "remove-noops,partition,convert-activations,map-direct-coding,"


def norm(net: Net, name: str) -> Net:
    n, rng = net.shape(net.at)[0], net.rng
    return net.add(name, BatchNorm(rng.normal(size=n), rng.normal(size=n), rng.normal(size=n), rng.uniform(0.1, 2, n)))


def samples(graph: Graph, n: int = 6) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, *graph["x"].shape))


@settings(max_examples=60)
@given(picks())
def test_batch_norm_folds(p: Picks) -> None:
    """Before or after (or both) linear layers and 1-d and 2-d convolutions, with groups and strides."""
    shape = p.choice([(6,), (4, 9), (4, 7, 6)])
    net = Net(shape, seed=p.integer(0, 99))
    groups = p.choice([1, 2, 4])
    for i in range(p.integer(1, 3)):
        if p.flag():
            norm(net, f"before{i}")
        if len(shape) == 1:
            net.linear(f"layer{i}", p.integer(1, 5), bias=p.flag())
        else:
            net.conv(f"layer{i}", 4, p.choice([1, 2]), padding=p.choice([0, 1, "same"]), groups=groups)
        if p.flag():
            norm(net, f"after{i}")
        if p.flag():
            net.add(f"relu{i}", ReLU())
    graph = net.done()
    folded = run_passes(graph, "fold-batchnorm")[0].result.graph
    a, x = outputs(graph, samples(graph)), samples(graph)
    np.testing.assert_allclose(outputs(folded, x), a, rtol=1e-5, atol=1e-5 * np.abs(a).max())
    after = [n for n in graph.of_kind("BatchNorm") if graph.predecessors(n.name)[0].is_synapse]
    assert not {n.name for n in folded.of_kind("BatchNorm")} & {n.name for n in after}


def test_batch_norm_is_not_folded_where_that_would_be_wrong() -> None:
    """A layer that others read too keeps its weights, and so does one that pads with zeros behind the norm."""
    shared = norm(Net((3, 5, 5)).conv("conv", 3, padding=1), "bn").add("add", Add(), "bn", "conv").done()
    padded = norm(Net((3, 5, 5)).add("relu", ReLU()), "bn").conv("conv", 3, padding=1).done()
    for graph, becomes in ((shared, "Conv2d"), (padded, "BatchNorm")):
        after = run_passes(graph, "fold-batchnorm")[0].result.graph
        assert after["bn"].kind == becomes
        np.testing.assert_array_equal(after["conv"].op.weight, graph["conv"].op.weight)
        assert_same_function(graph, after, samples(graph))


def test_noops_go() -> None:
    net = Net((3, 4)).add("drop", NoOp("Dropout")).flatten().add("again", nir.Flatten({"input": np.array([12])}, 0, -1))
    graph = net.add("add", Add(), "again", "flatten").linear("fc", 2).add("id", NoOp()).done()
    after = run_passes(graph, "remove-noops")[0].result.graph
    assert not after.of_kind("NoOp")
    assert len(after.of_kind("Flatten")) == 1
    assert_same_function(graph, after, samples(graph))


# -- on the chip: everything from spiking networks, so that exact means exact ------------------------


def spiking(shape: tuple[int, ...], seed: int = 0) -> Net:
    """Encode and a first layer of neurons of this shape."""
    return (
        Net(shape, timesteps=5, seed=seed)
        .encode()
        .add("drive", nir.Scale(np.full((1,) * len(shape), 2.0)))
        .neuron("in")
    )


def check_chip(graph: Graph, text: str) -> Graph:
    after = run_passes(graph, ON_CHIP + text)[-1].result.graph
    assert_same_function(graph, after, samples(graph))
    return after


def attempt(graph: Graph, text: str) -> tuple[Graph, list[str]]:
    """The graph after these passes, or the codes of the refusal."""
    try:
        return run_passes(graph, text)[-1].result.graph, []
    except HsnnError as error:
        return graph, [finding.code for finding in error.findings]


@settings(max_examples=60)
@given(picks())
def test_pooling_folds(p: Picks) -> None:
    """Any window before a convolution or linear layer, or after a convolution: merged, or refused."""
    seed, size = p.integer(0, 99), (p.integer(1, 3), p.integer(1, 3))
    stride = p.choice([size, (1, 2), (2, 1)])
    padding = p.choice([(0, 0), (0, 0), (size[0] // 2, size[1] // 2)])
    how = {"total": p.flag()}
    net = spiking((4, 8, 9), seed)
    where = p.choice(["before conv", "after conv", "before linear", "between", "two consumers"])
    conv = {"stride": p.choice([1, 2]), "dilation": p.choice([1, (2, 1)]), "groups": p.choice([1, 2])}
    if where == "before conv":
        net.pool("pool", size, stride, padding, **how).conv("conv", 4, (2, 1), padding=p.choice([0, 1]), **conv)
    elif where == "after conv":
        net.conv("conv", 4, (2, 1), padding=p.choice([0, 1]), **conv).pool("pool", size, stride, padding, **how)
    elif where == "before linear":
        net.pool("pool", size, stride, padding, **how).flatten().linear("fc", 6)
    elif where == "between":
        net.pool("pool", size, stride, padding, **how)
    else:
        net.pool("pool", size, stride, padding, **how).conv("a", 3, 1).conv("b", 3, 1, "pool").add(
            "sum", Add(), "a", "b"
        )
    graph = net.neuron("out").done("mean")
    after, refused = attempt(graph, ON_CHIP + "merge-adds,fold-pooling")
    if refused:
        assert refused == ["E0433"]
        assert padding != (0, 0) or where in ("before conv", "two consumers")
        return
    assert not after.of_kind("AvgPool2d", "SumPool2d")
    a, b = outputs(graph, samples(graph)), outputs(after, samples(graph))
    np.testing.assert_allclose(b, a, atol=1e-9)


@pytest.mark.parametrize("keepdim", [False, True])
def test_mean_over_space(keepdim: bool) -> None:
    net = spiking((3, 4, 5)).conv("conv", 4, padding=1).neuron("mid").add("mean", Mean((-1, -2), keepdim))
    net = net.flatten() if keepdim else net
    after = check_chip(net.linear("fc", 5).neuron("out").done("mean"), "fold-pooling")
    assert not after.of_kind("Mean", "AvgPool2d")


def test_pooling_with_a_remainder_drops_the_same_pixels() -> None:
    for kernel in (2, 3):
        net = spiking((3, 7, 8)).pool("pool", kernel).flatten().linear("fc", 4)
        check_chip(net.neuron("out").done("mean"), "fold-pooling")


@settings(max_examples=50)
@given(picks())
def test_scales_fold(p: Picks) -> None:
    """Through flatten, pooling and additions; per channel or per neuron; shared by several consumers."""
    shape = (3, 4, 4)
    net = spiking(shape, p.integer(0, 99))
    of = p.choice([(3, 1, 1), (1, 1, 1), shape])
    net.add("scale", nir.Scale(net.rng.uniform(0.5, 2, of)))
    where = p.choice(["conv", "linear", "pool", "shared", "chain", "residual", "out"])
    if where == "conv":
        net.conv("conv", 6, 2, groups=p.choice([1, 3]))
    elif where == "linear":
        net.flatten().linear("fc", 5)
    elif where == "pool":
        net.pool("pool", 2).flatten().linear("fc", 5)
    elif where == "shared":
        net.conv("a", 2, 1).conv("b", 2, 1, "scale").add("add", Add(), "a", "b")
    elif where == "chain":
        net.add("second", nir.Scale(np.full((3, 1, 1), 0.7))).conv("conv", 2)
    elif where == "residual":
        net.conv("conv", 3, padding=1).neuron("mid").add("s2", nir.Scale(np.full((3, 1, 1), 1.5)))
        net.add("add", Add(), "s2", "scale")
    graph = (net if where == "out" else net.neuron("out")).done("mean")
    after, refused = attempt(graph, ON_CHIP + "merge-adds,fold-pooling,fold-scales")
    if refused:
        assert refused == ["E0435"]
        assert of == shape
        assert where != "linear"
        return
    assert not [n for n in after.of_kind("Scale") if n.on_chip]
    a, b = outputs(graph, samples(graph)), outputs(after, samples(graph))
    np.testing.assert_allclose(b, a, atol=1e-6)


def test_adding_the_same_twice() -> None:
    """x + x, directly and through two additions."""
    net = spiking((4,)).add("twice", Add(), "in", "in").add("again", Add(), "twice", "in").linear("fc", 3)
    after = check_chip(net.neuron("out").done("mean"), "merge-adds,fold-scales,lower-connections")
    assert not [node for node in after.of_kind("Add", "Scale") if node.on_chip]
    net = spiking((4,)).linear("fc", 3).add("twice", Add(), "fc", "fc")
    check_chip(net.neuron("out").done("mean"), "merge-adds,fold-scales,insert-readout")


def test_nested_additions_with_three_inputs() -> None:
    net = spiking((4,)).linear("a", 4, "in").linear("b", 4, "in").linear("c", 4, "in").add("inner", Add(), "a", "b")
    net.add("outer", Add(), "inner", "c", "in").neuron("out")
    after = check_chip(net.done("sum"), "merge-adds,fold-pooling,fold-scales,insert-readout,lower-connections")
    assert not after.of_kind("Add")
    assert len(after.in_edges("out")) == 4


def test_edges_that_add_up_are_additions() -> None:
    net = spiking((4,)).linear("a", 3, "in").linear("b", 3, "in").neuron("out")
    net.graph.connect(Edge("a", "out"))
    check_chip(net.done("sum"), "merge-adds,insert-readout,lower-connections")


def test_a_scale_broadcasts_from_the_last_axis() -> None:
    """As in PyTorch: a factor of shape [width] is one per column, not one per channel."""
    net = spiking((3, 3, 3)).add("scale", nir.Scale(np.array([0.5, 1.0, 2.0]))).flatten().linear("fc", 4)
    check_chip(net.neuron("out").done("mean"), "fold-scales")
