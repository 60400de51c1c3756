"""Maps a netlist with sPyNNaker on a virtual board, in a child process, and checks what it hides.

sPyNNaker partitions, places and routes as it does for a real machine, and writes the SDRAM images. A virtual machine
grows with the network, does not load binaries, and holds no data of a run; so what came out is compared with the limits
of the board, and the synapses in the images with the netlist (`images.py`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hsnn_compiler.backends.spinnaker import map_child
from hsnn_compiler.backends.spinnaker.child_process import run_module
from hsnn_compiler.backends.spinnaker.images import Decoded, Fidelity, compare, decode
from hsnn_compiler.backends.spinnaker.mapped_checks import check_mapped
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Turn
from hsnn_compiler.backends.spinnaker.presence import check_spynnaker, spinnaker_missing
from hsnn_compiler.backends.spinnaker.script import write_script
from hsnn_compiler.diagnostics import Finding, HsnnError, Source, refuse
from hsnn_compiler.targets import Target

MAPPING, FORMAT = "mapping.json", 1
VERSION = 5  # of the board: 48 chips
_CONFIG = f"""\
[Machine]
version = {VERSION}
virtual_board = True
[Mode]
mode = Production
[Reports]
default_report_file_path = {{reports}}
write_network_graph = False
keep_dataspec_database = True
write_compressed = True
write_compression_summary = True
"""
_TRACEBACK_LINES = 8


@dataclass(frozen=True)
class Chip:
    """What of the network lies on one chip.

    Attributes:
        x, y: where it is.
        cores: with populations; those of the system are not counted.
        sdram_bytes: planned for one run, the system's cores included.
        routes, compressed_routes: entries of its routing table, before and after compression.
    """

    x: int
    y: int
    cores: int
    sdram_bytes: int
    routes: int
    compressed_routes: int


@dataclass(frozen=True)
class MappedPopulation:
    """One population on the machine.

    Attributes:
        name: in the netlist.
        neurons: their number.
        cores: ``x,y,p`` of each, in the order of the neurons.
        matrix_bytes: of its synaptic rows, on all cores.
        longest_row: words.
        fidelity: of its synapses in the SDRAM images; None for what has none.
    """

    name: str
    neurons: int
    cores: tuple[str, ...]
    matrix_bytes: int = 0
    longest_row: int = 0
    fidelity: Fidelity | None = None


@dataclass(frozen=True)
class TurnMapping:
    """One turn of the chip, mapped.

    Attributes:
        number: of the turn.
        steps: of its run; SDRAM is counted for them.
        chips: those that cores or routes lie on.
        machine_chips, boards: of the virtual machine, which grows with the network.
        populations: in the order of the netlist.
        other_cores: what sPyNNaker adds for the network (delay extensions), by name.
        binaries: that the cores load, and whether sPyNNaker has them.
        seconds: sPyNNaker took, start-up included; 0 where it was read from a file.
    """

    number: int
    steps: int
    chips: tuple[Chip, ...]
    machine_chips: int
    boards: int
    populations: tuple[MappedPopulation, ...]
    other_cores: tuple[str, ...]
    binaries: dict[str, bool]
    seconds: float = 0.0

    @property
    def cores(self) -> int:
        """With populations, or what they need."""
        return sum(chip.cores for chip in self.chips)


@dataclass(frozen=True)
class MappedNetlist:
    """A netlist, mapped.

    Attributes:
        spynnaker: its version.
        turns: one mapping each: between turns the machine is set up anew.
        findings: what does not fit or is not ours.
    """

    spynnaker: str
    turns: tuple[TurnMapping, ...]
    findings: tuple[Finding, ...] = field(default=())

    def save(self, folder: Path) -> None:
        """Write ``mapping.json``: the same bytes for the same mapping, so without times."""
        found = asdict(self)
        for turn in found["turns"]:
            del turn["seconds"]
        (folder / MAPPING).write_text(json.dumps({"format": FORMAT, **found}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> MappedNetlist | None:
        """Read what `save` wrote; None where nothing is. E0340 where it is of a version not known."""
        if not (folder / MAPPING).is_file():
            return None
        text = json.loads((folder / MAPPING).read_text("utf-8"))
        if text["format"] != FORMAT:
            raise refuse("E0340", f"a mapping of format {text['format']}", supported=f"format {FORMAT}")
        findings = tuple(Finding(**{**plain, "source": Source(**plain["source"])}) for plain in text["findings"])
        return cls(text["spynnaker"], tuple(_turn_from(plain) for plain in text["turns"]), findings)


def _turn_from(plain: dict[str, Any]) -> TurnMapping:
    populations = []
    for part in plain["populations"]:
        how = part["fidelity"]
        fidelity = None if how is None else Fidelity(**{**how, "resolution": tuple(how["resolution"])})
        populations.append(MappedPopulation(**{**part, "cores": tuple(part["cores"]), "fidelity": fidelity}))
    return TurnMapping(
        **{
            **plain,
            "chips": tuple(Chip(**chip) for chip in plain["chips"]),
            "populations": tuple(populations),
            "other_cores": tuple(plain["other_cores"]),
        }
    )


def map_netlist(
    netlist: Netlist,
    target: Target,
    deadline_s: float = 600.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> MappedNetlist:
    """Map every turn of a netlist.

    Args:
        netlist: whose own checks (`hsnn_compiler.backends.spinnaker.traps`) found nothing.
        target: whose limits hold.
        deadline_s: seconds for all turns.
        on_progress: called as (turns done, turns).

    Raises:
        HsnnError: E0706 sPyNNaker is missing; E0540 it refused the network; E0802 the deadline passed; E0114 it died.
    """
    found = check_spynnaker()
    end = time.monotonic() + deadline_s
    turns: list[TurnMapping] = []
    findings: list[Finding] = []
    for number, turn in enumerate(netlist.turns):
        job = Path(tempfile.mkdtemp(prefix="hsnn-spynnaker-"))
        try:
            turns.append(_map_turn(netlist, turn, number, job, end))
        finally:
            shutil.rmtree(job, ignore_errors=True)
        findings += check_mapped(turns[-1], target)
        if on_progress is not None:
            on_progress(number + 1, len(netlist.turns))
    return MappedNetlist(found, tuple(turns), tuple(findings))


def _map_turn(netlist: Netlist, turn: Turn, number: int, job: Path, end: float) -> TurnMapping:
    began = time.monotonic()
    netlist.save(job)
    write_script(netlist, job, "Being mapped.")
    populations = turn.populations.values()
    given = {
        "turn": number,
        "sources": {part.name: part.size for part in populations if part.kind == "source"},
        "presented": {part.presented: part.size for part in populations if part.presented},
    }
    (job / map_child.JOB).write_text(json.dumps(given), encoding="utf-8")
    prepare(job)
    error = run_module(
        map_child.__name__, job, max(end - began, 0.0), title="sPyNNaker", env={"HOME": str(job / "home")}
    )
    if error is not None:
        raise _refused(turn, error)
    mapped = json.loads((job / map_child.MAPPED).read_text("utf-8"))
    return read(turn, mapped, time.monotonic() - began)


def prepare(job: Path) -> None:
    """A home and a configuration of its own for sPyNNaker, which else reads and writes the user's."""
    home = job / "home"
    home.mkdir()
    (home / ".spynnaker.cfg").touch()
    (job / "spynnaker.cfg").write_text(_CONFIG.format(reports=job / map_child.REPORTS), encoding="utf-8")


def _refused(turn: Turn, error: Mapping[str, str]) -> HsnnError:
    if error["missing"]:
        return spinnaker_missing(f"sPyNNaker does not import: {error['message']}")
    tail = "\n".join(f"      | {line}" for line in error["traceback"].strip().splitlines()[-_TRACEBACK_LINES:])
    return refuse("E0540", f"sPyNNaker could not map turn {turn.number}: {error['type']}: {error['message']}\n{tail}")


def read(turn: Turn, mapped: dict[str, Any], seconds: float) -> TurnMapping:
    """The mapping that a child saw (`map_child.observe`), with the synapses of its SDRAM images compared."""
    order = list(turn.populations)
    numbers = {label: order.index(name) for label, name in mapped["names"].items()}
    of_network = [core for core in mapped["cores"] if core["application"]]
    for part in (*of_network, *mapped["keys"]):
        part["population"] = numbers.get(part.get("application", part.get("source", "")), -1)
    own = [core for core in of_network if core["population"] >= 0]
    sizes = [population.size for population in turn.populations.values()]
    images = decode(Path(mapped["database"]), own, mapped["keys"], sizes)
    return TurnMapping(
        number=turn.number,
        steps=turn.steps,
        chips=_chips(turn, mapped, of_network),
        machine_chips=mapped["chips"],
        boards=mapped["boards"],
        populations=tuple(
            _population(turn, name, [core for core in own if core["population"] == i], images.get(i))
            for i, name in enumerate(turn.populations)
        ),
        other_cores=tuple(core["vertex"] for core in of_network if core["population"] < 0),
        binaries={core["binary"]: core["binary_exists"] for core in mapped["cores"] if core["binary"]},
        seconds=seconds,
    )


def _chips(turn: Turn, mapped: dict[str, Any], of_network: Sequence[dict[str, Any]]) -> tuple[Chip, ...]:
    sdram: dict[tuple[int, int], float] = {}
    for core in mapped["cores"]:
        place = core["x"], core["y"]
        sdram[place] = sdram.get(place, 0.0) + core["sdram_fixed"] + core["sdram_per_step"] * turn.steps
    used = {(core["x"], core["y"]) for core in of_network}
    routed = {tuple(int(part) for part in place.split(",")) for place in mapped["uncompressed"]}
    return tuple(
        Chip(
            x,
            y,
            cores=sum((core["x"], core["y"]) == (x, y) for core in of_network),
            sdram_bytes=round(sdram.get((x, y), 0.0)),
            routes=mapped["uncompressed"].get(f"{x},{y}", 0),
            compressed_routes=mapped["compressed"].get(f"{x},{y}", 0),
        )
        for x, y in sorted(used | routed)
    )


def _population(turn: Turn, name: str, cores: Sequence[dict[str, Any]], found: Decoded | None) -> MappedPopulation:
    population = turn.populations[name]
    places = tuple(f"{core['x']},{core['y']},{core['p']}" for core in sorted(cores, key=lambda core: core["first"]))
    if not population.is_neural:
        return MappedPopulation(name, population.size, places)
    return MappedPopulation(
        name,
        population.size,
        places,
        found.size_bytes if found else 0,
        found.longest_row if found else 0,
        compare(turn, name, found),
    )
