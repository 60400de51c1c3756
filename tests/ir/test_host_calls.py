"""Host calls: a closed list of functions, arguments that are data, results that PyTorch gives."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Graph, Node, storage
from hsnn_compiler.ir.host_call import BATCH, FUNCTIONS, HostCall, Reference, parse_arguments, show_arguments
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import Decode, Encode
from hsnn_compiler.ir.text import parse, to_text
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.reference.host_calls import TABLE
from hsnn_compiler.reference.torch_ops import bind

ARGUMENTS = [
    (Reference("x", 0, 0),),
    (Reference("x", 0, 2, "bool"), Reference("x", 1, 0, "int"), Reference("c", 3, convert="scalar")),
    ([Reference("c", 0, 0), (Reference("c", 12),)], BATCH, -1, 0.1, -math.inf, True, None, "it's", ...),
    ((slice(None, -1, 2), slice(0, BATCH), ...), (), (1,), [], [[-1.5e-30]]),
]


@pytest.mark.parametrize("args", ARGUMENTS, ids=range(len(ARGUMENTS)))
def test_arguments_are_read_as_written(args: tuple[object, ...]) -> None:
    text = show_arguments(args, {"dim": 1, "mode": args[0]})
    assert parse_arguments(text) == (list(args), {"dim": 1, "mode": args[0]})


@pytest.mark.parametrize("item", [torch.float32, object(), {1: 2}, b"", 1j, np.zeros(2), {1}])
def test_other_things_are_no_arguments(item: object) -> None:
    with pytest.raises(TypeError):
        show_arguments((item,), {})


BROKEN = [
    "x0)(", "x0, y0", "x0, x0.data", "x0 + x0", "x0[0]", "x0 if x0 else x0", "lambda: x0", "open('f')", "int(x0, x0)",
    "slice(x0)", "x0, **c0", "x0, *c0", "x0@'a'", "x0@x0", "-x0", "f(x0)", "x0, b''", "x0, 1j", "x0, {}",
    "x0, (y for y in x0)",
    "x0, __import__('os')", "x0, c0.__class__", "x0, d0", "x0;", "", "x1", "x0, x2", "x0, c0", "x0, " + "(" * 300,
    "x0, " + "-" * 9999 + "1",
    "x0" + ", 1" * 60_000, "x0, 'a\0b", "x0 @ True", "x0, a=1, a=2", "float(x0)", "x0, print(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:20])
def test_other_arguments_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"arguments|ports|constants"):
        HostCall("torch.sin", text, (3,))


@pytest.mark.parametrize(
    ("function", "more"),
    [
        ("os.system", {}), ("torch.load", {}), ("Tensor.__reduce__", {}), ("torch.sin.__globals__", {}), ("F.sin", {}),
        ("Tensor.add_", {}), ("", {}), ("torch.sin", {"shape": (-1,)}), ("torch.sin", {"shape": ("a",)}),
        ("torch.sin", {"axis": 2}), ("torch.sin", {"result": -1}), ("torch.sin", {"constants": {"c0": np.zeros(1)}}),
    ],
)  # fmt: skip
def test_only_functions_of_the_list(function: str, more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"called|shape|constants"):
        HostCall(**{"function": function, "arguments": "x0", "shape": (3,)} | more)  # type: ignore[arg-type]


def test_the_table_is_the_list() -> None:
    assert set(TABLE) <= FUNCTIONS
    assert len(FUNCTIONS - set(TABLE)) < 5, FUNCTIONS - set(TABLE)
    assert not [name for name in FUNCTIONS if name.endswith("_") and not name.endswith("__")], "in place"


def test_files_name_nothing_else(tmp_path: Path) -> None:
    graph = Graph("g")
    graph.add(Node("n", HostCall("torch.sin", "x0", (3,))))
    text = to_text(graph)
    assert text == 'graph "g" {\n  n = HostCall(function="torch.sin", arguments="x0", shape=[3])\n}\n'
    for old, new in (("torch.sin", "torch.load"), ('"x0"', '"x0.__class__"'), ("[3]", "3"), ("[3]", "[3], c0=5")):
        with pytest.raises(HsnnError) as error:
            parse(text.replace(old, new))
        assert error.value.findings[0].code == "E0320"
    for key, value in (("function", "os.system"), ("arguments", "open('f')"), ("arguments", "x0, c0")):
        storage.write(graph, tmp_path / "g.h5")
        with h5py.File(tmp_path / "g.h5", "a") as file:
            del file[f"node/nodes/n/{key}"]
            file[f"node/nodes/n/{key}"] = value
        with pytest.raises(HsnnError) as error:
            storage.read(tmp_path / "g.h5")
        assert error.value.findings[0].code == "E0322"


def test_results() -> None:
    x, y = torch.rand(4, 3, 5), torch.rand(4, 3, 5)
    mask = np.array([True, False, True, True, False])
    cases = [
        (HostCall("Tensor.view", "x0, batch, 5, 3", (5, 3)), (x,), x.view(4, 5, 3)),
        (HostCall("Tensor.view", "x0, -1, 3", (5, 3)), (x.mT,), None),
        (HostCall("Tensor.permute", "x0, 1, 2, 0", (3, 5), axis=2), (x,), x),
        (HostCall("Tensor.sum", "x0@2, 0", (5,), axis=1), (x,), x.sum(1)),
        (HostCall("torch.max", "x0, dim=2", (3,), result=1), (x,), x.max(2).indices.float()),
        (HostCall("torch.cat", "[c0@0, x0], 1", (4, 5), {"c0": np.ones((1, 1, 5), np.float32)}), (x,),
         torch.cat([torch.ones(4, 1, 5), x], 1)),
        (HostCall("torch.where", "bool(x0), x1, scalar(c0)", (3, 5), {"c0": np.full(1, 2, np.float32)}),
         ((x > 0.5).float(), y),
         torch.where(x > 0.5, y, 2.0)),
        (HostCall("Tensor.masked_fill", "x0, c0, -inf", (3, 5), {"c0": mask}), (x,),
         x.masked_fill(torch.from_numpy(mask), -math.inf)),
        (HostCall("F.embedding", "int(x0), c0", (2, 3), {"c0": np.eye(3, dtype=np.float32)}),
         (torch.tensor([[0.0, 2.0]]),),
         F.embedding(torch.tensor([[0, 2]]), torch.eye(3))),
    ]  # fmt: skip
    for op, parts, wanted in cases:
        for dtype in (torch.float32, torch.float64):
            if wanted is None:
                with pytest.raises(HsnnError, match="E0105"):
                    bind(op, dtype)(*parts)
                continue
            got = bind(op, dtype)(*(part.to(dtype) for part in parts))
            assert got.dtype == dtype
            torch.testing.assert_close(got.float(), wanted)


def test_what_does_not_fit_is_refused() -> None:
    x = torch.rand(2, 3)
    for op, parts in (
        (HostCall("torch.sin", "x0", (4,)), (x,)),
        (HostCall("torch.sin", "x0", (3,)), (x, x)),
        (HostCall("torch.sin", "x0, 5, 7", (3,)), (x,)),
        (HostCall("torch.cat", "[x0, x1]", (3,)), (x, x)),
        (HostCall("torch.max", "x0, 1", (), result=2), (x,)),
    ):
        with pytest.raises(HsnnError, match="E0105"):
            bind(op, torch.float32)(*parts)
    net = Net((3,)).add("sin", HostCall("torch.sin", "x0, x1", (3,)))
    with pytest.raises(HsnnError, match="E0421"):
        infer_types(net.graph)


def test_in_time_every_step_is_a_call() -> None:
    net = Net((3,), timesteps=4)
    net.encode().neuron("n", threshold=[0.7]).add("power", HostCall("torch.mul", "x0, x1", (3,)), "n", "encode")
    graph = net.done(decode="sum")
    x = np.random.default_rng(0).random((2, 3), dtype=np.float32)
    spikes = FloatExecutor(graph).run(x, record=[("n", "s")]).trace["n", "s"]
    assert spikes.any()
    np.testing.assert_allclose(FloatExecutor(graph).run(x).output, (spikes * x[:, None]).sum(1), rtol=1e-6)
    assert {Encode, Decode} <= {type(node.op) for node in graph}
