"""A graph as an ONNX model, checked and run beside the float executor."""

from __future__ import annotations

import numpy as np
import onnx

from hsnn_compiler.backends.host.onnx_export import problems, to_onnx
from hsnn_compiler.backends.host.onnx_run import Session
from hsnn_compiler.ir import Graph
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.float_executor import FloatExecutor


def model_of(graph: Graph) -> bytes:
    """The model's bytes, the same ones twice, valid by ONNX's own rules, and without a path of this machine."""
    assert problems(graph) == []
    data = to_onnx(graph, "part")
    assert to_onnx(graph, "part") == data
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert b"/home" not in data
    assert b"/work" not in data
    assert b".py" not in data
    return data


def inputs_of(graph: Graph, samples: int, seed: int = 0, spread: float = 1.0) -> dict[str, np.ndarray]:
    """Random numbers for all inputs, spikes where an input is spikes."""
    rng = np.random.default_rng(seed)
    found = {}
    for node in graph.of_kind("Input"):
        steps = (graph.timesteps,) if has_time(node) else ()
        size = (samples, *steps, *node.shape)
        is_spikes = node.type.coding.value == "spikes"
        found[node.name] = (rng.random(size) < 0.4 if is_spikes else rng.normal(size=size) * spread).astype(np.float32)
    return found


def assert_same(graph: Graph, exactly: bool = False, seed: int = 0, spread: float = 1.0) -> dict[str, np.ndarray]:
    """The model gives what the float executor gives, for several numbers of samples; returns its outputs."""
    session, executor = Session(model_of(graph)), FloatExecutor(graph)
    for samples in (1, 5):
        given = inputs_of(graph, samples, seed, spread)
        found, wanted = session.run(given), executor.run(given).outputs
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            assert found[name].dtype == np.float32
            assert found[name].shape == value.shape
            if exactly:
                np.testing.assert_array_equal(found[name], value)
            else:
                finite = np.abs(value[np.isfinite(value)]).max(initial=0)
                np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5 * max(finite, 1e-3))
    return found
