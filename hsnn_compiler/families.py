"""What differs between the families of targets: what a graph must be to be emitted, what checks, emits and runs it.

A family is the name of a chip's own profile (``Target.family``). Backends are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.targets import load_target

if TYPE_CHECKING:
    import numpy as np

    from hsnn_compiler.backends.spinnaker.mapping import MappedNetlist
    from hsnn_compiler.backends.spinnaker2.executor import Spinnaker2Executor
    from hsnn_compiler.ir.graph import Graph
    from hsnn_compiler.reference.batches import Inputs
    from hsnn_compiler.reference.float_executor import FloatExecutor
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor
    from hsnn_compiler.reference.result import Record, Result
    from hsnn_compiler.report.table import Table

LOIHI, SPINNAKER, SPINNAKER2 = "loihi2", "spinnaker", "spinnaker2"

COUNTED_BACKENDS = ("reference", "float")
"""The reference executors, which count what an inference costs."""

RUNNERS: dict[str, tuple[str, ...]] = {
    LOIHI: ("lava",),
    SPINNAKER: ("nest", "spinnaker-fixed", "spinnaker-float", "spinnaker"),
    SPINNAKER2: (),
}
"""What else runs a program, by family."""

MAPPING_PASSES = ("quantise", "fit-neurons", "quantise-int8")
"""Passes with which the chip's own arithmetic begins; ``backend="float"`` runs the graph in front of them."""

PACKAGES = {LOIHI: ("lava-nc",), SPINNAKER: ("sPyNNaker", "PyNN", "nest-simulator"), SPINNAKER2: ()}
"""Distributions whose version a manifest names."""


def family_of(target: str) -> str:
    """The family of a target. E0201 for a name that does not exist."""
    return load_target(target).family


def backends_of(family: str) -> tuple[str, ...]:
    """Everything that runs programs of a family."""
    return (*COUNTED_BACKENDS, *RUNNERS[family])


def missing_properties(graph: Graph, family: str) -> list[str]:
    """What a graph is not yet, that it must be to be emitted."""
    from hsnn_compiler.passes.properties import COMPLETE_FOR, PROPERTIES

    return [name for name in COMPLETE_FOR[family] if not PROPERTIES[name](graph)]


def check(graph: Graph, target: str) -> list[Finding]:
    """What the backend of a target cannot emit, all findings at once."""
    if family_of(target) == SPINNAKER:
        from hsnn_compiler.backends.spinnaker import emit as spinnaker

        return [] if missing_properties(graph, SPINNAKER) else spinnaker.check(graph, load_target(target))
    if family_of(target) == SPINNAKER2:
        from hsnn_compiler.backends.spinnaker2 import emit as spinnaker2

        return [] if missing_properties(graph, SPINNAKER2) else spinnaker2.check(graph)
    from hsnn_compiler.backends.lava import emit as lava

    return lava.check(graph)


def emit(graph: Graph, target: str, folder: Path, version: str, example: np.ndarray | None) -> None:
    """Write what runs a graph into a bundle's folder.

    Args:
        graph: complete, see `missing_properties`.
        target: its name.
        folder: an existing one.
        version: of the compiler.
        example: inputs [samples, ...] that the emitted network replays.
    """
    if family_of(target) == SPINNAKER:
        from hsnn_compiler.backends.spinnaker import emit as spinnaker

        spinnaker.emit(graph, folder, f"{graph.name} on SpiNNaker, written by hsnn-compiler {version}.", example)
        return
    if family_of(target) == SPINNAKER2:
        from hsnn_compiler.backends.spinnaker2 import emit as spinnaker2

        spinnaker2.emit(graph, folder, f"{graph.name} on SpiNNaker 2, written by hsnn-compiler {version}.", example)
        return
    from hsnn_compiler.backends.lava import emit as lava

    lava.emit(graph, folder, f"{graph.name} on Loihi 2, written by hsnn-compiler {version}.", example)


def check_mapper(target: str) -> None:
    """Refuse where nothing maps programs for a target (E0202), or what does is not installed (E0706)."""
    if family_of(target) != SPINNAKER:
        raise refuse("E0202", f"nothing maps programs for {target}", supported="mapping for SpiNNaker 1")
    from hsnn_compiler.backends.spinnaker.presence import check_spynnaker

    check_spynnaker()


def map_program(
    graph: Graph, target: str, deadline_s: float, progress: Callable[[int, int], None] | None = None
) -> MappedNetlist:
    """Let the vendor's tools map what would be emitted; arguments as for `hsnn_compiler.program.Program.map`."""
    check_mapper(target)
    from hsnn_compiler.backends.spinnaker.lower import lower
    from hsnn_compiler.backends.spinnaker.mapping import map_netlist

    return map_netlist(lower(graph), load_target(target), deadline_s, progress)


def read_mapping(folder: Path, target: str) -> MappedNetlist | None:
    """The mapping that a bundle holds, if it holds one."""
    if family_of(target) != SPINNAKER:
        return None
    from hsnn_compiler.backends.spinnaker.mapping import MappedNetlist

    return MappedNetlist.load(folder)


def mapping_tables(mapped: MappedNetlist | None, target: str) -> list[Table]:
    """What the report says of a mapping."""
    if mapped is None:
        return []
    from hsnn_compiler.backends.spinnaker import mapping_tables

    return mapping_tables.mapping_tables(mapped, load_target(target))


def reference(graph: Graph, family: str) -> LoihiExecutor | FloatExecutor | Spinnaker2Executor:
    """What ``backend="reference"`` runs: the chip's integers; for SpiNNaker 1, real numbers in float64."""
    if family == SPINNAKER2:
        from hsnn_compiler.backends.spinnaker2.executor import Spinnaker2Executor

        return Spinnaker2Executor(graph)
    if family == SPINNAKER:
        import torch

        from hsnn_compiler.reference.float_executor import FloatExecutor

        return FloatExecutor(graph, torch.float64, method="auto")
    from hsnn_compiler.backends.host.runner import onnx_runner
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

    return LoihiExecutor(graph, hosts=onnx_runner)


def run(
    backend: str,
    graph: Graph,
    directory: Path | None,
    x: Inputs,
    record: Collection[Record],
    *,
    batch_size: int,
    deadline_s: float,
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Run samples on one of `RUNNERS`; arguments as for `hsnn_compiler.program.Program.simulate`.

    Args:
        directory: the bundle's folder, None where it is not saved.
    """
    if backend in RUNNERS[SPINNAKER]:
        from hsnn_compiler.backends.spinnaker import simulate as spinnaker

        return spinnaker.simulate(
            graph,
            x,
            record,
            backend=backend,
            directory=directory,
            batch_size=batch_size,
            deadline_s=deadline_s,
            on_progress=progress,
        )
    from hsnn_compiler.backends.lava import simulate as lava

    if directory is None:
        raise refuse("E0202", "Lava runs a bundle; this one is not saved", suggestion="program.save(directory)")
    return lava.simulate(graph, directory, x, record, deadline_s=deadline_s, on_progress=progress)
