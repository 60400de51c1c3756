"""What a pass is.

A pass is a frozen dataclass. Its fields are its options: they appear in pipeline text
(``calibrate-thresholds{method=mse}``) and in ``hsnn-compile passes``. It never changes the
graph it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.finetune import NOT_AT_ALL, Finetune
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.report.table import Table
from hsnn_compiler.targets import Target, load_target

EXACT, BOUNDED, LOSSY = "exact", "bounded", "lossy"

Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class PassContext:
    """What passes may use besides the graph.

    Attributes:
        timesteps: steps per sample asked for; None takes the model's own, or the default.
        calibration: inputs [samples, ...], float32.
        assumed: whether `calibration` was made up because the user gave none.
        target: profile of the chip (see `hsnn_compiler.targets`).
        layers: options per layer from ``--layer NAME:key=value``.
        reset: ``"subtract"`` or ``"zero"``, for converted activations.
        force_zero: whether neurons of the model itself that reset by subtraction may reset to zero (SpiNNaker).
        coding: ``"rate"`` or ``"ttfs"``, what the spikes of converted activations mean.
        max_spikes: most spikes of one step of converted activations; more than 1 are one spike with a payload.
        encode: how an analog input reaches the chip, see `hsnn_compiler.options.Options`.
        samples: ``"pipelined"`` or ``"serial"``, see `hsnn_compiler.options.Options`.
        objective: what decides between host and chip, see there.
        max_crossings: see there.
        batch_size: samples per batch when data is run through the graph.
        progress: called as (what, done, total).
        teacher: the graph as it was before `convert-activations`, once that begins.
        finetune: what passes that train go by, see `Finetune`.
    """

    timesteps: int | None = None
    calibration: np.ndarray | None = None
    assumed: bool = False
    target: Target = field(default_factory=lambda: load_target("loihi2"))
    layers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reset: str = "subtract"
    force_zero: bool = False
    coding: str = "rate"
    max_spikes: int = 1
    encode: str = "current"
    samples: str = "pipelined"
    objective: str = "auto"
    max_crossings: int | None = None
    batch_size: int = 128
    progress: Progress = no_progress
    teacher: Graph | None = None
    finetune: Finetune = NOT_AT_ALL

    @property
    def training(self) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Inputs [samples, ...], float32, and labels [samples] or None, to fine-tune on; None: do not."""
        return self.finetune.data

    def layer(self, name: str, key: str, default: Any) -> Any:
        """An option of one layer, converted to the type of its default."""
        value = self.layers.get(name, {}).get(key)
        return default if value is None else type(default)(value)


@dataclass(frozen=True)
class PassResult:
    """What a pass returns: the new graph, whether it differs, and what to tell people; tables go into the report.

    A pass that chose some of its options from data gives itself with these options as `chosen`; one that trained, the
    parameters that changed as `trained`, by ``node:name``.
    """

    graph: Graph
    modified: bool = False
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    chosen: Pass | None = None
    trained: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """Base class.

    Class attributes:
        name: as written in pipelines.
        contract: ``exact`` (same function up to rounding), ``bounded`` (error within a stated
            bound) or ``lossy`` (error measured, not bounded).
        requires, ensures: properties (see `properties`) that hold before and after.
        layer_options: keys that ``--layer NAME:key=value`` may set for this pass.
    """

    name: ClassVar[str]
    contract: ClassVar[str] = EXACT
    requires: ClassVar[tuple[str, ...]] = ()
    ensures: ClassVar[tuple[str, ...]] = ()
    layer_options: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """Return the transformed graph; `graph` stays as it is."""
        raise AssertionError("a pass defines run")

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


def count(n: int, what: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def listing(names: Iterable[str]) -> str:
    """Names in one line, shortened in the middle when there are many."""
    names = list(names)
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", *names[-2:]])
