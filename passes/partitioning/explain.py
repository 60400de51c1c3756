"""Why every node is where it is, what it would take to move it, and what crosses."""

from __future__ import annotations

from collections.abc import Collection

from hsnn_compiler.passes.base import listing
from hsnn_compiler.passes.partitioning.costs import CONSTANTS, Prices
from hsnn_compiler.passes.partitioning.counting import boundaries
from hsnn_compiler.passes.partitioning.problem import INF
from hsnn_compiler.passes.partitioning.solver import forced
from hsnn_compiler.passes.partitioning.work import Workload
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.report.table import Cell, Table


def bound_to_host(work: Workload) -> dict[str, str]:
    """By node, why it can only be on the host: its own reason, or that of a neighbour it cannot be parted from."""
    found = {name: item.only_host for name, item in work.works.items() if item.only_host}
    before = -1
    while before != len(found):
        before = len(found)
        for flow in work.flows:
            if flow.to_chip is None and flow.src in found:
                steps = has_time(work.graph[flow.src])
                why = (
                    f"its currents come from {flow.src}, which runs on the host"
                    if steps
                    else (f"{flow.src} feeds it values from the host, which only neurons take")
                )
                for dst in flow.dsts:
                    found.setdefault(dst, why)
            taker = next((dst for dst in flow.dsts if dst in found), None)
            if flow.to_host is None and taker is not None:
                found.setdefault(flow.src, f"feeds {taker}, which runs on the host, in every step")
    return found


def reasons(
    prices: Prices, objective: str, chip: Collection[str], extra: dict[str, float] | None = None
) -> dict[str, str]:
    """By node, one sentence on why it is where it is.

    Args:
        prices: of the workload.
        objective: that was solved.
        chip: nodes on the chip.
        extra: what `solver.forced` said.
    """
    bound = bound_to_host(prices.work)
    nodes = prices.problem(objective).nodes
    found = {}
    for name in prices.work.works:
        if name in bound or name in prices.work.on_chip:
            found[name] = bound.get(name, "pinned to the chip")
            continue
        own, other = nodes[name][name in chip], nodes[name][name not in chip]
        if objective == "chip":
            why = "as much as possible is to be on the chip" if name in chip and other else _together(chip, name)
        elif own < other:
            why = f"cheaper: {prices.say(objective, own)}, not {prices.say(objective, other)}"
        elif own == other:
            why = _together(chip, name)
        else:
            why = f"{prices.say(objective, own - other)} dearer by itself, but moving it changes what crosses"
        if extra is not None and name in extra and extra[name] < INF:
            why += (
                f" (elsewhere: {prices.say(objective, extra[name])} more)" if extra[name] else " (elsewhere: the same)"
            )
        found[name] = why
    return found


def placement_table(prices: Prices, objective: str, chip: Collection[str], max_crossings: int | None = None) -> Table:
    """Every node: where it runs, what it costs on either side, why, and what holding it on the other side would cost.

    The last is the difference to the best assignment that has it there, everything else free to move; blank where
    nobody asked, see `solver.forced`.
    """
    problem = prices.problem(objective)
    extra = forced(problem, chip, max_crossings)
    why = reasons(prices, objective, chip)
    rows: list[tuple[Cell, ...]] = []
    for name in prices.work.works:
        host, cost = (prices.say(objective, cost) for cost in problem.nodes[name])
        moved = prices.say(objective, extra[name]) if name in extra else None
        kind = prices.work.graph[name].kind
        rows.append((name, kind, "chip" if name in chip else "host", host, cost, why[name], moved))
    columns = ("node", "op", "runs on", "cost on the host", "cost on the chip", "why", "other side: more by")
    return Table("Where it runs", columns, rows, (f"Objective: {objective}.", *constants_notes(prices)))


def traffic_table(prices: Prices, chip: Collection[str]) -> Table:
    """Every signal that changes sides: how much, and whether events or one value per neuron would take less."""
    rows: list[tuple[Cell, ...]] = []
    for src, dsts, to_chip, traffic in boundaries(prices.work, chip):
        events = traffic.what == "events"
        sent, dense = prices.bits(traffic) / 8, traffic.values * prices.count_bits / 8
        fewer = ("events" if sent < dense else "values") if events else None
        where = "host to chip" if to_chip else "chip to host"
        count = float(traffic.count) if events else round(traffic.count)
        rows.append((src, listing(dsts), where, traffic.what, count, sent, dense if events else None, fewer))
    share = prices.count_bits / prices.event_bits
    columns = ("from", "to", "direction", "what", "per inference", "bytes", "bytes as values", "fewer bytes")
    notes = (
        f"{prices.event_bits}-bit address events take less than one {prices.count_bits}-bit value per neuron where a"
        f" neuron sends fewer than {share:g} of them per inference.",
        f"Events: the mean over {prices.work.profile.samples} samples.",
    )
    return Table("What crosses", columns, rows, notes)


def constants_notes(prices: Prices) -> tuple[str, ...]:
    """That everything is an estimate, and what it is made of."""
    constants = [prices.work.target.constants[name] for name in CONSTANTS]
    values = ", ".join(f"{constant.name} {constant.value:g}" for constant in constants)
    confidence = ", ".join(dict.fromkeys(constant.confidence for constant in constants))
    return (f"Estimates (confidence {confidence}) from {values}; sources: hsnn-compile targets NAME.",)


def _together(chip: Collection[str], name: str) -> str:
    return f"stays with its neighbours on the {'chip' if name in chip else 'host'}: less is sent"
