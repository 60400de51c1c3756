"""Options that say what to fine-tune on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hsnn_compiler.finetune import Finetune

F = TypeVar("F", bound=Callable[..., Any])


def finetune_options(function: F) -> F:
    """Options of passes that train."""
    for option in reversed(
        (
            click.option(
                "--finetune",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Train on these inputs what conversion lost: .npz with x [samples, ...] and perhaps y. Never the "
                "data that is tested on. See docs/fine-tuning.md.",
            ),
            click.option("--finetune-epochs", type=click.IntRange(1), metavar="N", help="Epochs, at most."),
            click.option(
                "--finetune-checkpoints",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Write a checkpoint after every epoch, and go on from the one that is there.",
            ),
            click.option(
                "--finetune-device",
                type=click.Choice(["cpu", "cuda"]),
                default="cpu",
                show_default=True,
                help="Where to train.",
            ),
        )
    ):
        function = option(function)
    return function


def finetune_of(
    path: Path | None, checkpoints: Path | None, device: str, epochs: int | None, input_shape: str | None
) -> Finetune:
    """What `finetune_options` ask for."""
    from dataclasses import replace

    from hsnn_compiler.cli.options import parse_shape, reshaped
    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.finetune import NOT_AT_ALL, training_data

    if path is None:
        if checkpoints is not None or epochs is not None or device != "cpu":
            raise click.UsageError("--finetune-epochs, -checkpoints and -device go with --finetune FILE")
        return NOT_AT_ALL
    data = load_arrays(path)
    x = reshaped(data.x, parse_shape(input_shape)) if input_shape else data.x
    return replace(training_data((x, data.y)), checkpoints=checkpoints, device=device)
