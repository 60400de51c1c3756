"""What work and traffic cost, by objective; and what an assignment comes to.

    host:              operations * E_op
    chip:              synaptic operations * E_syn + N T E_neuron
    host -> chip:      N (E_op + bits E_bit) for N bias currents, events * bits E_bit for spikes of the host
    chip -> host:      events (bits E_bit + E_op), E_op for the addition that counts it; N bits E_bit for potentials,
                       and N T E_neuron for integrators that are there only to be read

with constants of the target (``energy.*``, ``link.*``, ``time.*``), all of them estimates with a source each. The
solver needs costs that add up. Latency does so only as if everything came one after the other; `measure` looks at the
longest path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.passes.partitioning.counting import boundaries, cores, feeding, longest, share
from hsnn_compiler.passes.partitioning.problem import INF, Crossing, Problem, alternations
from hsnn_compiler.passes.partitioning.work import Flow, Traffic, Work, Workload

OBJECTIVES = ("chip", "energy", "latency", "cores")
CONSTANTS = (
    "energy.synaptic_operation_pj", "energy.neuron_update_pj", "energy.host_operation_pj", "energy.link_bit_pj",
    "time.host_operation_ns", "time.synaptic_operation_ns", "time.neuron_update_ns", "time.barrier_ns",
    "time.link_bit_ns", "link.event_bits", "link.value_bits", "link.count_bits",
)  # fmt: skip
"""What estimates are made of."""
PICO, NANO, MICRO = 1e-12, 1e-9, 1e-6
_UNITS = ((1.0, ""), (1e-3, "m"), (MICRO, "u"), (NANO, "n"), (PICO, "p"))


@dataclass(frozen=True)
class Estimate:
    """What an assignment comes to, per inference.

    Attributes:
        energy: joules, host, chip and link.
        latency: seconds until the result is there.
        host_operations: multiplications and additions on the host.
        synaptic_operations: on the chip.
        events: that cross, in both directions.
        sent: bytes that cross, in both directions.
        cores: neuron cores.
        crossings: how often host and chip take turns along a path, at most.
    """

    energy: float
    latency: float
    host_operations: int
    synaptic_operations: float
    events: float
    sent: float
    cores: int
    crossings: float

    @property
    def turns(self) -> float:
        """Turns of the chip, one after the other."""
        return self.crossings if self.crossings == INF else math.ceil(self.crossings / 2)


class Prices:
    """The constants of a target, and what work and traffic cost by each objective.

    Args:
        work: whose target, and whose number of steps.
        core_price: with ``cores``, how many of the host's operations one core is worth.
    """

    def __init__(self, work: Workload, core_price: float = 0.0) -> None:
        self.work, self.core_price = work, core_price
        self._problems: dict[str, Problem] = {}
        self.steps = work.profile.timesteps
        known = {name: work.target.constants[name].value for name in CONSTANTS}
        self.synapse, self.neuron, self.operation, self.bit = (PICO * known[name] for name in CONSTANTS[:4])
        self.host_time, self.synapse_time, self.neuron_time, self.barrier, self.bit_time = (
            NANO * known[name] for name in CONSTANTS[4:9]
        )
        self.event_bits, self.value_bits, self.count_bits = (int(known[name]) for name in CONSTANTS[9:])
        self.all_traffic = 1 + math.ceil(
            sum(traffic.count for f in work.flows for traffic in (f.to_chip, f.to_host) if traffic is not None)
        )

    def bits(self, traffic: Traffic) -> float:
        """Bits that go over the link."""
        return traffic.count * (self.event_bits if traffic.what == "events" else self.value_bits)

    @cached_property
    def slowest_step(self) -> float:
        """Seconds of a step if all that can be on the chip is there."""
        return self.step([name for name, item in self.work.works.items() if not item.only_host])

    def step(self, chip: Collection[str]) -> float:
        """Seconds of a time step, as slow as the busiest core makes it: all steps are alike."""
        busiest = 0.0
        for name in chip:
            item = self.work.works[name]
            if item.neurons:
                behind = feeding(self.work, name, chip)
                full = math.ceil(share(self.work.target, item.neurons, behind.weight_bits, behind.axons))
                synaptic = (item.synaptic + behind.synaptic) / self.steps
                busiest = max(busiest, (synaptic * self.synapse_time + item.neurons * self.neuron_time) / max(1, full))
        return self.barrier + busiest

    def problem(self, objective: str) -> Problem:
        """Costs of nodes and crossings. E0212 for an objective that is none."""
        if objective in self._problems:
            return self._problems[objective]
        if objective not in OBJECTIVES:
            raise refuse("E0212", f"no objective {objective!r}", supported=", ".join(OBJECTIVES))
        node, traffic = {
            "chip": (self._most_on_chip, self._count),
            "energy": (self._energy, self._traffic_energy),
            "latency": (self._latency, self._traffic_time),
            "cores": (self._cores, self._readers),
        }[objective]
        nodes = {}
        for name, work in self.work.works.items():
            host, chip = node(work)
            pinned = name in self.work.on_chip
            nodes[name] = (INF if pinned else host, INF if work.only_host else chip)
        self._problems[objective] = Problem(nodes, tuple(_priced(flow, traffic) for flow in self.work.flows))
        return self._problems[objective]

    def say(self, objective: str, cost: float) -> str:
        """A cost in words; with ``chip``, how much work the host does more, and how much more or less is sent."""
        if cost == INF:
            return "impossible"
        if objective == "energy":
            return _scaled(cost, "J")
        if objective == "latency":
            return _scaled(cost, "s")
        if objective == "cores":
            return f"{cost:,.0f} operations"
        operations = round(cost / self.all_traffic)
        sent = cost - operations * self.all_traffic
        parts = [f"{operations:,} operations on the host"] if operations else []
        return ", ".join([*parts, f"{sent:+,.0f} sent"] if round(sent) else parts) or "nothing"

    # -- objectives: (host, chip) of a node; of traffic, to the chip or not ---------------------------------

    def _most_on_chip(self, work: Work) -> tuple[float, float]:
        return (0 if work.only_host else work.operations * self.all_traffic), 0

    def _count(self, traffic: Traffic, to_chip: bool) -> float:
        return traffic.count

    def _energy(self, work: Work) -> tuple[float, float]:
        updates = work.neurons * self.steps
        return work.operations * self.operation, work.synaptic * self.synapse + updates * self.neuron

    def _traffic_energy(self, traffic: Traffic, to_chip: bool) -> float:
        touched = traffic.values if to_chip else traffic.count if traffic.what == "events" else 0  # encoded; added up
        updates = traffic.integrators * self.steps * self.neuron
        return self.bits(traffic) * self.bit + (touched + traffic.operations) * self.operation + updates

    def _latency(self, work: Work) -> tuple[float, float]:
        layer = self.work.profile.layer_steps if work.neurons else 0
        return work.operations * self.host_time, layer * self.slowest_step

    def _traffic_time(self, traffic: Traffic, to_chip: bool) -> float:
        if traffic.what == "nothing":
            return 0.0
        window = self.steps if to_chip else 1 if traffic.integrators else 0
        return self.bits(traffic) * self.bit_time + traffic.operations * self.host_time + window * self.slowest_step

    def _cores(self, work: Work) -> tuple[float, float]:
        used = share(self.work.target, work.neurons, work.weight_bits, work.axons)
        return (0 if work.only_host else work.operations), self.core_price * used

    def _readers(self, traffic: Traffic, to_chip: bool) -> float:
        return traffic.operations + self.core_price * share(self.work.target, traffic.integrators, 0, 0)

    # -- estimates -----------------------------------------------------------------------------------------

    def measure(self, chip: Collection[str]) -> Estimate:
        """What an assignment comes to."""
        crossed = boundaries(self.work, chip)
        works = self.work.works
        operations = sum(item.operations for name, item in works.items() if name not in chip)
        operations += sum(boundary.traffic.operations for boundary in crossed)
        bits = sum(self.bits(boundary.traffic) for boundary in crossed)
        steps = longest(self.work, chip, crossed)
        return Estimate(
            energy=self.problem("energy").cost(chip),
            latency=operations * self.host_time + bits * self.bit_time + steps * self.step(chip),
            host_operations=operations,
            synaptic_operations=sum(works[name].synaptic for name in chip),
            events=sum(boundary.traffic.count for boundary in crossed if boundary.traffic.what == "events"),
            sent=bits / 8,
            cores=cores(self.work, chip, crossed),
            crossings=alternations(self.problem("chip"), chip),
        )


def _scaled(value: float, unit: str) -> str:
    """With the largest unit that leaves at least 1."""
    factor, prefix = next(((f, p) for f, p in _UNITS if value >= f), _UNITS[-1])
    return f"{value / factor:.4g} {prefix}{unit}" if value else f"0 {unit}"


def _priced(flow: Flow, cost: Callable[[Traffic, bool], float]) -> Crossing:
    there = INF if flow.to_chip is None else cost(flow.to_chip, True)
    back = INF if flow.to_host is None else cost(flow.to_host, False)
    return Crossing(flow.src, flow.dsts, there, back)
