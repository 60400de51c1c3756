"""What of a raw graph Lava cannot run is refused before anything is written, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import pytest
from chip_graphs import CHIP

from hsnn_compiler.backends.lava.check_raw import check_raw
from hsnn_compiler.backends.lava.emit_raw import emit_raw
from hsnn_compiler.backends.lava.processes import SPARSE_BINARY, SPARSE_GRADED, is_sparse
from hsnn_compiler.backends.lava.simulate_raw import run_raw
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Dynamics, Edge, Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import DeltaEncoder
from hsnn_compiler.ir.quant import NeuronQuant, SigmaDeltaQuant, WeightQuant
from hsnn_compiler.ir.types import Coding, TensorType

ONE = np.ones(1)


def chain(*, delay: int = 1, kind: str = "IF", reset: str = "zero", v_init: int = 0, exponent: int = 0) -> Graph:
    """x -> w -> n -> w2 -> n2 -> y, three values wide."""
    graph = Graph("chain")
    graph.add(Node("x", nir.Input(np.array([3])), TensorType((3,), Coding.SPIKES)))
    quant = WeightQuant(2 * np.eye(3, dtype=np.int32), exponent, 8, "excitatory", 1.0)
    neuron = NeuronQuant(4095, 0, 9, v_init, np.zeros(3, np.int32), 0, 1.0)
    source = "x"
    for i in ("", "2"):
        graph.add(
            Node(f"w{i}", nir.Linear(2.0 * np.eye(3)), placement=CHIP, quant=quant), Edge(source, f"w{i}", delay=delay)
        )
        op = nir.IF(r=ONE, v_threshold=ONE, v_reset=0 * ONE) if kind == "IF" else nir.I(r=ONE)
        dynamics = Dynamics(integrator="none", reset=reset if kind == "IF" else "none")
        graph.add(Node(f"n{i}", op, dynamics=dynamics, placement=CHIP, quant=neuron), f"w{i}")
        source = f"n{i}"
    graph.add(Node("y", nir.Output(np.array([3]))), source)
    return infer_types(graph)


def encoder(vth: int) -> Graph:
    graph = Graph("encoder")
    graph.add(Node("x", nir.Input(np.array([3])), TensorType((3,), Coding.GRADED)))
    quant = SigmaDeltaQuant(vth, np.zeros(3, np.int32), 6, 6, 64.0)
    graph.add(Node("n", DeltaEncoder(ONE), placement=CHIP, quant=quant), "x")
    graph.add(Node("y", nir.Output(np.array([3]))), "n")
    return infer_types(graph)


def image(shape: tuple[int, ...]) -> Graph:
    """x -> w -> n, a matrix on the last axis of something that is no vector."""
    graph = Graph("image")
    graph.add(Node("x", nir.Input(np.array(shape)), TensorType(shape, Coding.SPIKES)))
    quant = WeightQuant(np.ones((2, shape[-1]), np.int32), 0, 8, "excitatory", 1.0)
    graph.add(Node("w", nir.Linear(np.ones((2, shape[-1]))), placement=CHIP, quant=quant), Edge("x", "w", delay=1))
    out = (*shape[:-1], 2)
    neuron = NeuronQuant(4095, 0, 9, 0, np.zeros(out, np.int32), 0, 1.0)
    ones = np.ones((1,) * len(shape))
    op = nir.IF(r=ones, v_threshold=ones, v_reset=0 * ones)
    graph.add(Node("n", op, dynamics=Dynamics(integrator="none"), placement=CHIP, quant=neuron), "w")
    graph.add(Node("y", nir.Output(np.array(out))), "n")
    return infer_types(graph)


CASES: dict[str, tuple[Callable[[], Graph], int | None, list[str]]] = {
    "the potential of n": (lambda: chain(kind="I"), None, ["w2"]),
    "LIFReset resets before": (lambda: chain(), 2, ["n2"]),
    "a return to a potential other than zero": (lambda: chain(v_init=5), 4, ["n", "n2"]),
    "sigma-delta neurons that reset": (lambda: encoder(2), 4, ["n"]),
    "out of 32 bits": (lambda: encoder(2**19), None, ["n"]),
    "a dense connection from [4, 3]": (lambda: image((4, 3)), None, ["w"]),
    "a signal of shape [2, 2, 2, 3]": (lambda: image((2, 2, 2, 3)), None, ["n", "w", "w", "x"]),
}


@pytest.mark.parametrize("message", CASES)
def test_findings(message: str) -> None:
    make, interval, nodes = CASES[message]
    findings = check_raw(make(), interval)
    assert sorted(f.node for f in findings) == nodes
    assert {f.code for f in findings} == {"E0450"}
    assert any(message in f.message for f in findings)
    assert all(f.supported for f in findings)
    with pytest.raises(HsnnError) as caught:  # before Lava is asked for
        run_raw(make(), np.zeros((1, 4, *make()["x"].shape)), reset_interval=interval, deadline_s=1)
    assert len(caught.value.findings) == len(findings)


def test_nothing_to_find() -> None:
    assert check_raw(chain(v_init=5)) == []  # Lava's LIF takes a potential to begin with
    assert check_raw(chain(v_init=5, reset="subtract"), 2) == []  # our own process returns to it, and not before time
    assert [f.node for f in check_raw(chain(reset="subtract"), 1)] == ["n2"]  # there it would
    assert check_raw(chain(), 3) == []


def test_what_is_asked_for_must_be_there() -> None:
    with pytest.raises(HsnnError) as caught:
        run_raw(chain(), np.zeros((1, 4, 3)), [("w", "s"), ("n", "q")], deadline_s=1)
    assert [f.code for f in caught.value.findings] == ["E0331"]
    assert "s of w" in str(caught.value)


def test_dense_or_sparse(tmp_path: Path) -> None:
    """By size and by the share of weights other than zero, with payloads sooner."""
    for (size, share), bits in ((SPARSE_BINARY, 0), (SPARSE_GRADED, 8)):
        side = int(size**0.5)
        weight = np.zeros((side, side), np.int32)
        weight.flat[: int(share * size)] = 2
        assert is_sparse(WeightQuant(weight, 0, 8, "excitatory", 1.0, message_bits=bits))
        assert not is_sparse(WeightQuant(weight[:-1], 0, 8, "excitatory", 1.0, message_bits=bits))
        weight.flat[int(share * size)] = 2
        assert not is_sparse(WeightQuant(weight, 0, 8, "excitatory", 1.0, message_bits=bits))
    for sparse, word in ((True, "Sparse("), (False, "Dense("), (None, "Dense(")):
        folder = tmp_path / str(sparse)
        folder.mkdir()
        emit_raw(chain(), folder, "a chain", sparse=sparse)
        assert (folder / "network.py").read_text().count(f"= {word}") == 2


def test_the_same_graph_gives_the_same_files(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emit_raw(chain(), tmp_path / name, "a chain", reset_interval=16)
        texts.append([(tmp_path / name / file).read_bytes() for file in ("network.py", "arrays.npz")])
    assert texts[0] == texts[1]
    compile(texts[0][0], "network.py", "exec")
    assert b"RESET_INTERVAL = 16" in texts[0][0]
