"""Every op of a graph is the same in onnxruntime as in the float executor, for values and in every step."""

import nir
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same, model_of
from value_graphs import Net

from hsnn_compiler.backends.host.onnx_export import problems, to_onnx
from hsnn_compiler.backends.host.onnx_run import Session
from hsnn_compiler.ir import Coding, Dynamics, Edge, Graph, Node, TensorType
from hsnn_compiler.ir import ops as hs
from hsnn_compiler.ir.crossings import DECODE_KINDS, EVENT_KINDS
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.quant import CurrentQuant
from hsnn_compiler.ir.spec import SPEC
from hsnn_compiler.reference.float_executor import FloatExecutor

RNG = np.random.default_rng(0)
STEPS = 5


def normal(*shape):
    return RNG.normal(size=shape)


def positive(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def conv(weight, stride=1, padding=0, dilation=1, groups=1, bias=None):
    cls = nir.Conv2d if weight.ndim == 4 else nir.Conv1d
    side = (7, 6) if weight.ndim == 4 else 8
    return cls(side, weight, stride, padding, dilation, groups, normal(len(weight)) if bias is None else bias)


def pool(cls, size, stride, padding=(0, 0)):
    return cls(np.array(size), np.array(stride), np.array(padding))


OPS = {
    "Affine": (nir.Affine(normal(3, 4), normal(3)), (4,)),
    "Affine, last of two axes": (nir.Affine(normal(3, 4), normal(3)), (2, 4)),
    "Linear": (nir.Linear(normal(3, 4)), (4,)),
    "Linear, last of three axes": (nir.Linear(normal(5, 4)), (2, 3, 4)),
    "Scale, each": (nir.Scale(normal(3, 1)), (3, 4)),
    "Scale, one": (nir.Scale(np.array([1.5])), (3, 4)),
    "Conv1d": (conv(normal(4, 3, 3)), (3, 8)),
    "Conv1d, strided, dilated": (conv(normal(4, 3, 3), 2, 1, 2), (3, 8)),
    "Conv1d, groups, same": (conv(normal(6, 1, 4), 1, "same", 1, 3), (3, 8)),
    "Conv2d": (conv(normal(4, 3, 3, 2), (2, 1), (1, 0)), (3, 7, 6)),
    "Conv2d, groups, dilation": (conv(normal(4, 1, 2, 2), 1, 1, (2, 1), 4), (4, 7, 6)),
    "Conv2d, same, even kernel": (conv(normal(2, 3, 4, 2), 1, "same", (1, 2)), (3, 7, 6)),
    "Conv2d, valid": (conv(normal(2, 3, 3, 3), 1, "valid"), (3, 7, 6)),
    "Flatten": (nir.Flatten({"input": None}, 0, -1), (2, 3, 4)),
    "Flatten, some axes": (nir.Flatten({"input": None}, 1, 2), (2, 3, 4, 2)),
    "AvgPool2d": (pool(nir.AvgPool2d, (2, 2), (2, 2)), (3, 7, 6)),
    "AvgPool2d, padded": (pool(nir.AvgPool2d, (3, 2), (2, 1), (1, 1)), (3, 7, 6)),
    "SumPool2d": (pool(nir.SumPool2d, (3, 3), (2, 2), (1, 1)), (3, 7, 6)),
    "SumPool2d, no channels": (pool(nir.SumPool2d, (3, 2), (3, 2)), (7, 6)),
    "MaxPool2d": (hs.MaxPool2d((3, 2), (2, 2), (1, 1)), (3, 7, 6)),
    "NoOp": (hs.NoOp("Dropout"), (3,)),
    "ReLU": (hs.ReLU(), (3, 4)),
    "Clip": (hs.Clip(-0.5, 1.0), (3, 4)),
    "Clip, open": (hs.Clip(-0.5, float("inf")), (3, 4)),
    "Quantised, up": (hs.Quantised(positive(3, 1), 4), (3, 4)),
    "Quantised, even": (hs.Quantised(np.ones(1), 4, "even"), (3, 4)),
    "LeakyReLU": (hs.LeakyReLU(0.3), (3, 4)),
    "Sigmoid": (hs.Sigmoid(), (3, 4)),
    "Tanh": (hs.Tanh(), (3, 4)),
    "GELU": (hs.GELU(), (3, 4)),
    "GELU, tanh": (hs.GELU("tanh"), (3, 4)),
    "Softmax": (hs.Softmax(), (3, 4)),
    "Softmax, first axis": (hs.Softmax(0), (3, 4)),
    "Softmax, log": (hs.Softmax(-1, True), (3, 4)),
    "BatchNorm": (hs.BatchNorm(normal(3), normal(3), normal(3), positive(3), 1e-3), (3, 5, 2)),
    "BatchNorm, flat": (hs.BatchNorm(normal(3), normal(3), normal(3), positive(3)), (3,)),
    "LayerNorm": (hs.LayerNorm(normal(4), normal(4)), (3, 4)),
    "LayerNorm, two axes": (hs.LayerNorm(normal(3, 4), normal(3, 4), 1e-3), (2, 3, 4)),
    "Mean": (hs.Mean((1, 2)), (3, 4, 5)),
    "Mean, axes kept": (hs.Mean((-1,), True), (3, 4)),
    "Spread": (hs.Spread((2, 3)), (2, 3, 4)),
    "Threshold": (nir.Threshold(normal(3, 1)), (3, 4)),
    "HostCall": (hs.HostCall("Tensor.permute", "x0, 0, 2, 1", (4, 3)), (3, 4)),
}
EXACT = (
    "NoOp", "ReLU", "Clip", "LeakyReLU", "Scale", "Quantised", "Flatten", "MaxPool2d", "Spread", "Threshold",
    "HostCall",
)  # fmt: skip


def one_op(op, shape, coding=Coding.VALUE, **more):
    graph = Graph("one", STEPS if coding.per_step else None)
    graph.add(Node("x", nir.Input(np.array(shape, int)), type=TensorType(shape, coding)))
    port = "0" if type(op).__name__ == "HostCall" else "input"
    graph.add(Node("op", op, **more), Edge("x", "op", port))
    graph.add(Node("y", nir.Output(np.array([1]))), "op")
    return infer_types(graph)


@pytest.mark.parametrize("coding", [Coding.VALUE, Coding.CURRENT, Coding.SPIKES])
@pytest.mark.parametrize("name", OPS)
def test_ops(name, coding):
    op, shape = OPS[name]
    assert_same(one_op(op, shape, coding), exactly=type(op).__name__ in EXACT)


def test_all_ops_are_tried():
    elsewhere = {
        "Input", "Output", "Encode", "Decode", "Collect", "FirstSpike", "Add", "Concat", "Delay", "SigmaDelta",
        "DeltaEncoder", "IF", "LIF", "CubaLIF", "I", "LI", "CubaLI",
    }  # fmt: skip
    assert {type(op).__name__ for op, _ in OPS.values()} | elsewhere == set(SPEC)


def test_sums_of_spikes_are_whole_numbers():
    graph = one_op(pool(nir.SumPool2d, (3, 3), (1, 1)), (2, 6, 6), Coding.SPIKES)
    assert_same(graph, exactly=True)


def test_ports_and_axes():
    net = Net((3, 4))
    net.add("a", hs.Tanh(), "x").add("b", hs.ReLU(), "x")
    net.add("add", hs.Add(), "a", "b", "a").add("join", hs.Concat(1), "add", "x").add(
        "first", hs.Concat(0), "join", "join"
    )
    net.graph.add(Node("sum", hs.Sigmoid()), "a", "b")
    net.graph.add(Node("y2", nir.Output(np.array([3, 4]))), "sum", "x")
    assert len(assert_same(net.add("end", hs.NoOp(), "first").done())) == 2


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("kind", EVENT_KINDS)
@settings(max_examples=8, deadline=None)
@given(steps=st.integers(1, 16), high=st.sampled_from([1.0, 1 / 3, 2.7]), seed=st.integers(0, 99))
def test_events_are_the_same_spikes(kind, doubled, steps, high, seed):
    period = next(p for p in range(8, 0, -1) if steps % p == 0)
    net = Net((3, 2), steps).add("encode", hs.Encode(kind, high, doubled, period))
    found = assert_same(net.done(), exactly=True, seed=seed, spread=high)["y"]
    assert set(np.unique(found)) <= {0.0, 1.0}


def test_halves_are_rounded_as_in_the_executor():
    graph = Net((4,), 2).add("encode", hs.Encode("delta", 1.0)).done()
    x = np.array([[0.25, 0.75, 0.2499999, 0.7500001]], np.float32)
    np.testing.assert_array_equal(Session(to_onnx(graph, "g")).run({"x": x})["y"], FloatExecutor(graph).run(x).output)


@pytest.mark.parametrize("kind", DECODE_KINDS)
@pytest.mark.parametrize("coding", [Coding.SPIKES, Coding.CURRENT])
def test_decode(kind, coding):
    assert_same(one_op(hs.Decode(kind, 0.7, STEPS), (3, 4), coding))


@pytest.mark.parametrize("code", ["rate", "ttfs", "bitplane", "phase"])
def test_collect_and_first_spikes(code):
    steps = 8
    net = Net((6,), steps).add("encode", hs.Encode("rate" if code == "ttfs" else code, 2.0)).linear("fc", 4)
    net.add("collect", hs.Collect(code, normal(4))).add("fire", hs.FirstSpike(positive(4)))
    found = assert_same(net.done(), exactly=True)["y"]
    assert found.sum(1).max() == 1


def test_direct_coding_is_computed_once():
    net = Net((2, 6, 6), 9).encode().conv("conv", 3).neuron("lif").flatten().linear("fc", 4)
    graph = net.done("mean")
    assert_same(graph)
    model = onnx.load_from_string(model_of(graph))
    (node,) = [node for node in model.graph.node if node.op_type == "Conv"]
    assert node.input[0] == "x"  # one image, not nine


def test_direct_coding_of_a_quantised_graph():
    graph = Net((4,), 3).encode().done()
    graph.update("encode", quant=CurrentQuant(2, 0.37, -40, 33))
    assert_same(graph, exactly=True)


@pytest.mark.parametrize("delay", [np.array([2.0]), np.array([0.0, 3.0, 1.0]), np.array([9.0, 0.0, 1.0])])
def test_delays(delay):
    graph = one_op(nir.Delay(delay), (3,), Coding.SPIKES, dynamics=Dynamics())
    assert_same(graph, exactly=True)
    for wait in (1, 4, 7):
        net = Graph("late", STEPS)
        net.add(Node("x", nir.Input(np.array([3])), type=TensorType((3,), Coding.CURRENT)))
        net.add(Node("a", hs.ReLU()), "x")
        net.add(Node("y", nir.Output(np.array([3]))), Edge("a", "y", delay=wait), Edge("x", "y"))
        assert_same(infer_types(net))


def test_loops_and_graphs_without_a_number_of_steps_are_refused():
    graph = Graph("loop", 4)
    graph.add(Node("x", nir.Input(np.array([3])), type=TensorType((3,), Coding.CURRENT)))
    graph.add(Node("a", hs.ReLU()), "x")
    graph.connect(Edge("a", "a", delay=1))
    graph.add(Node("y", nir.Output(np.array([3]))), "a")
    assert [(f.code, f.node) for f in problems(infer_types(graph))] == [("E0439", "a")]
    raw = one_op(hs.ReLU(), (3,), Coding.CURRENT)
    raw.timesteps = None
    assert {finding.code for finding in problems(raw)} == {"E0439"}


def test_more_than_a_file_holds_is_refused(monkeypatch):
    monkeypatch.setattr("hsnn_compiler.backends.host.onnx_export.MOST_BYTES", 40)
    (finding,) = problems(one_op(*OPS["Affine"]))
    assert finding.code == "E0439"


def test_names_of_any_kind():
    graph = Graph("names")
    graph.add(Node("a/b", nir.Input(np.array([3]))))
    graph.add(Node('say "ä"', nir.Affine(normal(3, 3), normal(3))), "a/b")
    graph.add(Node("a/b.Gemm", hs.ReLU()), 'say "ä"')
    graph.add(Node("0", nir.Output(np.array([3]))), "a/b.Gemm")
    assert list(assert_same(infer_types(graph))) == ["0"]


def test_the_model_says_what_it_takes():
    session = Session(model_of(one_op(hs.ReLU(), (3, 4), Coding.CURRENT)))
    assert session.inputs == {"x": ("batch", STEPS, 3, 4)}
    assert session.outputs == {"y": ("batch", STEPS, 3, 4)}
    model = onnx.load_from_string(to_onnx(one_op(*OPS["Affine"]), "named"))
    assert (model.graph.name, model.producer_name) == ("named", "hsnn-compiler")
    assert {item.name for item in model.graph.initializer} == {"op.weight", "op.bias"}
