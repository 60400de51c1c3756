"""Every function that a graph may call is the same in onnxruntime as in PyTorch."""

import nir
import numpy as np
import onnx
import pytest
import torch
from calls import CALLS, UNTRIED, Call, numbers
from same import model_of

from hsnn_compiler.backends.host.onnx_export import problems, to_onnx
from hsnn_compiler.backends.host.onnx_run import Session
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Edge, Graph, Node
from hsnn_compiler.ir.host_call import BATCH, FUNCTIONS, HostCall, parse_arguments, replace_leaves
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.reference.host_calls import TABLE

SAMPLES = 7  # no size among the calls
LOST = {  # where the largest elements of the windows were
    ("F.max_pool2d_with_indices", 1),
    ("F.adaptive_max_pool2d_with_indices", 1),
    ("torch.adaptive_max_pool1d", 1),
}


def computed(call: Call, samples: int) -> list[tuple[int | None, int, np.ndarray]]:
    """What torch computes, by its own call: number of the result, where the batch is, and values, batch first."""
    inputs = [torch.from_numpy(x) for x in numbers(call, samples)]

    def tensor(leaf):
        if leaf is BATCH:
            return samples
        if leaf.kind == "x":
            value = {"": torch.Tensor.float, "int": torch.Tensor.long, "bool": torch.Tensor.bool}[leaf.convert](
                inputs[leaf.index]
            )
            return value.movedim(0, leaf.axis)
        value = torch.from_numpy(call.constants[f"c{leaf.index}"])
        if leaf.convert == "scalar":
            return value.reshape(())
        return value if leaf.axis is None else value.repeat_interleave(samples, leaf.axis)

    args, kwargs = parse_arguments(call.arguments)
    out = TABLE[call.function](
        *replace_leaves(args, tensor), **{key: replace_leaves(arg, tensor) for key, arg in kwargs.items()}
    )
    parts = [(None, out)] if isinstance(out, torch.Tensor) else [(i, x) for i, x in enumerate(out) if x is not None]
    found = []
    for i, part in parts:
        axis = next(k for k, n in enumerate(part.shape) if n == samples)
        found.append((i, axis, part.movedim(axis, 0).float().numpy()))
    return found


def graph_of(call: Call, i: int | None, axis: int, shape: tuple[int, ...]) -> Graph:
    graph = Graph("call")
    for k, size in enumerate(call.shapes):
        graph.add(Node(f"x{k}", nir.Input(np.array(size, int))))
    ports = [Edge(f"x{k}", "call", str(k)) for k in range(len(call.shapes))]
    graph.add(Node("call", HostCall(call.function, call.arguments, shape, call.constants, i, axis)), *ports)
    graph.add(Node("y", nir.Output(np.array(shape, int))), "call")
    return infer_types(graph)


def test_every_function_is_tried():
    assert UNTRIED == []
    assert {call.function for call in CALLS} == set(TABLE) & FUNCTIONS


def first_letter(call: Call) -> str:
    return call.function.split(".")[1].lstrip("_")[0]


@pytest.mark.parametrize("letter", sorted(set(map(first_letter, CALLS))))
def test_calls_equal_torch(letter):
    for call in (call for call in CALLS if first_letter(call) == letter):
        wanted = computed(call, SAMPLES)
        for i, axis, value in wanted:
            graph = graph_of(call, i, axis, value.shape[1:])
            if (call.function, i) in LOST:
                (finding,) = problems(graph)
                assert finding.code == "E0439"
                assert call.function in finding.message
                continue
            session = Session(to_onnx(graph, "call"))
            found = session.run({f"x{k}": x for k, x in enumerate(numbers(call, SAMPLES))})["y"]
            largest = np.abs(value[np.isfinite(value)]).max(initial=1e-3)
            np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5 * largest, err_msg=str(call[:3]))
            few = {f"x{k}": x[2:4] for k, x in enumerate(numbers(call, SAMPLES))}
            np.testing.assert_allclose(session.run(few)["y"], found[2:4], rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize(
    "name", ["torch.lstm", "F.multi_head_attention_forward", "Tensor.__getitem__", "F.interpolate"]
)
def test_models_are_valid_and_repeat(name):
    for call in (call for call in CALLS if call.function == name):
        i, axis, value = computed(call, SAMPLES)[0]
        model_of(graph_of(call, i, axis, value.shape[1:]))


def test_several_results_of_a_call_are_computed_once():
    call = next(call for call in CALLS if call.function == "torch.lstm")
    graph = Graph("lstm")
    graph.add(Node("x0", nir.Input(np.array([5, 4]))))
    for i, axis, value in computed(call, SAMPLES):
        op = HostCall(call.function, call.arguments, value.shape[1:], call.constants, i, axis)
        graph.add(Node(f"r{i}", op), Edge("x0", f"r{i}", "0"))
        graph.add(Node(f"y{i}", nir.Output(np.array(value.shape[1:]))), f"r{i}")
    data = to_onnx(infer_types(graph), "lstm")
    assert [node.op_type for node in onnx.load_from_string(data).graph.node].count("LSTM") == 1
    found = Session(data).run({"x0": numbers(call, SAMPLES)[0]})
    for i, _, value in computed(call, SAMPLES):
        np.testing.assert_allclose(found[f"y{i}"], value, rtol=1e-5, atol=1e-6)


def test_what_depends_on_the_data_is_refused():
    graph = Graph("choice")
    graph.add(Node("x", nir.Input(np.array([4]))))
    graph.add(Node("call", HostCall("Tensor.__getitem__", "x0, bool(x0)", (4,))), Edge("x", "call", "0"))
    graph.add(Node("other", HostCall("torch.cumsum", "x0, 1", (4,))), Edge("x", "other", "0"))
    graph.add(Node("y", nir.Output(np.array([4]))), "call", "other")
    with pytest.raises(HsnnError) as error:
        to_onnx(infer_types(graph), "choice")
    assert [finding.node for finding in error.value.findings] == ["call"]
    assert error.value.exit_code == 4
