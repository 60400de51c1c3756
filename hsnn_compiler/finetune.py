"""What passes train on: `--finetune` as an object (docs/fine-tuning.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse


@dataclass(frozen=True)
class Finetune:
    """What passes train on, and how, as far as it is no option of their own.

    Attributes:
        data: inputs [samples, ...], float32, and labels [samples], int64, or None; None: nothing is trained.
        trained: by pass, parameters that were trained before (``node:name``): it takes them and does not train.
        epochs: for all passes that train; None leaves it to them.
        checkpoints: folder of their checkpoints, from which they go on; None writes none.
        device: ``"cpu"`` or ``"cuda"``.
    """

    data: tuple[np.ndarray, np.ndarray | None] | None = None
    trained: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    epochs: int | None = None
    checkpoints: Path | None = None
    device: str = "cpu"


NOT_AT_ALL = Finetune()


def training_data(given: tuple[Any, Any] | None) -> Finetune:
    """Inputs and labels, or None, as what passes train on; E0313 and E0315 for what is none."""
    if given is None:
        return NOT_AT_ALL
    x, y = np.asarray(given[0], np.float32), None if given[1] is None else np.asarray(given[1])
    if not np.isfinite(x).all():
        raise refuse("E0313", "the data to fine-tune on holds NaN or infinite values")
    if y is not None and (y.shape != x.shape[:1] or y.dtype.kind not in "iu"):
        what = f"labels {y.dtype} {list(y.shape)} for {len(x)} samples"
        raise refuse("E0315", what, supported="one class per sample")
    return Finetune((x, None if y is None else y.astype(np.int64)))


def untrained() -> Finding:
    """Said where data to train on was given and nothing came of it."""
    return Finding(
        "W0556",
        "nothing was fine-tuned: no state was better on held-out data than the start, or nothing is there to train",
        suggestion="see the notes of the passes that train, or their options: hsnn-compile passes",
    )
