"""From what the user says, and what a platform does, to the dynamics and delays of every node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.frontends.nir.contract import UNITS, Contract
from hsnn_compiler.frontends.nir.late import RULES
from hsnn_compiler.frontends.nir.presets import PRESETS
from hsnn_compiler.ir.dynamics import Dynamics, discretize
from hsnn_compiler.ir.graph import Edge, Graph, Node


def settle(graph: Graph, contract: Contract | None = None) -> tuple[Graph, list[Finding]]:
    """Give every neuron its dynamics and every edge its delay.

    A node that has dynamics already (the file is one of this compiler's) keeps them, and the graph its delays:
    what the contract says comes on top. A preset stands for all dynamics, but does not add its
    own delays to those of such a graph.

    The findings say what was chosen (I0463), and what the platform of a preset cannot import (W0464).
    """
    contract = contract or Contract()
    preset = PRESETS[contract.preset] if contract.preset else None
    findings: list[Finding] = []
    unsettled = _Unsettled(graph)
    dt = _step(unsettled, contract, findings)
    rate = _if_rate(unsettled, contract, dt, findings)
    out = graph.copy()
    for node in graph:
        said = node.dynamics
        if said is not None and contract.dt is not None:
            said = replace(said, dt=contract.dt)
        if node.is_neuron:
            base = preset.neuron(node.op, dt) if preset else said or _plain(node, dt, rate)
            out.update(node.name, dynamics=replace(base, **contract.neurons))
        elif node.kind == "Delay":
            out.update(node.name, dynamics=Dynamics(dt) if preset or not said else said)
        if preset and node.kind not in preset.runs:
            findings.append(
                Finding(
                    "W0464",
                    f"{preset.title} cannot import {node.kind}; here it "
                    + ("is stepped by the rules of the preset" if node.is_neuron else "does what NIR says"),
                    node=node.name,
                    supported=", ".join(sorted(preset.runs - {"Input", "Output", "NoOp"})),
                )
            )
    findings += _unsaid(unsettled, contract)
    findings += _too_coarse(out)
    if preset and unsettled.dt is not None:
        findings.append(
            Finding(
                "I0463", f"delays are those of the file, not those of {preset.title}", suggestion="--dynamics late="
            )
        )
    return _delay(out, contract, unsettled.dt is not None), findings


def _too_coarse(graph: Graph) -> list[Finding]:
    """Neurons whose potential or current would change its sign in every step: dt is larger than their time constant."""
    found = []
    for node in graph:
        if node.dynamics is None or not node.is_neuron:
            continue
        step = discretize(node.op, node.dynamics)
        if step.decay.min() < 0 or (step.current_decay is not None and step.current_decay.min() < 0):
            text = f"dt = {node.dynamics.dt:g} is larger than a time constant: Euler's decay is negative"
            found.append(Finding("W0465", text, node=node.name, suggestion="a smaller --dt, or integrator=exact"))
    return found


class _Unsettled:
    """The nodes of a graph that still need dynamics, and the step of those that have some (None: none has)."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = [node for node in graph if node.dynamics is None]
        self.dt = next((node.dynamics.dt for node in graph if node.dynamics), None)


def _plain(node: Node, dt: float, rate: str) -> Dynamics:
    """What NIR's own words come to: forward Euler, strict threshold, reset to v_reset."""
    to_value = node.is_spiking and bool(np.any(node.op.v_reset))
    return Dynamics(dt, reset="value" if to_value else "zero", if_rate=rate)


def _step(graph: _Unsettled, contract: Contract, findings: list[Finding]) -> float:
    """Length of a step, guessed from the size of the time constants if need be."""
    if contract.dt is not None:
        return contract.dt
    if graph.dt is not None:
        return graph.dt
    if contract.preset:
        dt = PRESETS[contract.preset].dt
        findings.append(Finding("I0463", f"dt = {dt:g}, what {PRESETS[contract.preset].title} uses", suggestion="--dt"))
        return dt
    constants = [
        getattr(n.op, f) for n in graph.nodes for f in ("tau", "tau_mem", "tau_syn", "delay") if hasattr(n.op, f)
    ]
    sizes = np.concatenate([np.abs(np.asarray(a, np.float64)).ravel() for a in constants]) if constants else np.zeros(0)
    sizes = sizes[sizes > 0]
    unit = contract.unit or ("s" if sizes.size and np.median(sizes) < 0.5 else "ms")
    dt = UNITS[unit]
    if contract.unit:
        said = f"dt = {dt:g} {unit}"
    elif not sizes.size:
        said = f"dt = {dt:g}: no time constant in the file depends on it"
    elif unit == "s":
        said = f"time constants around {np.median(sizes):.3g} are taken for seconds, dt = {dt:g} s"
    else:
        said = (
            f"time constants around {np.median(sizes):.3g} are taken for milliseconds (or steps), dt = {dt:g} of them"
        )
    findings.append(Finding("I0463", said, suggestion="--dt, or --dynamics unit=s|ms|step"))
    return dt


def _if_rate(graph: _Unsettled, contract: Contract, dt: float, findings: list[Finding]) -> str:
    """What r of I and IF means: per second if r * dt comes to about one, else per step."""
    nodes = [node for node in graph.nodes if node.kind in ("I", "IF")]
    if not nodes or contract.preset or "if_rate" in contract.neurons or dt == 1:
        return "second"
    rates = np.concatenate([np.abs(np.asarray(node.op.r, np.float64)).ravel() for node in nodes])
    rate = "second" if 0.1 <= float(np.median(rates)) * dt <= 10 else "step"
    each = "r * dt" if rate == "second" else "r"
    said = f"r = {np.median(rates):g} of I and IF: each step adds {each} * input"
    findings.append(Finding("I0463", said, suggestion="--dynamics if_rate=step|second"))
    return rate


def _unsaid(graph: _Unsettled, contract: Contract) -> list[Finding]:
    """What was chosen because NIR and the user leave it open."""
    if contract.preset:
        return []
    chosen = []
    spiking = [node for node in graph.nodes if node.is_spiking]
    if spiking and "reset" not in contract.neurons:
        chosen.append("reset=" + ("value" if any(np.any(node.op.v_reset) for node in spiking) else "zero"))
    if spiking and "threshold_test" not in contract.neurons:
        chosen.append("threshold_test=>")
    if any(n.kind not in ("I", "IF") for n in graph.nodes if n.is_neuron) and "integrator" not in contract.neurons:
        chosen.append("integrator=euler")
    if chosen:
        text = f"NIR does not say how a step is done; chosen: {', '.join(chosen)}"
        return [Finding("I0463", text, suggestion="--dynamics, or --dynamics preset=" + "|".join(PRESETS))]
    return []


def _delay(graph: Graph, contract: Contract, settled: bool) -> Graph:
    preset = PRESETS[contract.preset] if contract.preset and not settled else None

    def pick(name: str, default: Any) -> Any:
        own = getattr(contract, name)
        return own if own is not None else getattr(preset, name, default) if preset else default

    component: dict[str, int] = {}
    for number, members in enumerate(nx.strongly_connected_components(graph.nx)):
        component.update(dict.fromkeys(members, number))
    synapse, population, inputs = (pick(f"{what}_delay", 0) for what in ("synapse", "population", "input"))

    def fixed(edge: Edge) -> int:
        forward = component[edge.src] != component[edge.dst]
        return (
            edge.delay
            + (synapse if graph[edge.dst].is_synapse else 0)
            + (population if graph[edge.dst].is_neuron and forward else 0)
            + (inputs if graph[edge.src].kind == "Input" else 0)
        )

    graph = graph.with_delays(fixed)
    late = RULES[pick("late", "loops")](graph)
    if pick("bias_at_start", False):
        late = _before_weights(graph, late, component)
    return graph.with_delays(lambda edge: edge.delay + (edge in late))


def _before_weights(graph: Graph, late: set[Edge], component: dict[str, int]) -> set[Edge]:
    """Move a late edge from behind recurrent weights to before them, so that their bias acts from the start."""
    moved = set()
    for edge in late:
        feeds = graph.in_edges(edge.src)
        if graph[edge.src].is_synapse and all(component[f.src] == component[edge.src] for f in feeds):
            moved.update(feeds)
        else:
            moved.add(edge)
    return moved
