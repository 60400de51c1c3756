"""Signals in files: inputs with a time axis, and traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hsnn_compiler.data import labels_of, read_arrays, samples_of
from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.model_file import source_of
from hsnn_compiler.network import as_samples
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.result import Result


def load_signals(path: str | Path, graph: Graph) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Inputs of a graph by input node, [samples, time, ...] float32, and labels [samples] if there are any.

    Args:
        path: an ``.npy``, or an ``.npz`` with one array per input node (named ``x`` where there is one
            input), each [time, ...] or [samples, time, ...], and perhaps ``y``; or a ``.nird`` NIRData file.
        graph: says which inputs there are.

    Raises:
        HsnnError: E0301, E0310 to E0315 for files; E0311 where an input is missing.
    """
    path = Path(path)
    inputs = graph.of_kind("Input")
    if path.suffix == ".nird":
        from hsnn_compiler.frontends.nir.data import read_data

        return read_data(path, graph), None
    arrays = read_arrays(path)
    y = arrays.pop("y", None)
    if len(inputs) == 1 and inputs[0].name not in arrays:
        key = "x" if "x" in arrays else next(iter(arrays)) if len(arrays) == 1 else None
        arrays = {inputs[0].name: arrays[key]} if key is not None else {}
    missing = [node.name for node in inputs if node.name not in arrays]
    if missing:
        raise refuse(
            "E0311",
            f"no array for the input {', '.join(map(repr, missing))}",
            source=source_of(path),
            supported="an .npz with one array per input: " + ", ".join(repr(node.name) for node in inputs),
        )
    found = {node.name: samples_of(arrays[node.name], path) for node in inputs}
    found = {n.name: as_samples(found[n.name], n.shape) if has_time(n) else found[n.name] for n in inputs}
    count = min(len(array) for array in found.values())
    return found, None if y is None else labels_of(np.atleast_1d(y), count, path)


def write_trace(path: str | Path, result: Result) -> None:
    """Write an ``.npz``: ``NODE.s``, ``NODE.u``, ``NODE.v`` [samples, time, ...] and ``output.NODE``.

    ``s`` is what the node put out, ``u`` and ``v`` are synaptic current and membrane potential after
    each step's update, integers from the integer backends.
    """
    arrays = {f"{name}.{variable}": array for (name, variable), array in result.trace.items()}
    arrays.update({f"output.{name}": array for name, array in result.outputs.items()})
    # A name could be that of an argument of np.savez, so the archive is opened first.
    with Path(path).open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
