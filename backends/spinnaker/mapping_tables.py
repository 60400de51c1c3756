"""A mapping as tables."""

from __future__ import annotations

from hsnn_compiler.backends.spinnaker.mapping import Chip, MappedNetlist, MappedPopulation, TurnMapping
from hsnn_compiler.report.table import Cell, Table
from hsnn_compiler.targets import Target

VIRTUAL = (
    "Mapped by sPyNNaker {version} on a virtual board: it partitioned, placed and routed the network, and wrote the"
    " SDRAM images. Nothing was executed."
)
CORES = (
    "Cores with populations, and with the delay extensions they need; on every chip a core of the monitor and one of"
    " sPyNNaker's own come on top."
)
SDRAM = "SDRAM as planned for one sample, sPyNNaker's own cores included."
IMAGES = (
    "Every synapse was read back from the SDRAM images and compared. Errors are in steps of the resolution: rounding"
    " is 0.5 at most."
)


def mapping_tables(mapped: MappedNetlist, target: Target) -> list[Table]:
    """What the machine has to hold, by turn, by population and by chip."""
    return [_turns(mapped, target), _populations(mapped), _chips(mapped, target)]


def _turns(mapped: MappedNetlist, target: Target) -> Table:
    limits = target["system.chips"], target["chip.sdram_bytes"], target["chip.router_entries"]
    columns = (
        "turn",
        "cores",
        f"chips of {limits[0]}",
        "boards",
        f"most SDRAM of {limits[1]:,}",
        f"most routes of {limits[2]:,}",
        "synapses",
        "matrices, bytes",
    )
    rows = [_turn(turn) for turn in mapped.turns]
    return Table("Mapping", columns, rows, (VIRTUAL.format(version=mapped.spynnaker), CORES, SDRAM))


def _turn(turn: TurnMapping) -> tuple[Cell, ...]:
    return (
        turn.number,
        turn.cores,
        sum(chip.cores > 0 for chip in turn.chips),
        turn.boards,
        max((chip.sdram_bytes for chip in turn.chips), default=0),
        max((chip.compressed_routes for chip in turn.chips), default=0),
        sum(part.fidelity.synapses for part in turn.populations if part.fidelity),
        sum(part.matrix_bytes for part in turn.populations),
    )


def _populations(mapped: MappedNetlist) -> Table:
    columns = (
        "turn",
        "population",
        "neurons",
        "cores",
        "synapses",
        "matrices, bytes",
        "longest row",
        "step, excitatory",
        "step, inhibitory",
        "largest error",
        "rounded to 0",
    )
    rows = [_population(turn.number, part) for turn in mapped.turns for part in turn.populations]
    return Table("Mapping: populations", columns, rows, (IMAGES,))


def _population(turn: int, part: MappedPopulation) -> tuple[Cell, ...]:
    head: tuple[Cell, ...] = (turn, part.name, part.neurons, len(part.cores))
    how = part.fidelity
    if how is None or not how.synapses:
        return (*head, *(None,) * 7)
    steps = how.resolution
    return (*head, how.synapses, part.matrix_bytes, part.longest_row, *steps, how.largest_error, how.zeroed)


def _chips(mapped: MappedNetlist, target: Target) -> Table:
    columns = ("turn", "chip", "cores", "SDRAM, bytes", "% of SDRAM", "routes", "compressed")
    rows = [_chip(turn.number, chip, target["chip.sdram_bytes"]) for turn in mapped.turns for chip in turn.chips]
    return Table("Mapping: chips", columns, rows)


def _chip(turn: int, chip: Chip, sdram: int) -> tuple[Cell, ...]:
    share = 100.0 * chip.sdram_bytes / sdram
    return turn, f"{chip.x},{chip.y}", chip.cores, chip.sdram_bytes, share, chip.routes, chip.compressed_routes
