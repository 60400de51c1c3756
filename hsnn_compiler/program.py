"""A compiled program: the graph at its end, what the passes did, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hsnn_compiler import families
from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.families import COUNTED_BACKENDS
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.report.table import Table

if TYPE_CHECKING:
    import torch

    from hsnn_compiler.backends.spinnaker.mapping import MappedNetlist
    from hsnn_compiler.backends.spinnaker2.executor import Spinnaker2Executor
    from hsnn_compiler.choice import Choice
    from hsnn_compiler.costs import Costs
    from hsnn_compiler.reference.batches import Inputs
    from hsnn_compiler.reference.float_executor import FloatExecutor
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor
    from hsnn_compiler.reference.result import Record, Result
    from hsnn_compiler.verify.waterfall import Waterfall


@dataclass(frozen=True)
class StageRecord:
    """What one pass did, for reports.

    Attributes:
        name: pass with its options, as pipeline text.
        contract: exact, bounded or lossy.
        modified: whether it changed the graph.
        notes: what it says it did.
        tables: what it measured.
    """

    name: str
    contract: str
    modified: bool
    notes: tuple[str, ...]
    tables: tuple[Table, ...] = ()


@dataclass
class Program:
    """A network compiled for a target.

    Attributes:
        graph: after the last pass: quantised, scheduled.
        floating: the same network before quantisation, what ``backend="float"`` runs.
        target: name of the target.
        source: file name, kind and sha256 of the model, where known.
        options: what was asked for, as plain data.
        stages: what the passes did.
        findings: warnings and information from the whole compilation.
        example: a few inputs [samples, ...]; the bundle replays them.
        choice: how the number of time steps was chosen, where that was asked for.
        mapping: of the emitted network by the vendor's tools, where that was asked for (`map`).
        trained: by pass that trained, parameters (``node:name``) as they then were; verify takes them.
        directory: the bundle's folder, once saved or loaded.
    """

    graph: Graph
    floating: Graph
    target: str
    source: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()
    findings: tuple[Finding, ...] = ()
    example: np.ndarray | None = None
    choice: Choice | None = None
    mapping: MappedNetlist | None = None
    trained: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    directory: Path | None = None

    def __repr__(self) -> str:
        return f"<Program {self.graph.name} for {self.target}, T={self.graph.timesteps}, {len(self.graph)} nodes>"

    @property
    def family(self) -> str:
        """Of the target: the name of its chip."""
        return families.family_of(self.target)

    @property
    def timesteps(self) -> int:
        """Steps per sample."""
        return self.graph.timesteps or 1

    @property
    def latency(self) -> int:
        """Steps from the first step of a sample to its result: the depth of the last population, and T."""
        return max((node.schedule.depth for node in self.graph if node.schedule), default=0) + self.timesteps

    @property
    def populations(self) -> list[str]:
        """Names of the populations on the chip, in the order of the graph."""
        return [node.name for node in self.graph if node.is_population and node.on_chip]

    def save(self, directory: str | Path) -> Path:
        """Write the bundle: whole, or not at all. See `hsnn_compiler.bundle`."""
        from hsnn_compiler.bundle import write_bundle

        missing = families.missing_properties(self.graph, self.family)
        if missing:
            ends = {
                families.LOIHI: "quantise and schedule",
                families.SPINNAKER: "fit-neurons and schedule-turns",
                families.SPINNAKER2: "fit-lif, quantise-int8 and schedule-turns",
            }
            raise refuse(
                "E0206",
                f"the pipeline ended with a graph that is not {' and '.join(missing)}",
                supported=f"pipelines that end with {ends[self.family]}",
                suggestion="use --dry-run --dump-ir DIR to look at the graph, or the default pipeline",
            )
        self.directory = write_bundle(self, Path(directory))
        return self.directory

    def map(self, deadline_s: float = 600.0, progress: Callable[[int, int], None] | None = None) -> MappedNetlist:
        """For SpiNNaker: let sPyNNaker map what is emitted on a virtual board, and check what it did.

        The result is kept in `mapping`, and in bundles saved from then on; its findings say what does not fit, or is
        not what this compiler asked for.

        Args:
            deadline_s: seconds after which it is ended.
            progress: called as (turns done, turns).

        Raises:
            HsnnError: E0706 sPyNNaker is missing; E0540 it refused the network; E0802 the deadline passed.
        """
        self.mapping = families.map_program(self.graph, self.target, deadline_s, progress)
        return self.mapping

    def simulate(
        self,
        x: Inputs,
        backend: str = "reference",
        record: Collection[Record | str] = (),
        *,
        batch_size: int = 128,
        deadline_s: float = 600.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Run samples.

        Args:
            x: inputs [samples, ...].
            backend: ``float`` (before quantisation) or, for Loihi 2, ``reference`` (the chip's integers, batched) or
                ``lava`` (the emitted processes on Lava's CPU backend; needs a saved bundle); for SpiNNaker,
                ``reference`` (the chip's neurons in real numbers, batched), ``nest`` (the netlist on NEST),
                ``spinnaker-fixed`` (the chip's fixed point, emulated), ``spinnaker-float`` (the netlist in float64) or
                ``spinnaker`` (a board). SpiNNaker 2 has ``reference`` (its int8 weights and float32) and ``float``.
            record: populations, or (population, ``s`` | ``u`` | ``v``), to keep traces of.
            batch_size: samples at a time; bounds the memory.
            deadline_s: Lava, NEST and boards only, seconds after which the run is ended.
            progress: called as (done, total).
        """
        signals = [(r, "s") if isinstance(r, str) else r for r in record]
        if backend not in families.backends_of(self.family):
            known = ", ".join(families.backends_of(self.family))
            raise refuse("E0202", f"no backend named {backend!r} for {self.target}", supported=known)
        _check_record(self.graph if backend != "float" else self.floating, signals, on_chip=backend == "lava")
        if backend in COUNTED_BACKENDS:
            return self._executor(backend).run(x, signals, batch_size, progress)
        given = self.graph, self.directory, x, signals
        return families.run(backend, *given, batch_size=batch_size, deadline_s=deadline_s, progress=progress)

    def run(self, x: Inputs, backend: str = "reference") -> np.ndarray | dict[str, np.ndarray]:
        """What comes out for inputs [samples, ...]: an array [samples, ...], or one for each output by name.

        Args:
            x: see `simulate`.
            backend: see `simulate`.
        """
        outputs = self.simulate(x, backend).outputs
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def count(
        self,
        x: Inputs,
        backend: str = "reference",
        record: Collection[Record | str] = (),
        *,
        batch_size: int = 128,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Result, Costs | None]:
        """Run samples as `simulate` does, and count what one inference costs.

        Args:
            x, record, batch_size, progress: see `simulate`.
            backend: ``reference`` or ``float``.

        Returns:
            the result, and the costs, see `hsnn_compiler.costs`; None where a sample is too large to be counted.
        """
        from hsnn_compiler.costs import run_counted

        if backend not in COUNTED_BACKENDS:
            raise refuse("E0202", f"nothing is counted on {backend!r}", supported=", ".join(COUNTED_BACKENDS))
        signals = [(r, "s") if isinstance(r, str) else r for r in record]
        graph = self.graph if backend != "float" else self.floating
        _check_record(graph, signals)
        run = self._executor(backend).run
        return run_counted(graph, x, lambda part, also, bar: run(part, also, batch_size, bar), signals, progress)

    def _executor(self, backend: str) -> LoihiExecutor | FloatExecutor | Spinnaker2Executor:
        if backend == "float":
            from hsnn_compiler.reference.float_executor import FloatExecutor

            return FloatExecutor(self.floating)
        return families.reference(self.graph, self.family)

    def verify(
        self,
        model: torch.nn.Module | Graph,
        x: np.ndarray,
        y: np.ndarray | None = None,
        *,
        calibration: np.ndarray | None = None,
        axes: str = "B",
        lava: int = 0,
        alone: bool = False,
        bisect: bool = False,
        allowed_drop: float = 1.0,
        deadline_s: float = 600.0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Waterfall:
        """Replay data through every stage of the compilation, from the source on; see docs/verify.md.

        Args:
            model: the source: the PyTorch module, or its captured graph (then nothing is compared with PyTorch).
            x: inputs [samples, ...].
            y: class labels [samples], for accuracy.
            calibration: what was given when compiling; without it nothing can be compiled again, and only the graphs
                that the program keeps are replayed (W0605).
            axes: see `hsnn_compiler.compile`.
            lava: compare Lava with the integer reference on so many of the first samples; needs a saved program.
            alone: also measure single changes in an otherwise exact network.
            bisect: find the first stage, layer, neuron and time step that departs, and measure what could be tried.
            allowed_drop: percent points of agreement with the source that a bounded or lossy stage may lose.
            deadline_s: Lava only, seconds after which the run is ended.
            progress: called as (what, done, total).

        Returns:
            the waterfall; its `ok` is False, and its findings say why, where an exact stage is not exact (E0601), the
            program is not what compiling again gives (E0602), or Lava differs from the integers (E0603).

        Raises:
            HsnnError: where the model cannot be captured, compiled or compared (E0604).
        """
        from hsnn_compiler.passes.base import no_progress
        from hsnn_compiler.verify.against_source import verify

        return verify(
            self,
            model,
            x,
            y,
            calibration=calibration,
            axes=axes,
            lava=lava,
            alone=alone,
            find=bisect,
            allowed_drop=allowed_drop,
            deadline_s=deadline_s,
            progress=progress or no_progress,
        )


def _check_record(graph: Graph, signals: Collection[Record], *, on_chip: bool = False) -> None:
    nodes = {n.name: n for n in graph if (n.is_population or n.kind == "Collect") and (n.on_chip or not on_chip)}
    for name, variable in signals:
        if name not in nodes or variable not in ("s", *nodes[name].states):
            raise refuse(
                "E0204", f"nothing to record under {name}:{variable}", supported=f"s, u or v of {', '.join(nodes)}"
            )
