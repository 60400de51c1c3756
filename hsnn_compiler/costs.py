"""What one inference costs: spikes, synaptic operations, membrane updates, and an estimate of their energy.

The words are NeuroBench's. Counted is what the chip does (or would do, in a graph without placement):

* **spikes**: events of all populations; a graded spike is one event, whatever its payload;
* **synaptic operations**: one for each event and each synapse that it reaches, weights of zero left out;
* **membrane updates**: every neuron in every step, whether anything arrives or not;
* on the host: **multiplications** of its weights, dense.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hsnn_compiler.ir.fan_out import fan_out
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.reference.batches import Inputs, has_time
from hsnn_compiler.reference.result import Record, Result, join
from hsnn_compiler.targets import Target

RECORDED_BYTES = 128 * 2**20
"""What is recorded to be counted stays below this."""

_SAME_ELEMENTS = ("Flatten", "NoOp")

PICO = 1e-12


@dataclass(frozen=True)
class Costs:
    """Per inference, the mean over the samples that were run.

    Attributes:
        spikes: events of all populations, those on the host too.
        input_events: events that come from elsewhere: encoded inputs, inputs that are spikes.
        synaptic_operations: see the module.
        membrane_updates: see the module.
        host_multiplications: of weights on the host; 0 where there is no host.
        calls: ops on the host whose work is not counted.
    """

    spikes: float
    input_events: float
    synaptic_operations: float
    membrane_updates: int
    host_multiplications: int
    calls: tuple[str, ...] = ()

    def energy(self, target: Target) -> float:
        """Estimated energy of the chip per inference, in joules, see `energy_notes`."""
        per_synapse, per_neuron = (target.constants[name].value for name in _ENERGIES.values())
        return PICO * (self.synaptic_operations * per_synapse + self.membrane_updates * per_neuron)


_ENERGIES = {"synaptic operation": "energy.synaptic_operation_pj", "neuron update": "energy.neuron_update_pj"}


def energy_notes(target: Target) -> tuple[str, str]:
    """What an estimate of energy is made of, and where its constants come from."""
    each = {what: target.constants[name] for what, name in _ENERGIES.items()}
    parts = " and ".join(f"{constant.value:g} pJ per {what}" for what, constant in each.items())
    confidence = ", ".join(dict.fromkeys(constant.confidence for constant in each.values()))
    return (
        f"~: an estimate (confidence {confidence}), {parts}; transport of spikes, leakage and the host are left out.",
        " ".join(f"{constant.value:g} pJ: {constant.source}." for constant in each.values()),
    )


Progress = Callable[[int, int], None]
Run = Callable[[Inputs, Collection[Record], Progress], Result]


def run_counted(
    graph: Graph,
    x: Inputs,
    run: Run,
    record: Collection[Record] = (),
    progress: Progress | None = None,
) -> tuple[Result, Costs | None]:
    """Run samples, some at a time, and count.

    Args:
        graph: what `run` runs, in real numbers or integers, with types.
        x: inputs, as the executors take them.
        run: runs some of the samples, records signals and reports its progress.
        record: signals that the caller wants.
        progress: called as (samples done, all samples).

    Returns:
        the result of all samples, and the costs; None where one sample alone gives more than fits into
        `RECORDED_BYTES`.
    """
    arrays = dict(x) if isinstance(x, Mapping) else {"": x}
    samples = min(len(array) for array in arrays.values())
    tally = Tally(graph, _steps(graph, arrays))
    at_once = RECORDED_BYTES // max(1, tally.bytes_per_sample)
    size = at_once or samples
    wanted = [*record, *(key for key in tally.signals if key not in set(record))] if at_once else record
    results = []
    for start in range(0, max(samples, 1), max(size, 1)):
        part = {name: array[start : start + size] for name, array in arrays.items()}
        result = run(part if isinstance(x, Mapping) else part[""], wanted, _behind(progress, start, samples))
        if at_once:
            tally.add(result, min(size, samples - start))
            result = replace(result, trace={key: result.trace[key] for key in record if key in result.trace})
        results.append(result)
    return join(results), tally.costs() if at_once else None


def _behind(progress: Progress | None, start: int, samples: int) -> Progress:
    """Progress of a part that begins at sample `start`, told as that of the whole."""
    return lambda done, total: progress(start + done, samples) if progress else None


class Tally:
    """Adds up events, neuron by neuron, while a graph runs.

    Args:
        graph: with types.
        steps: time steps of a sample.

    Attributes:
        signals: what must be recorded.
        bytes_per_sample: how much that takes.
    """

    def __init__(self, graph: Graph, steps: int) -> None:
        self.graph, self.steps = graph, steps
        self.samples = 0
        self.events: dict[str, np.ndarray] = {}
        self.feeds = [
            (synapse, _origin(graph, graph[edge.src]))
            for synapse in graph
            if synapse.is_synapse and _has_chip_time(synapse)
            for edge in graph.in_edges(synapse.name)
        ]
        self.populations = [node.name for node in graph if node.is_population and _has_chip_time(node)]
        sources = [origin.name for _, origin in self.feeds] + [n.name for n in graph if _fires(n) or _enters(n)]
        names = list(dict.fromkeys(sources))
        self.signals: list[Record] = [(name, "s") for name in names]
        self.bytes_per_sample = 4 * steps * sum(_size(graph[name]) for name in names)

    def add(self, result: Result, samples: int) -> None:
        """Count what a run of so many samples recorded."""
        self.samples += samples
        for name, variable in self.signals:
            signal = result.trace[name, variable]
            found = np.count_nonzero(signal.reshape(-1, _size(self.graph[name])), axis=0)
            self.events[name] = self.events[name] + found if name in self.events else found

    def costs(self) -> Costs:
        """The mean over all samples so far."""
        fired = {name: int(count.sum()) for name, count in self.events.items()}
        spikes = sum(count for name, count in fired.items() if _fires(self.graph[name]))
        inputs = sum(count for name, count in fired.items() if _enters(self.graph[name]))
        reached = 0
        for synapse, origin in self.feeds:
            shape = self.graph.predecessors(synapse.name)[0].shape
            weights = synapse.quant.integers if isinstance(synapse.quant, WeightQuant) else synapse.op.weight
            reached += int((self.events[origin.name].reshape(shape) * fan_out(synapse.op, weights, shape)).sum())
        samples = max(self.samples, 1)
        return Costs(
            spikes=spikes / samples,
            input_events=inputs / samples,
            synaptic_operations=reached / samples,
            membrane_updates=self.steps * sum(_size(self.graph[name]) for name in self.populations),
            host_multiplications=self._on_host(),
            calls=tuple(node.name for node in self.graph if node.kind == "HostCall"),
        )

    def _on_host(self) -> int:
        found = 0
        for node in self.graph:
            if node.is_synapse and not _has_chip_time(node):
                shape = self.graph.predecessors(node.name)[0].shape
                dense = int(fan_out(node.op, np.ones(node.op.weight.shape, np.bool_), shape).sum())
                found += dense * (self.steps if has_time(node) else 1)
        return found


def _fires(node: Node) -> bool:
    return node.is_spiking or (node.is_population and not node.is_neuron)


def _enters(node: Node) -> bool:
    """Whether events come into being here that no neuron sends."""
    return node.is_event_source or (node.kind == "Input" and has_time(node))


def _has_chip_time(node: Node) -> bool:
    """Whether a node works step by step and nothing says that it does so on the host."""
    return has_time(node) and (node.placement is None or node.on_chip)


def _origin(graph: Graph, node: Node) -> Node:
    """What put out a signal, behind ops that only give its elements another shape."""
    while node.kind in _SAME_ELEMENTS and len(graph.in_edges(node.name)) == 1:
        node = graph.predecessors(node.name)[0]
    return node


def _size(node: Node) -> int:
    return node.type.size if node.type else 0


def _steps(graph: Graph, arrays: Mapping[str, np.ndarray]) -> int:
    """Steps of a sample: those of the graph, or of the data."""
    if graph.timesteps:
        return graph.timesteps
    inputs = graph.of_kind("Input")
    return next((array.shape[1] for array in arrays.values() if inputs and has_time(inputs[0])), 1)
