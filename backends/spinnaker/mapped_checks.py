"""What sPyNNaker's virtual board let pass: its mapping against the limits of the machine, and against the netlist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.targets import Target

if TYPE_CHECKING:
    from hsnn_compiler.backends.spinnaker.mapping import Chip, MappedPopulation, TurnMapping


def check_mapped(mapping: TurnMapping, target: Target) -> list[Finding]:
    """All findings: E0545 binaries, E0546 boards, E0547 routing entries and SDRAM of chips, E0549 synapses."""
    findings = [
        Finding("E0545", f"sPyNNaker has no binary {name} for the cores of turn {mapping.number}")
        for name, exists in mapping.binaries.items()
        if not exists
    ]
    if mapping.machine_chips > target["system.chips"]:
        findings.append(
            Finding(
                "E0546",
                f"turn {mapping.number} lies on {mapping.machine_chips} chips of {mapping.boards} boards; sPyNNaker's "
                "virtual machine grows without a word",
                supported=f"{target['system.chips']} chips",
                suggestion="fewer channels or more pooling, or keep the first layers on the host: "
                "--layer NAME:place=host",
            )
        )
    for chip in mapping.chips:
        findings += _chip(chip, target)
    for population in mapping.populations:
        findings += _synapses(population)
    return findings


def _chip(chip: Chip, target: Target) -> list[Finding]:
    findings = []
    counts = (
        (chip.compressed_routes, target["chip.router_entries"], "entries in its routing table"),
        (chip.sdram_bytes, target["chip.sdram_bytes"], "bytes of SDRAM"),
    )
    for count, limit, what in counts:
        if count > limit:
            findings.append(Finding("E0547", f"chip {chip.x},{chip.y} takes {count:,} {what}", supported=f"{limit:,}"))
    return findings


def _synapses(population: MappedPopulation) -> list[Finding]:
    fidelity = population.fidelity
    if fidelity is None or fidelity.is_ours:
        return []
    if fidelity.missing or fidelity.extra:
        wrong = (
            f"{fidelity.missing:,} of {fidelity.synapses:,} synapses are not in the SDRAM images with their neurons, "
            f"delay and sign, and {fidelity.extra:,} are there that the network does not have"
        )
    else:
        wrong = f"a weight in the SDRAM images is off by {fidelity.largest_error:,.6g} steps of the resolution"
    return [Finding("E0549", wrong, node=population.name, supported="every synapse, to half a step")]
