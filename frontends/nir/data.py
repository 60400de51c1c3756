"""NIRData: recordings beside a NIR graph, as arrays over time and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.ir.graph import Graph, Node

_SUPPORTED = "files written by nir.write_data"
_ON_GRID = 1e-6
"""Events this fraction of a step before the next one belong to the next: k * dt / dt is not always k."""


def read_data(path: str | Path, graph: Graph, dt: float | None = None) -> dict[str, np.ndarray]:
    """What a NIRData file holds for the inputs of a graph, by input node: float32 [samples, time, ...].

    Of an input with several observables the one named ``input``, ``spikes`` or ``s`` is taken. Events are
    counted per step, events with values added up; an event at time t belongs to step floor(t / dt).

    Args:
        path: a file that ``nir.write_data`` wrote.
        graph: a graph with inputs; a node of a subgraph is ``block.conv``.
        dt: length of a step, by default that of the graph's dynamics, else that of the file.

    Raises:
        HsnnError: E0301 no such file, E0310 no NIRData, E0330 data that do not fit the graph; all findings at once.
    """
    path = Path(path)
    if not path.exists():
        raise refuse("E0301", f"no such file: {path}", suggestion="check the path and the working directory")
    if not h5py.is_hdf5(path):
        raise refuse("E0310", f"{path} is not an HDF5 file", supported=_SUPPORTED)
    try:
        recorded = _flat(nir.read_data(str(path)))
    except (KeyError, ValueError, TypeError, OSError, AttributeError, RuntimeError) as error:
        raise refuse("E0310", f"{path} holds no NIRData: {error}", supported=_SUPPORTED) from None
    dt = dt or next((node.dynamics.dt for node in graph if node.dynamics), None)
    found = {}
    wrong = []
    for node in graph.of_kind("Input"):
        try:
            if node.name not in recorded:
                raise _MisfitError(f"nothing is recorded for it, only for {', '.join(sorted(recorded)) or 'no node'}")
            found[node.name] = _shaped(_gridded(_observable(recorded[node.name]), dt), node)
        except _MisfitError as error:
            wrong.append(Finding("E0330", str(error), node=node.name, supported=f"[samples, time, {node.type}]"))
    counts = {name: array.shape[:2] for name, array in found.items()}
    if len(set(counts.values())) > 1:
        wrong.append(Finding("E0330", f"inputs differ in samples or time steps: {counts}"))
    if wrong:
        raise HsnnError(wrong)
    return found


def write_data(path: str | Path, arrays: Mapping[tuple[str, str], np.ndarray], dt: float) -> None:
    """Write signals as NIRData.

    Args:
        path: file to write.
        arrays: by (node, variable), [samples, time, ...]; variable ``s`` becomes the observable ``spikes``, and is
            written as booleans where it holds nothing but zeros and ones.
        dt: length of a step.
    """
    nodes: dict[str, Any] = {}
    for (name, variable), array in arrays.items():
        values = np.asarray(array)
        if values.ndim < 2:
            raise refuse(
                "E0330", f"a signal of shape {list(values.shape)}", node=name, supported="[samples, time, ...]"
            )
        values = values.reshape(*values.shape[:2], -1)
        if variable == "s" and np.isin(values, (0, 1)).all():
            values = values.astype(bool)
        key = name.replace("/", ".")  # HDF5 would make a group of it
        node = nodes.setdefault(key, nir.NIRNodeData({}))
        node.observables["spikes" if variable == "s" else variable] = nir.TimeGriddedData(values, float(dt))
    nir.write_data(str(path), nir.NIRGraphData(nodes))


class _MisfitError(Exception):
    """Data that do not fit, in words."""


def _flat(data: Any, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Observables by node, nodes of subgraphs as ``block.conv``."""
    found: dict[str, dict[str, Any]] = {}
    for name, node in data.nodes.items():
        if isinstance(node, nir.NIRGraphData):
            found.update(_flat(node, f"{prefix}{name}."))
        else:
            found[prefix + name] = node.observables
    return found


def _observable(observables: dict[str, Any]) -> Any:
    if len(observables) == 1:
        return next(iter(observables.values()))
    for name in ("input", "spikes", "s"):
        if name in observables:
            return observables[name]
    raise _MisfitError(f"which of its observables goes in? It has {', '.join(sorted(observables)) or 'none'}")


def _gridded(data: Any, dt: float | None) -> np.ndarray:
    """[samples, time, neurons], float32."""
    if isinstance(data, nir.TimeGriddedData):
        if dt is not None and not np.isclose(data.dt, dt, rtol=1e-3):
            raise _MisfitError(f"its step is {data.dt:g}, that of the graph {dt:g}")
        return data.data.astype(np.float32)
    if dt is None:
        raise _MisfitError("events need a length of a step, which neither the graph nor the call gives")
    if not (np.isfinite(data.t_max) and data.t_max > 0):
        raise _MisfitError(f"its events last until t_max = {data.t_max:g}")
    steps = int(np.ceil(data.t_max / dt - _ON_GRID))
    sample, event = np.nonzero(data.idx != -1)
    neuron, time = data.idx[sample, event], data.time[sample, event]
    if not np.isfinite(time).all():
        raise _MisfitError("an event without a time")
    step = np.floor(time / dt + _ON_GRID).astype(np.int64)
    if step.size and (step.min() < 0 or step.max() >= steps):
        raise _MisfitError(f"events from {time.min():g} to {time.max():g}, of a recording that lasts {data.t_max:g}")
    if neuron.size and (neuron.min() < 0 or neuron.max() >= data.n_neurons):
        raise _MisfitError(f"an event of neuron {neuron.max()} (of {data.n_neurons})")
    grid = np.zeros((len(data.idx), steps, data.n_neurons), np.float32)
    values = data.value[sample, event] if isinstance(data, nir.ValuedEventData) else 1
    np.add.at(grid, (sample, step, neuron), values)
    return grid


def _shaped(values: np.ndarray, node: Node) -> np.ndarray:
    """[samples, time, ...] as the input node wants it."""
    if node.type is None or values.shape[2] != node.type.size:
        raise _MisfitError(f"{values.shape[2]} neurons are recorded")
    if not np.isfinite(values).all():
        raise _MisfitError("a value that is not finite")
    return np.ascontiguousarray(values.reshape(*values.shape[:2], *node.shape))
