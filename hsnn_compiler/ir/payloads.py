"""What one neuron sends in one step at most: the range of spikes and of graded spikes."""

from __future__ import annotations

from hsnn_compiler.ir.dynamics import StepCoefficients
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.types import Coding

MAX_SPIKES = 255
"""Most spikes of one step that go as one graded spike: what 8 bits hold, in which recordings keep spikes."""

_WIRING = ("Flatten", "NoOp", "Concat", "Spread", "Delay", "MaxPool2d")


def fires_once(node: Node) -> bool:
    """Whether what a spiking population puts out is 0 or 1; else a count of spikes, which is a graded spike."""
    return node.dynamics is None or node.dynamics.max_spikes == 1


def sends_counts(step: StepCoefficients) -> bool:
    """Whether the chip's neurons can do this step by sending how often they fire as a payload."""
    return step.reset == "subtract" and step.reset_at in ("spike", "before") and 1 < step.max_spikes <= MAX_SPIKES


def largest_payload(graph: Graph, node: Node) -> int | None:
    """The largest number that one element of what a node puts out holds in one step.

    1 for spikes; N for neurons that fire up to N times; None where there is no bound, or it is not known.
    """
    if node.is_spiking:
        return 1 if node.dynamics is None else node.dynamics.max_spikes or None
    if node.kind in _WIRING:
        inside = [largest_payload(graph, source) for source in graph.predecessors(node.name)]
        return max((n for n in inside if n is not None), default=None) if None not in inside else None
    return 1 if node.type is not None and node.type.coding is Coding.SPIKES else None


def message_bits(payload: int | None) -> int:
    """Bits of the signed integers that carry numbers up to `payload`; 0 for plain spikes (and for what is no spike)."""
    return payload.bit_length() + 1 if payload is not None and payload > 1 else 0
