"""Options that several verbs share, and the way from them to a captured graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.targets import TARGETS

if TYPE_CHECKING:
    import numpy as np

    from hsnn_compiler.frontends.nir import Contract
    from hsnn_compiler.ir.graph import Graph

F = TypeVar("F", bound=Callable[..., Any])

ASSUMED_STEPS = 8
"""Length of the time axis of a made-up example."""


@dataclass(frozen=True)
class Captured:
    """A captured model and where it came from."""

    graph: Graph
    source: dict[str, str]
    calibration: np.ndarray | None
    parameters: int
    findings: tuple[Finding, ...]
    labels: np.ndarray | None = None


AUTO = "auto"


class Steps(click.ParamType):
    """A number of time steps, or ``auto``: then `AUTO`."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """See `click.ParamType`; numbers below 1 are refused later, with a finding."""
        if value == AUTO or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {AUTO!r}", param, ctx)


def source_options(function: F) -> F:
    """Options that say how to load a model, and what it takes."""
    for option in reversed(
        (
            click.option(
                "--axes",
                type=click.Choice(["B", "TB", "BT", "(TB)", "(BT)"]),
                default="B",
                show_default=True,
                help="What the model's forward takes: B [batch, ...], TB [time, batch, ...], BT [batch, time, ...]. "
                "In parentheses: both merged into one axis. "
                "Data files hold [samples, ...] or [samples, time, ...] all the same.",
            ),
            click.option(
                "--module",
                "modules",
                multiple=True,
                metavar="NAME",
                help="Python module that defines the model's classes; it is imported. Repeatable.",
            ),
            click.option(
                "--model",
                "factory",
                metavar="MODULE:FUNCTION",
                help="Builds the model, for a file that holds a state_dict.",
            ),
        )
    ):
        function = option(function)
    return function


def model_options(function: F) -> F:
    """Options that say how to load and capture a model."""
    function = source_options(function)
    for option in reversed(
        (
            click.option(
                "--calib",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Inputs for calibration: .npz with x [samples, ...] (and y), or .npy.",
            ),
            click.option("--input-shape", metavar="C,H,W", help="Shape of one input, where there is no --calib."),
        )
    ):
        function = option(function)
    return function


def compile_options(function: F) -> F:
    """Options that say how to compile."""
    for option in reversed(
        (
            click.option(
                "--target",
                default="loihi2",
                show_default=True,
                metavar="NAME",
                help=f"Chip or board to compile for: {', '.join(TARGETS)}.",
            ),
            click.option(
                "--timesteps",
                type=Steps(),
                metavar="T|auto",
                help="Steps per sample; by default the model's own, or 16 for an ANN. auto: as few as keep the "
                "accuracy on calibration data.",
            ),
            click.option(
                "--accuracy-drop",
                type=click.FloatRange(0, 100),
                metavar="POINTS",
                help="With --timesteps auto: percent points of accuracy that may be lost.  [default: 0.5]",
            ),
            click.option(
                "--reset",
                type=click.Choice(["subtract", "zero", "force-zero"]),
                help="Reset of converted activations: subtract is more accurate, and the default but on SpiNNaker 1; "
                "zero is native on Loihi 2, and all there is on SpiNNaker 1. force-zero, there only: neurons of the "
                "model that subtract reset to zero, too; what that costs is measured.",
            ),
            click.option(
                "--coding",
                type=click.Choice(["rate", "ttfs"]),
                default="rate",
                show_default=True,
                help="Spikes of converted activations: their rate, or the time of a single one (time to first spike).",
            ),
            click.option(
                "--max-spikes",
                type=click.IntRange(1, 255),
                default=1,
                show_default=True,
                metavar="N",
                help="Most spikes of a converted neuron in one step; more than 1 go as one graded spike.",
            ),
            click.option(
                "--encode",
                type=click.Choice(["current", "host", "bitplane", "rate", "ttfs", "delta", "phase", "auto"]),
                default="current",
                show_default=True,
                help="How an analog input reaches the chip: as a bias current, as spikes of first neurons on the "
                "host, or as events: bitplane (one bit per step), rate, ttfs (one spike), delta, phase (8 bits, again "
                "every 8 steps); auto measures them.",
            ),
            click.option(
                "--partition",
                "objective",
                type=click.Choice(["auto", "chip", "energy", "latency", "cores"]),
                default="auto",
                show_default=True,
                help="What runs where, of all that both could do: as much as can be on the chip (auto: list "
                "alternatives only where there is something to choose), or what costs least by an estimate, or as much "
                "as the cores hold. See inspect --partition.",
            ),
            click.option(
                "--max-crossings",
                type=click.IntRange(1),
                metavar="N",
                help="Change between host and chip at most so often on any way through the network.",
            ),
            click.option(
                "--samples",
                type=click.Choice(["pipelined", "serial"]),
                default="pipelined",
                show_default=True,
                help="Samples follow each other through the layers, or each waits for the result of the one before.",
            ),
            click.option(
                "--layer",
                "layers",
                multiple=True,
                metavar="NAME:key=value",
                help="Option of one layer, such as conv2:bits=6. Repeatable; keys: hsnn-compile passes.",
            ),
            click.option("-p", "--pipeline", metavar="TEXT", help="Passes to run, see hsnn-compile passes."),
            click.option("--seed", type=int, default=0, show_default=True, help="Of made-up calibration data."),
        )
    ):
        function = option(function)
    return function


def contract_options(function: F) -> F:
    """Options that say what a NIR file leaves open."""
    for option in reversed(
        (
            click.option(
                "--dt",
                type=click.FloatRange(min=0, min_open=True),
                metavar="TIME",
                help="NIR graphs: length of a step, in the unit of the file's time constants.",
            ),
            click.option(
                "--dynamics",
                metavar="KEY=VALUE,...",
                help="NIR graphs: what a step does, such as preset=norse (snntorch, spikingjelly, sinabs, lava, spyx) "
                "or reset=subtract,input_delay=1. See docs/semantics.md.",
            ),
        )
    ):
        function = option(function)
    return function


def contract_of(dt: float | None, dynamics: str | None) -> Contract | None:
    """The contract that `contract_options` ask for, None if they ask for nothing."""
    if dt is None and not dynamics:
        return None
    from hsnn_compiler.frontends.nir import Contract

    return Contract.parse(dynamics or "", dt)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``1,8,8`` or ``1x8x8``. E0218 for anything else."""
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(",") if part.strip())
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise refuse("E0218", f"--input-shape {text!r}", supported="positive numbers, such as 1,28,28 (no batch axis)")
    return shape


def capture_file(
    path: Path,
    calib: Path | None,
    input_shape: str | None,
    axes: str,
    modules: tuple[str, ...],
    factory: str | None,
    timesteps: int | str | None = None,
) -> Captured:
    """Load a model file safely and capture it."""
    timesteps = timesteps if isinstance(timesteps, int) else None
    shape = parse_shape(input_shape) if input_shape else None
    if calib is None and shape is None:
        raise refuse(
            "E0215",
            "the shape of the model's input is not known",
            suggestion="pass --calib data.npz, or --input-shape 1,28,28",
        )

    import numpy as np

    from hsnn_compiler.data import load_arrays
    from hsnn_compiler.driver import capture_model
    from hsnn_compiler.loading import load_model

    loaded = load_model(path, modules=modules, factory=factory)
    data = None if calib is None else load_arrays(calib)
    calibration = None if data is None else data.x
    if calibration is not None and shape is not None:
        calibration = reshaped(calibration, shape)
    steps = () if axes == "B" else (timesteps or ASSUMED_STEPS,)
    example = np.zeros((2, *steps, *(shape or ())), np.float32) if calibration is None else calibration
    graph, said = capture_model(loaded.module, example, path.stem, axes, timesteps)
    source = {"file": path.name, "kind": loaded.kind, "sha256": loaded.sha256}
    if calib is not None:
        source["calibration"] = calib.name
    parameters = sum(p.numel() for p in loaded.module.parameters())
    labels = None if data is None else data.y
    return Captured(graph, source, calibration, parameters, (*loaded.findings, *said), labels)


def reshaped(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give the data the shape asked for, if it has as many numbers per sample."""
    import math

    if math.prod(data.shape[1:]) != math.prod(shape):
        raise refuse(
            "E0218",
            f"--input-shape {shape} does not fit calibration data of shape {list(data.shape)}",
            supported="as many numbers per sample as the data has",
        )
    return data.reshape(len(data), *shape)
