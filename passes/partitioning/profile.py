"""How much every node would say: events per inference, estimated or measured on calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hsnn_compiler.costs import RECORDED_BYTES, Tally
from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.ops import ACTIVATIONS
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.calibration.histograms import ChannelHistogram, collect
from hsnn_compiler.passes.calibration.methods import METHODS, Settings
from hsnn_compiler.passes.trained import trained_end
from hsnn_compiler.reference.batches import batches, has_time
from hsnn_compiler.reference.float_executor import FloatExecutor

SAMPLES = 256
METHOD = "mse"
"""How thresholds are guessed before calibration chooses them."""


@dataclass(frozen=True, eq=False)
class Profile:
    """What calibration data say about a graph.

    Attributes:
        timesteps: T, steps per inference.
        events: by node, events per neuron and inference, float64, broadcasts against the node's shape; of activations
            of a graph without time an estimate, of neurons and event encoders what they sent.
        samples: how many samples that is the mean of.
        layer_steps: steps by which a population follows the ones before it: 1, or T with first spikes.
    """

    timesteps: int
    events: Mapping[str, np.ndarray]
    samples: int
    layer_steps: int = 1

    def total(self, node: Node) -> float:
        """Events of a node per inference; 0 where it sends none."""
        return float(np.broadcast_to(self.events.get(node.name, 0.0), node.shape).sum())


def profile(graph: Graph, context: PassContext, timesteps: int | None = None) -> Profile:
    """Profile a graph on the first samples of the calibration data.

    Without time in the graph, activations x become the spikes that a converted neuron with threshold theta (guessed
    from the same data by least squares, per channel, or the trained one) would send, N in a step at most:

        n = clip(floor(x T N / theta + 1/2), 0, T N)   and   min(n, T) events, as several spikes of a step are one event

    With reset to zero floor(T / (floor(theta / x) + 1)) events, with the ttfs code one event where n > 0.
    With time in the graph, it runs, and events are counted.

    Args:
        graph: typed, before conversion or with its own time.
        context: calibration data, and what activations will become.
        timesteps: T of a graph without time; by default that of the context.

    E0213 without calibration data.
    """
    if context.calibration is None:
        raise refuse("E0213", "costs of a partition need data", suggestion="pass --calib data.npz")
    x = context.calibration[:SAMPLES]
    if graph.timesteps is not None or any(has_time(node) for node in graph):
        return _counted(graph, x, context)
    steps = timesteps or context.timesteps or 1
    wanted = [node.name for node in graph.of_kind(*ACTIVATIONS)]
    few = PassContext(calibration=x, batch_size=context.batch_size, progress=context.progress)
    events = {
        name: _expected(graph[name], histogram, steps, context)
        for name, histogram in (collect(graph, wanted, few) if wanted else {}).items()
    }
    return Profile(steps, events, len(x), steps if context.coding == "ttfs" else 1)


def _expected(node: Node, histogram: ChannelHistogram, steps: int, context: PassContext) -> np.ndarray:
    """Events per neuron, [channels, 1, ...]."""
    levels = steps * context.max_spikes
    end = trained_end(node.op)
    guessed = METHODS[METHOD](histogram, Settings(levels)) if end is None else end.reshape(-1)
    theta = np.broadcast_to(guessed, histogram.maximum.shape)[:, None]
    share = np.divide(histogram.values(), theta, out=np.zeros(histogram.counts.shape), where=theta > 0)
    if context.coding == "rate" and context.reset != "subtract":
        period = np.floor(np.divide(1, share, out=np.full_like(share, np.inf), where=share > 0)) + 1
        events = np.floor(steps / period)
    else:
        spikes = np.clip(np.floor(share * levels + 0.5), 0, levels)
        events = np.minimum(spikes, 1 if context.coding == "ttfs" else steps)
    mean = (histogram.counts * events).sum(1) / max(histogram.samples, 1)
    return mean.reshape(-1, *[1] * (len(node.shape) - 1))


def _counted(graph: Graph, x: np.ndarray, context: PassContext) -> Profile:
    steps = graph.timesteps or (x.shape[1] if any(has_time(node) for node in graph.of_kind("Input")) else 1)
    tally = Tally(graph, steps)
    executor = FloatExecutor(graph, method="auto")
    size = max(1, min(context.batch_size, RECORDED_BYTES // max(1, tally.bytes_per_sample)))
    for batch, done, total in batches(graph, x, size):
        result = executor.run_batch(batch, tally.signals)
        tally.add(result, result.samples)
        context.progress("partition: events", done, total)
    sends = [n.name for n in graph if n.is_population or n.is_event_source or (n.kind == "Input" and has_time(n))]
    events = {name: tally.events[name].reshape(graph[name].shape) / len(x) for name in sends if name in tally.events}
    return Profile(steps, events, len(x))
