"""Shape rules against PyTorch; the verifier against each kind of illegal graph; editing of graphs."""

from __future__ import annotations

from collections.abc import Callable

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import OPS, Add, Concat, Decode, Encode, MaxPool2d, Mean, ReLU
from hsnn_compiler.ir.order import groups, is_loop
from hsnn_compiler.ir.quant import CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.ir.shapes import ShapeError, shape_rule
from hsnn_compiler.ir.spec import SPEC, table, verify
from hsnn_compiler.ir.timing import layers
from hsnn_compiler.reference.torch_ops import bind


@settings(max_examples=150)
@given(picks())
def test_convolutions_and_pools_have_the_shape_torch_gives_them(p: Picks) -> None:
    dims = p.choice([1, 2])
    size = tuple(p.integer(3, 11) for _ in range(dims))
    kernel, stride, padding, dilation = (tuple(p.integer(low, 3) for _ in range(dims)) for low in (1, 1, 0, 1))
    groups, what = p.choice([1, 2]), p.choice(["conv", "same", "valid", "avg", "sum", "max"])
    x = torch.zeros(1, 4, *size)
    if what in ("conv", "same", "valid"):
        pad = padding if what == "conv" else what
        stride = (1,) * dims if what == "same" else stride
        module = (torch.nn.Conv1d if dims == 1 else torch.nn.Conv2d)(4, 6, kernel, stride, pad, dilation, groups)
        weight, bias = np.zeros((6, 4 // groups, *kernel)), np.zeros(6)
        if dims == 1:
            pad = pad if isinstance(pad, str) else pad[0]
            op = nir.Conv1d(size[0], weight, stride[0], pad, dilation[0], groups, bias)
        else:
            op = nir.Conv2d(size, weight, stride, pad, dilation, groups, bias)
    else:
        x, kernel, stride = torch.zeros(1, 4, size[0], 9), (kernel[0], 2), (stride[0], 3)
        pad = (min(padding[0], kernel[0] // 2), 1)
        cls = torch.nn.MaxPool2d if what == "max" else torch.nn.AvgPool2d
        module = cls(kernel, stride, pad)
        make = {"avg": nir.AvgPool2d, "sum": nir.SumPool2d}.get(what)
        op = MaxPool2d(kernel, stride, pad) if make is None else make(*map(np.array, (kernel, stride, pad)))
    try:
        wanted = tuple(module(x).shape[1:])
    except RuntimeError:
        with pytest.raises(ShapeError):
            shape_rule(op, [tuple(x.shape[1:])])
        return
    assert shape_rule(op, [tuple(x.shape[1:])]) == wanted
    assert tuple(bind(op, torch.float32)(x).shape[1:]) == wanted


@settings(max_examples=60)
@given(picks())
def test_other_shapes(p: Picks) -> None:
    shape = tuple(p.integer(1, 4) for _ in range(p.integer(1, 3)))
    x = torch.zeros(2, *shape)
    start, end = p.integer(0, len(shape) - 1), p.choice([-1, len(shape) - 1])
    flatten = nir.Flatten({"input": np.array(shape)}, start, end)
    axes = tuple({p.integer(-len(shape), len(shape) - 1) % len(shape) for _ in range(2)})
    mean = Mean(axes, p.flag())
    linear = nir.Linear(np.zeros((5, shape[-1])))
    for op in (flatten, mean, linear):
        assert shape_rule(op, [shape]) == tuple(bind(op, torch.float32)(x).shape[1:])
    assert shape_rule(Concat(p.choice([0, -len(shape)])), [shape, shape]) == (2 * shape[0], *shape[1:])


def chain(*ops: object, steps: int | None = None, shape: tuple[int, ...] = (4,)) -> Graph:
    """Input, the ops (or nodes) one behind the other, output."""
    graph = Graph("g", steps)
    at = graph.add(Node("x", nir.Input(np.array(shape)), type=TensorType(shape))).name
    for i, op in enumerate(ops):
        node = op if isinstance(op, Node) else Node(f"n{i}", op)
        at = graph.add(node, at).name
    graph.add(Node("y", nir.Output(np.array(shape))), at)
    return graph


def neuron(name: str = "n", **changes: object) -> Node:
    one = np.ones(1)
    node = Node(name, nir.IF(r=one, v_threshold=one, v_reset=0 * one), dynamics=Dynamics())
    return node.with_(**changes)


def quantised(**changes: object) -> Node:
    fields = {
        "du": 4095,
        "dv": 0,
        "vth": 5,
        "v_init": 0,
        "bias_mant": np.zeros(4, np.int32),
        "bias_exp": 0,
        "scale": 1.0,
    }
    return neuron(quant=NeuronQuant(**(fields | changes)))


def weights(integers: object, exponent: int = 0, **changes: object) -> Node:
    quant = WeightQuant(np.array(integers, np.int32), exponent, 8, "mixed", 2.0)
    return Node("w", nir.Linear(np.array(integers) * 2.0**exponent / 2), quant=quant).with_(**changes)


ILLEGAL: dict[str, tuple[Callable[[], Graph], str]] = {
    "two inputs of an Encode": (lambda: _second_edge(chain(Encode(), neuron(), steps=2), "x", "n0"), "Encode has 2"),
    "nothing feeds it": (lambda: _unfed(), "ReLU has 0 inputs"),
    "wrong type": (lambda: _wrong_type(), "type is"),
    "values into neurons": (lambda: chain(neuron(), steps=2), "not value"),
    "dynamics on a ReLU": (lambda: chain(Node("r", ReLU(), dynamics=Dynamics())), "has dynamics"),
    "no dynamics": (lambda: chain(Encode(), neuron(dynamics=None), steps=2), "without dynamics"),
    "no time steps": (lambda: chain(Encode(), neuron()), "number of time steps"),
    "not finite": (lambda: chain(Encode(), neuron(dynamics=Dynamics(v_init=np.inf)), steps=2), "not finite"),
    "du": (lambda: chain(Encode(), quantised(du=4096), steps=2), "du = 4096"),
    "dv": (lambda: chain(Encode(), quantised(dv=-1), steps=2), "dv = -1"),
    "vth": (lambda: chain(Encode(), quantised(vth=2**17), steps=2), "vth = "),
    "bias_exp": (lambda: chain(Encode(), quantised(bias_exp=8), steps=2), "bias_exp = 8"),
    "bias": (lambda: chain(Encode(), quantised(bias_mant=np.array([4096])), steps=2), "13 bits"),
    "other integers": (lambda: chain(weights([[1, 2, 3, 4]]).with_(op=nir.Linear(np.ones((1, 4)))), shape=(4,)),
                       "not those of the weights"),
    "current elsewhere": (lambda: chain(Node("r", ReLU(), quant=CurrentQuant(0, 1.0, 0, 0))), "not an Encode"),
    "no output": (lambda: _without_output(), "no output"),
}  # fmt: skip


def _second_edge(graph: Graph, src: str, dst: str) -> Graph:
    graph.connect(Edge(src, dst, delay=1))
    return graph


def _unfed() -> Graph:
    graph = chain()
    graph.add(Node("r", ReLU()))
    return graph


def _wrong_type() -> Graph:
    graph = infer_types(chain(ReLU()))
    graph.update("n0", type=TensorType((5,)))
    graph.update("y", type=TensorType((5,)))
    return graph


def _without_output() -> Graph:
    graph = chain()
    graph.remove("y")
    return graph


@pytest.mark.parametrize("what", ILLEGAL)
def test_illegal_graphs_are_found(what: str) -> None:
    make, message = ILLEGAL[what]
    graph = make()
    try:
        graph = infer_types(graph) if what != "wrong type" else graph
        findings = verify(graph)
    except HsnnError as error:
        findings = list(error.findings)
    assert findings, "accepted"
    assert {finding.code for finding in findings} <= {"E0102", "E0421"}
    assert any(message in finding.message for finding in findings), findings


def test_legal_graphs_pass() -> None:
    for graph in (
        chain(ReLU()),
        chain(Encode(), quantised(), Decode(), steps=2),
        chain(Encode(), neuron(), Decode(), steps=1),
    ):
        assert verify(infer_types(graph)) == []
    assert verify(infer_types(chain(weights([[2, -4, 6, 8]] * 4, -1)))) == []


def test_values_and_steps_do_not_meet() -> None:
    graph = chain(Encode(), neuron(), steps=2)
    graph.add(Node("add", Add()), Edge("n", "add", "0"), Edge("x", "add", "1"))
    with pytest.raises(HsnnError) as error:
        infer_types(graph)
    assert error.value.findings[0].code == "E0421"
    assert "Encode or Decode" in error.value.findings[0].message


def test_the_table_has_every_op() -> None:
    assert set(SPEC) == set(OPS)
    assert len(table()) == len(OPS)
    assert all(all(isinstance(cell, str) and cell for cell in row) for row in table())


def test_codings_follow_the_table() -> None:
    graph = infer_types(chain(ReLU(), Encode(), nir.Linear(np.ones((4, 4))), neuron(), Decode(), steps=2))
    codings = [node.type.coding for node in graph]  # type: ignore[union-attr]
    assert codings == [
        Coding.VALUE,
        Coding.VALUE,
        Coding.CURRENT,
        Coding.CURRENT,
        Coding.SPIKES,
        Coding.VALUE,
        Coding.VALUE,
    ]


# -- editing ------------------------------------------------------------------------------------------


def diamond() -> Graph:
    graph = Graph("g")
    for name in "abcd":
        graph.add(Node(name, ReLU()))
    graph.connect(Edge("a", "b", delay=1))
    graph.connect(Edge("a", "c", "1", 3))
    graph.connect(Edge("b", "d", "0", 2))
    graph.connect(Edge("c", "d", "1"))
    return graph


def test_bypass_keeps_ports_and_adds_delays() -> None:
    graph = diamond()
    graph.bypass("b")
    assert sorted(graph.edges) == [Edge("a", "c", "1", 3), Edge("a", "d", "0", 3), Edge("c", "d", "1")]


def test_insert_after_moves_every_consumer() -> None:
    graph = diamond()
    graph.insert_after("a", Node("n", ReLU()))
    assert sorted(graph.edges) == [
        Edge("a", "n"), Edge("b", "d", "0", 2), Edge("c", "d", "1"), Edge("n", "b", delay=1), Edge("n", "c", "1", 3),
    ]  # fmt: skip


def test_insert_on_takes_one_edge() -> None:
    graph = diamond()
    graph.insert_on(Edge("b", "d", "0", 2), Node("n", ReLU()))
    assert Edge("b", "n") in graph.edges
    assert Edge("n", "d", "0", 2) in graph.edges
    assert len(graph.edges) == 5


def test_a_copy_is_independent_and_edges_keep_their_order() -> None:
    graph = diamond()
    other = graph.copy()
    other.remove("d")
    other.update("a", op=Add())
    assert len(graph) == 4
    assert len(graph.edges) == 4
    assert graph["a"].kind == "ReLU"
    for src in "cba":
        other = graph.copy() if src == "c" else other
        other.connect(Edge(src, "d"))
    assert [e.src for e in other.in_edges("d") if e.port == "input"] == ["c", "b", "a"]
    assert [e.src for e in other.sorted().in_edges("d") if e.port == "input"] == ["c", "b", "a"]


def test_what_makes_no_sense_is_refused() -> None:
    graph = diamond()
    wrong: list[Callable[[], object]] = [
        lambda: graph.add(Node("a", ReLU())),
        lambda: graph.add(Node("no\ncontrol characters", ReLU())),
        lambda: graph.connect(Edge("a", "nowhere")),
        lambda: graph.connect(Edge("a", "b", delay=1)),
        lambda: graph.disconnect(Edge("a", "b")),
        lambda: graph.disconnect(Edge("a", "d")),
        lambda: graph["a"].shape,
    ]
    for change in wrong:
        with pytest.raises(HsnnError) as error:
            change()
        assert error.value.findings[0].code == "E0101"
    graph = Graph()
    graph.add(Node("a", ReLU()))
    graph.add(Node("b", ReLU()), "a")
    graph.connect(Edge("b", "a"))
    with pytest.raises(HsnnError) as error:
        graph.topological()
    assert error.value.findings[0].code == "E0420"


def test_a_loop_is_one_group_in_the_order_of_one_step() -> None:
    graph = Graph()
    graph.add(Node("back", ReLU()))
    graph.add(Node("in", ReLU()))
    graph.add(Node("cell", ReLU()), "in", "back")
    graph.connect(Edge("cell", "back", delay=1))
    graph.add(Node("out", ReLU()), "cell")
    graph.add(Node("own", ReLU()), "out")
    graph.connect(Edge("own", "own", delay=2))
    found = groups(graph)
    assert [[node.name for node in group] for group in found] == [["in"], ["back", "cell"], ["out"], ["own"]]
    assert [is_loop(graph, group) for group in found] == [False, True, False, True]
    assert layers(graph) == {"in": 0, "back": 1, "cell": 0, "out": 0, "own": 0}


def test_layers_count_delayed_edges() -> None:
    """The longest way to what is in no loop; in a loop the first arrival, from where it is entered."""
    graph = Graph()
    for name in ("in", "w1", "n1", "w2", "n2", "w3", "n3", "out"):
        graph.add(Node(name, ReLU()))
    for i in (1, 2, 3):
        graph.connect(Edge("in" if i == 1 else f"n{i - 1}", f"w{i}", delay=i))
        graph.connect(Edge(f"w{i}", f"n{i}"))
    graph.connect(Edge("n3", "out"))
    graph.connect(Edge("in", "n2"))  # a shorter way
    forward = {"in": 0, "w1": 1, "n1": 1, "w2": 2, "n2": 2, "w3": 3, "n3": 3, "out": 3}
    assert layers(graph) == forward
    graph.disconnect(Edge("in", "n2"))
    graph.add(Node("back", ReLU()), Edge("n3", "back", delay=1))
    graph.connect(Edge("back", "n1"))
    assert layers(graph) == forward | {"back": 4}
    assert layers(graph.sorted()) == forward | {"back": 4}


def test_unique_names() -> None:
    graph = diamond()
    assert graph.unique("e") == "e"
    assert graph.unique("a") == "a_2"
    assert graph.unique("a b/ä") == "a_b__"
    assert graph.unique("1") == "_1"
    assert graph.unique("") == "node"
