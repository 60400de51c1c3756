"""Spyx 1.0.0 and the NIR paper's Lava, which need no installation here: replays of what they were seen to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from hsnn_compiler.frontends.nir import Contract, read, settle
from hsnn_compiler.reference.float_executor import FloatExecutor

KINDS = ("IF", "LIF", "CubaLIF")
DT = 0.25


def chain(seed: int, biases: bool) -> tuple[dict[str, Any], list[tuple[str, str]], np.ndarray]:
    """Two layers of weights and neurons, each neuron perhaps with recurrent weights (without bias)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    nodes: dict[str, Any] = {"input": nir.Input(np.array([n]))}
    edges = []
    at = "input"
    for i in range(2):
        weight = rng.normal(size=(n, n))
        nodes[f"w{i}"] = nir.Affine(weight, rng.normal(size=n)) if biases else nir.Linear(weight)
        full = {key: rng.uniform(low, high, n) for key, (low, high) in RANGES.items()}
        kind = getattr(nir, KINDS[int(rng.integers(3))])
        wanted = kind.__dataclass_fields__
        nodes[f"n{i}"] = kind(**{key: value for key, value in full.items() if key in wanted})
        edges += [(at, f"w{i}"), (f"w{i}", f"n{i}")]
        if rng.random() < 0.5:
            nodes[f"r{i}"] = nir.Linear(rng.normal(size=(n, n)))
            edges += [(f"n{i}", f"r{i}"), (f"r{i}", f"n{i}")]
        at = f"n{i}"
    nodes["output"] = nir.Output(np.array([n]))
    return nodes, [*edges, (at, "output")], rng.normal(0.5, 1.5, (30, n))


RANGES = {"tau": (0.2, 2), "tau_syn": (0.2, 1), "tau_mem": (0.2, 2), "r": (0.5, 3), "w_in": (0.5, 3),
          "v_leak": (-0.3, 0.3), "v_threshold": (0.4, 1.5), "v_reset": (-0.3, 0.3)}  # fmt: skip


def spyx(op: Any, drive: Any, recurrent: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """It tests the potential of the step before, hands that spike out, and integrates what arrives now."""
    n = len(op.v_threshold)
    u, v, spikes, potentials = np.zeros(n), np.zeros(n), [], []
    for t in range(steps):
        potentials.append(v)
        s = (v > op.v_threshold).astype(float)
        i = drive(t) + recurrent @ s
        if isinstance(op, nir.CubaLIF):
            v = v - s * op.v_threshold
            u = np.clip(1 - DT / op.tau_syn, 0, 1) * u + i
            v = np.clip(1 - DT / op.tau_mem, 0, 1) * v + u
        else:
            decay = np.clip(1 - DT / op.tau, 0, 1) if isinstance(op, nir.LIF) else 1
            v = decay * v + i - s * op.v_threshold
        spikes.append(s)
    return np.array(spikes), np.array(potentials)


def lava(op: Any, drive: Any, recurrent: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """v = v (1 - dv) + a, reset to zero; every Dense sends what it computed in the step before."""
    n = len(op.v_threshold)
    u, v, s, spikes, potentials = np.zeros(n), np.zeros(n), np.zeros(n), [], []
    for t in range(steps):
        a = (drive(t - 1) if t else 0) + recurrent @ s
        if isinstance(op, nir.CubaLIF):
            u = u * (1 - DT / op.tau_syn) + op.w_in * DT / op.tau_syn * a
            v = v * (1 - DT / op.tau_mem) + u
        elif isinstance(op, nir.LIF):
            v = v * (1 - DT / op.tau) + DT / op.tau * a
        else:
            v = v + a
        s = (v > op.v_threshold).astype(float)
        v = np.where(s > 0, 0, v)
        spikes.append(s)
        potentials.append(v)
    return np.array(spikes), np.array(potentials)


@pytest.mark.parametrize(("platform", "replay"), [("spyx", spyx), ("lava", lava)])
def test_replays(platform: str, replay: Any, tmp_path: Path) -> None:
    fired = 0
    for seed in range(40):
        nodes, edges, x = chain(seed, biases=platform == "spyx")  # a Dense of Lava has no bias
        nir.write(tmp_path / "n.nir", nir.NIRGraph(nodes, edges))
        graph, _ = read(tmp_path / "n.nir")
        graph, _ = settle(graph, Contract.parse(f"preset={platform}", DT))
        record = [(f"n{i}", variable) for i in range(2) for variable in "sv"]
        trace = FloatExecutor(graph, method="steps").run(x[None], record).trace
        signal = x
        for i in range(2):
            w = nodes[f"w{i}"]
            drives = signal @ w.weight.T + getattr(w, "bias", 0)
            recurrent = nodes[f"r{i}"].weight if f"r{i}" in nodes else np.zeros_like(w.weight)
            s, v = replay(nodes[f"n{i}"], drives.__getitem__, recurrent, len(x))
            np.testing.assert_array_equal(trace[f"n{i}", "s"][0], s, err_msg=f"seed {seed}, n{i}")
            np.testing.assert_allclose(trace[f"n{i}", "v"][0], v, atol=1e-5, rtol=1e-5)
            signal = s
            fired += int(s.sum())
    assert fired > 500
