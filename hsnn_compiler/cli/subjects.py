"""What ``simulate`` runs: a bundle, a graph file, or a model as it was captured; and the data for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsnn_compiler.cli.options import capture_file

if TYPE_CHECKING:
    import numpy as np

    from hsnn_compiler.frontends.nir import Contract
    from hsnn_compiler.network import Network
    from hsnn_compiler.program import Program

MODEL_SUFFIXES = (".pt", ".pth", ".pt2")


@dataclass(frozen=True)
class ModelOptions:
    """How to load and capture a model, see `hsnn_compiler.cli.options`; `data` says what its input looks like."""

    axes: str
    modules: tuple[str, ...]
    factory: str | None
    timesteps: int | None
    data: Path


def open_subject(
    path: Path, model: ModelOptions, contract: Contract | None, reset_interval: int | None
) -> Program | Network:
    """Open what is to be run; options that do not concern it are refused (E0225)."""
    from hsnn_compiler.bundle import read_bundle
    from hsnn_compiler.diagnostics import refuse
    from hsnn_compiler.network import SUFFIXES, Network, open_network

    if path.suffix in SUFFIXES and not path.is_dir():
        return open_network(path, contract)
    is_model = path.suffix in MODEL_SUFFIXES and not path.is_dir()
    if contract is not None or (reset_interval is not None and not is_model):
        raise refuse(
            "E0225",
            f"{path.name} is a {'model' if is_model else 'bundle'}, which says all of what a step does",
            supported="--dt, --dynamics and --reset-interval with graphs",
        )
    if not is_model:
        return read_bundle(path)
    captured = capture_file(path, model.data, None, model.axes, model.modules, model.factory, model.timesteps)
    return Network(captured.graph, captured.findings)


def load_data(subject: Program | Network, data: Path, limit: int | None) -> tuple[Any, np.ndarray | None]:
    """Inputs, and labels if there are any; the first `limit` samples."""
    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.network import Network
    from hsnn_compiler.signals import load_signals

    if isinstance(subject, Network):
        x, y = load_signals(data, subject.graph)
        x = {name: array[:limit] for name, array in x.items()}
        return x, None if y is None else y[:limit]
    samples = load_arrays(data)
    return samples.x[:limit], None if samples.y is None else samples.y[:limit]
