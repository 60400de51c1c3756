"""Make every population on the chip one that py-spinnaker2's LIF neurons can be, or refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import StepCoefficients, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import Pass, PassContext, PassResult
from hsnn_compiler.passes.spinnaker.rules import NO_STEP, odd_steps, odd_synapses

SUPPORTED = "V <- beta V + input, a spike above the threshold, then V = 0 or V less the threshold: IF and LIF"
WAY_OUT = "--layer {name}:place=host runs these neurons on the host; --target loihi2 has more kinds of them"
WHY = "neurons: LIF of py-spinnaker2"


@dataclass(frozen=True)
class FitLif(Pass):
    """Bring the step of every population to that of py-spinnaker2's LIF neurons, or refuse it.

    Their step is V <- alpha V + i_offset + input; a spike where V > threshold, then V = 0, or V less the threshold.
    Leak or none, reset by subtraction or to zero: all are the chip's own. The rest is refused, all at once (E0570).
    """

    name: ClassVar[str] = "fit-lif"
    requires: ClassVar[tuple[str, ...]] = ("timed", "direct", "neurons-and-synapses", "single-source")
    ensures: ClassVar[tuple[str, ...]] = ("lif-neurons",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        graph = graph.copy()
        findings = [
            Finding("E0570", text, node=node.name, source=node.source, supported=SUPPORTED, suggestion=way_out)
            for node in graph
            if node.on_chip
            for text, way_out in _wrong(graph, node)
        ]
        if findings:
            return PassResult(graph, findings=tuple(findings))
        resets = {"zero": 0, "subtract": 0, "none": 0}
        for node in graph:
            if node.on_chip and node.is_neuron and node.dynamics is not None:
                step = discretize(node.op, node.dynamics)
                reset = "zero" if step.reset == "value" else step.reset
                resets[reset] += 1
                rule = replace(node.dynamics, reset=reset, reset_at="spike")
                graph.update(node.name, dynamics=rule, placement=Placement("chip", WHY))
        words = {"zero": "reset to zero", "subtract": "subtract their threshold", "none": "never fire"}
        note = ", ".join(f"{n} {words[reset]}" for reset, n in resets.items() if n)
        return PassResult(graph, True, (f"populations: {note}",) if note else ())


def _wrong(graph: Graph, node: Node) -> Iterator[tuple[str, str]]:
    """What a node has that the chip's neurons have not, and what to do."""
    on_host = WAY_OUT.format(name=node.name)
    if node.kind in NO_STEP:
        yield NO_STEP[node.kind], "--encode current or host" if node.kind in ("Collect", "FirstSpike") else on_host
    if node.is_neuron and node.dynamics is not None:
        step = discretize(node.op, node.dynamics)
        for text in (*odd_steps(node, step), *_more(step)):
            yield text, on_host
    for _, text, _, way_out in odd_synapses(graph, node):
        yield text, way_out


def _more(step: StepCoefficients) -> Iterator[str]:
    """What is odd here, and not on SpiNNaker 1."""
    if np.any(step.gain <= 0):
        yield "a gain of the input that is not positive"
    if step.threshold is None or step.reset != "subtract":
        return
    at_once = ("spike", "before", "after") if np.all(step.decay == 1) else ("spike", "before")
    if step.reset_at not in at_once:
        yield f"a threshold that is subtracted after the leak of the next step (reset_at={step.reset_at})"
