"""Presets against the libraries themselves: the same files, the same inputs, every spike and every potential."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import run_peers
from peer_nets import Net, conv_net, dense_net

from hsnn_compiler.frontends.nir import Contract, read, settle
from hsnn_compiler.ir import Graph
from hsnn_compiler.reference.float_executor import FloatExecutor

DTS = {"norse": 2.0**-10, "sinabs": 1.0, "snntorch": 1e-4, "spikingjelly": 2.0**-10}
NETS = {"dense": (dense_net, 25), "conv": (conv_net, 5)}


def library(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (constraints-peers.txt)")
    return getattr(run_peers, f"run_{name}")


def ours(path: Path, platform: str, dt: float, x: np.ndarray) -> tuple[Graph, dict[tuple[str, str], np.ndarray]]:
    graph, _ = read(path)
    # The recordings that the snnTorch preset stands for have the bias of loops in the first step, 1.0.0 has not.
    graph, _ = settle(graph, Contract.parse(f"preset={platform},bias_at_start=no", dt))
    record = [(node.name, variable) for node in graph if node.is_neuron for variable in "sv"]
    trace = FloatExecutor(graph).run(x[None], record).trace
    return graph, {key: value[0] for key, value in trace.items()}


def their_unit(platform: str, op: Any) -> float:
    """What to multiply snnTorch's potentials by: it divides thresholds by the gain instead."""
    if platform != "snntorch":
        return 1.0
    tau, gain = (op.tau_syn, op.w_in) if type(op).__name__ == "CubaLIF" else (op.tau, op.r)
    return float((gain * 1e-4 / tau).min())


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("platform", DTS)
def test_random_networks(platform: str, kind: str, tmp_path: Path) -> None:
    run = library(platform)
    build, count = NETS[kind]
    how: dict[str, Any] = {"dt": DTS[platform]} if platform in ("norse", "spikingjelly") else {}
    if platform == "snntorch":
        how["batched"] = False  # its Flatten takes the batch axis along
    spikes = 0
    for seed in range(count):
        net = Net(np.random.default_rng(seed), platform, exact=seed % 2 == 0, dt=DTS[platform])
        path, x = build(net, tmp_path / f"{seed}.nir")
        theirs = run(path, x, **how)
        graph, trace = ours(path, platform, DTS[platform], x)
        assert net.spiking
        for name in net.spiking:
            node = graph[name.replace("/", ".")]
            s, v = (trace[node.name, variable] for variable in "sv")
            context = f"seed {seed}, {name} {node.kind}, edges {net.edges}"
            different = int((s != theirs[f"{name}.out"].reshape(s.shape)).sum())
            assert different == 0, f"{different} of {s.size} spikes differ: {context}"
            scaled = theirs[f"{name}.v"].reshape(v.shape) * their_unit(platform, node.op)
            assert (np.abs(v - scaled) <= 1e-5 * np.maximum(1, np.abs(v))).all(), context
            spikes += int(s.sum())
    assert spikes > 20 * count


@pytest.mark.parametrize("platform", DTS)
def test_a_threshold_met_exactly(platform: str, tmp_path: Path) -> None:
    """Potential 1/2, then 1 = the threshold, then far beyond it: who fires, and how often."""
    run = library(platform)
    one, dt = np.ones(1, np.float32), np.float32(DTS[platform])
    if platform == "snntorch":  # IF has no meaning there; with tau below dt there is no memory
        op = nir.LIF(tau=one * np.float32(5e-5), r=one / 2, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    else:
        op = nir.IF(r=one / dt if platform == "spikingjelly" else one, v_threshold=one, v_reset=0 * one)
    nodes = {"input": nir.Input(np.array([1])), "n": op, "output": nir.Output(np.array([1]))}
    nir.write(tmp_path / "n.nir", nir.NIRGraph(nodes, [("input", "n"), ("n", "output")]))
    x = np.array([[0.5], [1.0 if platform == "snntorch" else 0.5], [0], [3.5], [-8], [1.5], [0]], np.float32)
    theirs = run(tmp_path / "n.nir", x, **({"dt": float(dt)} if platform in ("norse", "spikingjelly") else {}))
    _, trace = ours(tmp_path / "n.nir", platform, float(dt), x)
    np.testing.assert_array_equal(trace["n", "s"].ravel(), theirs["n.out"].ravel())
    fires_at_it = platform in ("sinabs", "spikingjelly")
    assert trace["n", "s"][1, 0] == fires_at_it
    assert trace["n", "s"].max() == (3 if platform == "sinabs" else 1)
