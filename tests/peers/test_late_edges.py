"""Which edges are late: random graphs of weights only, every node's signal against the libraries' own executors."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import run_peers

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.nir import Contract, read, settle
from hsnn_compiler.reference.float_executor import FloatExecutor

f32 = np.float32


def random_graph(seed: int) -> nir.NIRGraph | None:
    """Nodes of one number each, names and order of edges by chance; None where nir would add nodes of its own."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 6))
    names = [str(name) for name in rng.permutation([*"abgmpzwq"])[:k]]
    edges = [("input", names[0])] + [(names[int(rng.integers(0, i))], names[i]) for i in range(1, k)]
    for _ in range(int(rng.integers(0, 4))):
        edges.append((names[int(rng.integers(k))], names[int(rng.integers(k))]))
    if rng.random() < 0.4:
        edges.append(("input", names[-1]))
    edges.append((names[int(rng.integers(k))], "output"))
    edges = list(dict.fromkeys(edges))
    if any(all(a != name for a, _ in edges) for name in names):
        return None
    nodes: dict[str, Any] = {"input": nir.Input(np.array([1])), "output": nir.Output(np.array([1]))}
    for name in names:
        nodes[name] = nir.Affine(rng.normal(size=(1, 1)).astype(f32) / 2, rng.normal(size=1).astype(f32))
    return nir.NIRGraph(nodes, [edges[i] for i in rng.permutation(len(edges))])


@pytest.mark.parametrize("platform", ["norse", "sinabs", "snntorch", "spikingjelly"])
def test_random_graphs(platform: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(platform) is None:
        pytest.skip(f"{platform} is not installed (constraints-peers.txt)")
    run = getattr(run_peers, f"run_{platform}")
    compared = with_late = 0
    endless: list[str] = []
    starved: list[int] = []
    x = np.random.default_rng(1).normal(size=(5, 1)).astype(f32)
    for seed in range(90):
        made = random_graph(seed)
        if made is None:
            continue
        path = tmp_path / f"{seed}.nir"
        nir.write(path, made)
        graph, _ = read(path)
        try:
            graph, _ = settle(graph, Contract.parse(f"preset={platform},bias_at_start=no"))
        except HsnnError as error:  # the library itself never comes to an end
            endless.append(error.findings[0].code)
            continue
        late = sum(edge.delay for edge in graph.edges)
        record = [(node.name, "s") for node in graph]
        trace = FloatExecutor(graph).run(x[None], record).trace
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = run(path, x)
        except ValueError:  # norse and sinabs: a node that gets nothing in the first step
            starved.append(late)
            continue
        for name in set(made.nodes) - {"input", "output"}:
            mine = trace[name, "s"][0].ravel()
            np.testing.assert_allclose(theirs[f"{name}.out"].ravel(), mine, atol=1e-5, err_msg=f"{seed} {made.edges}")
        np.testing.assert_allclose(theirs.get("output.out", theirs["output"]).ravel(), trace["output", "s"][0].ravel(),
                                   atol=1e-5)  # fmt: skip
        compared += 1
        with_late += late > 0
    assert set(endless) <= ({"E0420"} if platform in ("snntorch", "spikingjelly") else set())
    assert all(starved)
    assert compared >= 30
    assert with_late >= 15
