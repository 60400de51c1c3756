"""Make every population on the chip one that IF_curr_delta can be, or refuse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import nir
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import Dynamics, discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Placement
from hsnn_compiler.passes.base import LOSSY, Pass, PassContext, PassResult, count, listing
from hsnn_compiler.passes.spinnaker.compared import compare
from hsnn_compiler.passes.spinnaker.rules import MOST_LEAK_FREE, refusals
from hsnn_compiler.report.table import Table

WHY = "neurons: IF_curr_delta"


@dataclass(frozen=True)
class FitNeurons(Pass):
    """Bring the step of every population to that of the stock model IF_curr_delta, which is

        V <- beta V + input;  a spike where V >= threshold, and then V = 0.

    Reset by subtraction has no exact form: with ``--reset force-zero`` these neurons reset to zero, and what that
    changes is measured on calibration data. Without a leak (beta = 1) the constants of fixed-point arithmetic would
    be 1 and 0, and inputs would vanish: these neurons leak with a time constant of `tau` steps, beta = exp(-1/tau), and
    that is measured, too. Everything else is exact or refused, all at once.
    """

    tau: float = 256.0

    name: ClassVar[str] = "fit-neurons"
    contract: ClassVar[str] = LOSSY
    requires: ClassVar[tuple[str, ...]] = ("timed", "direct", "neurons-and-synapses", "single-source")
    ensures: ClassVar[tuple[str, ...]] = ("pynn-neurons",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        before, graph = graph, graph.copy()
        findings: list[Finding] = []
        notes: list[str] = []
        tables: list[Table] = []
        forced = _reset_to_zero(graph) if context.force_zero else []
        refused = refusals(graph)
        if refused:
            return PassResult(graph, findings=tuple(refused))
        if forced:
            names = listing(forced)
            notes.append(f"reset to zero instead of by subtraction: {names}")
            _tell("W0514", f"{names}: reset to zero, the model subtracts the threshold", before, graph, context,
                  "Reset to zero instead of by subtraction", findings, tables)  # fmt: skip
        converted = [node.name for node in graph if node.on_chip and node.is_spiking and node.was is not None]
        if converted:
            text = "activations became neurons that reset to zero, as stock SpiNNaker neurons do"
            way_out = "--target loihi2, where they can reset by subtraction, if this costs too much accuracy"
            findings.append(Finding("I0516", f"{count(len(converted), 'layer')} of {text}", suggestion=way_out))
        resting = graph.copy()
        leaking = [node.name for node in graph if node.on_chip and node.is_neuron and _leak(graph, node, self.tau)]
        if leaking:
            names = listing(leaking)
            notes.append(f"a leak with a time constant of {self.tau:g} steps: {names}")
            text = f"{names}: integrate-and-fire neurons leak, {100 * (1 - np.exp(-1 / self.tau)):.2g}% per step"
            _tell("W0515", text, resting, graph, context, "Leak of integrate-and-fire neurons", findings, tables)
        for node in graph:
            if node.on_chip and node.is_neuron:
                graph.update(node.name, placement=Placement("chip", WHY))
        notes = notes or ["every population is IF_curr_delta as it is"]
        return PassResult(graph, True, tuple(notes), tuple(findings), tuple(tables))


def _tell(
    code: str, text: str, before: Graph, after: Graph, context: PassContext, title: str,
    findings: list[Finding], tables: list[Table],
) -> None:  # fmt: skip
    """A warning with what it costs, and the table of it."""
    found = compare(before, after, context)
    findings.append(Finding(code, text if found is None else f"{text}; {found}"))
    if found is not None:
        tables.append(found.table(title))


def _reset_to_zero(graph: Graph) -> list[str]:
    """Let neurons that subtract their threshold reset to zero, in place; their names."""
    changed = []
    for node in graph:
        rule = node.dynamics
        if node.on_chip and node.is_spiking and rule is not None and rule.reset == "subtract":
            at = rule.reset_at if rule.reset_at in ("spike", "before") else "spike"
            simple = replace(rule, reset="zero", reset_at=at, max_spikes=1, reset_to_current=False)
            graph.update(node.name, dynamics=simple)
            changed.append(node.name)
    return changed


def _leak(graph: Graph, node: Node, tau: float) -> bool:
    """Bring a population to the step of IF_curr_delta, in place; whether it got a leak that it had not."""
    assert node.dynamics is not None
    step = discretize(node.op, node.dynamics)
    reset = "zero" if node.is_spiking else "none"
    free = step.decay > 1 - MOST_LEAK_FREE
    if not free.any():
        graph.update(node.name, dynamics=replace(node.dynamics, reset=reset, reset_at="spike"))
        return False
    decay = np.where(free, np.exp(-1 / tau), step.decay)
    rank, given = len(node.shape), [decay, step.gain, step.leak, *([] if step.threshold is None else [step.threshold])]
    decay, gain, leak, *threshold = np.broadcast_arrays(*(a.reshape((1,) * rank) if a.size == 1 else a for a in given))
    long = 1 / (1 - decay)  # by Euler's steps, r / tau is the gain and v_leak / tau what is added
    op = (
        nir.LIF(long, gain * long, leak * long, threshold[0].copy(), np.zeros_like(threshold[0]))
        if threshold
        else nir.LI(long, gain * long, leak * long)
    )
    rule = Dynamics(
        integrator="none",
        reset=reset,
        threshold_test=node.dynamics.threshold_test,
        v_init=node.dynamics.v_init,
        decay=decay.copy(),
        gain=gain.copy(),
        leak=leak.copy(),
    )
    graph.update(node.name, op=op, dynamics=rule)
    return True
