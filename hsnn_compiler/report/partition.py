"""What ``inspect BUNDLE --partition`` prints: the turns of host and chip, reasons, and what else could have been."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.stages import depths, host_stages, is_host, stages
from hsnn_compiler.passes.base import listing
from hsnn_compiler.report.sections import placement
from hsnn_compiler.report.table import Cell, Table

if TYPE_CHECKING:
    from hsnn_compiler.program import Program

NOT_LISTED = (
    "Alternatives are listed where host and chip take turns, or where the bundle was compiled with --partition chip,"
    " energy, latency or cores."
)


def tables(program: Program) -> list[Table]:
    """The turns, and the partition pass's own tables; without those, where everything is."""
    own = partition_tables(program)
    if own:
        return [turns(program.graph), *own]
    where = placement(program.graph)
    return [turns(program.graph), Table(where.title, where.columns, where.rows, (*where.notes, NOT_LISTED))]


def partition_tables(program: Program) -> list[Table]:
    """Those of the partition pass itself."""
    return [table for stage in program.stages if stage.name.startswith("partition") for table in stage.tables]


def turns(graph: Graph) -> Table:
    """Host and chip in turns: the nodes of each, what it reads, and the step after which it begins on a sample."""
    number = stages(graph)
    ready = depths(graph, number, graph.timesteps or 1)
    hosts = {stage.number: stage for stage in host_stages(graph)}
    rows: list[tuple[Cell, ...]] = []
    for turn in range(max(number.values(), default=0) + 1):
        host = hosts.get(turn)
        if host is not None:
            reads = listing(f"{read.name} ({read.kind})" for read in host.reads)
            rows.append((f"host{turn}", len(host.nodes), listing(host.nodes), reads, ready[turn]))
        chip = [node for node in graph.topological() if not is_host(node) and number[node.name] == turn]
        populations = [node for node in chip if node.is_population]
        if populations:
            fed = {s.name for node in chip for s in graph.predecessors(node.name) if is_host(s)}
            begins = min(node.schedule.depth for node in populations if node.schedule)
            rows.append((f"chip{turn}", len(chip), listing(node.name for node in populations), listing(fed), begins))
    columns = ("turn", "nodes", "populations, or nodes of the host", "reads", "begins after step")
    return Table("Turns of host and chip", columns, rows)
