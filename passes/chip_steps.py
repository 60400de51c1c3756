"""What of a neuron's step Loihi's neurons do, and in which form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.dynamics import StepCoefficients
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.payloads import MAX_SPIKES, sends_counts


def taken_at_a_spike(step: StepCoefficients) -> float:
    """What a reset by subtraction takes at once, in thresholds: at most, where the decays of neurons differ.

    One that acts at the end of the next step, ``v' = beta v + I - theta``, is one of ``theta / beta`` at the
    spike: ``beta (v - theta / beta) + I``. So it is for snnTorch's neurons.
    """
    late = step.reset == "subtract" and step.reset_at == "after"
    fastest = float(step.decay.min())
    return 1 / fastest if late and fastest > 0 else 1.0


def beyond_the_chip(step: StepCoefficients) -> Iterator[tuple[str, str, str, str]]:
    """All that the chip cannot do: code, what was found, what is supported, and what to try with a NIR file."""
    for what, array in (("decay", step.decay), ("current_decay", step.current_decay)):
        wrong = np.zeros(0) if array is None else array[(array < 0) | (array > 1)]
        if wrong.size:
            yield "E0453", f"a {what} of {wrong[0]:.4g} per step", "0 to 1", "a smaller --dt"
    if not step.current_first:
        yield (
            "E0453",
            "a potential that sees the current of the step before",
            "current_first=yes",
            ("--dynamics current_first=yes"),
        )
    if step.u_init is not None and np.any(step.u_init):
        yield "E0453", "a current that starts at a value", "u_init=0", "--dynamics u_init=0"
    if step.v_min is not None and np.any(step.v_min > -np.inf):
        yield "E0453", "a lower bound of the potential", "no bound", "--dynamics v_min=-inf"
    if step.threshold is None:
        return
    if step.reset == "none":
        yield "E0444", "reset 'none'", "reset to zero, to a value, or by subtraction", "--dynamics reset=zero"
    late = step.reset_at == "after" and step.reset == "subtract" and bool(np.all(step.decay > 0))
    if step.reset != "none" and step.reset_at not in ("spike", "before") and not late:
        yield (
            "E0453",
            f"reset_at={step.reset_at} with a reset to {step.reset}",
            "reset_at=spike, or before, or after with reset by subtraction, which give the same spikes",
            "--dynamics reset_at=spike",
        )
    if step.reset_current:
        yield "E0453", "a reset of the synaptic current", "reset_current=no", "--dynamics reset_current=no"
    if step.reset_to_current:
        text = "a reset that takes the threshold from the synaptic current"
        yield "E0453", text, "reset_to_current=no", "--dynamics reset_to_current=no"
    if step.max_spikes != 1 and not sends_counts(step):
        yield (
            "E0453",
            f"up to {step.max_spikes or 'any number of'} spikes in one step, with reset={step.reset}",
            f"one, or up to {MAX_SPIKES} with a reset by subtraction at the spike",
            "--dynamics max_spikes=1",
        )
    if step.refractory:
        yield "E0453", f"{step.refractory} refractory steps", "refractory=0", "--dynamics refractory=0"


def step_findings(node: Node, step: StepCoefficients, has_constant_input: bool) -> list[Finding]:
    """Errors for all of a population's step that a compiled program cannot do.

    Args:
        node: the population.
        step: its coefficients.
        has_constant_input: whether a bias or an analog input reaches it, which the chip adds to the potential.
    """
    found = [(code, text, supported) for code, text, supported, _ in beyond_the_chip(step)]
    if step.reset == "value" and step.threshold is not None and np.any(step.v_reset):
        found.append(("E0444", "reset to a value", "reset to zero, reset by subtraction"))
    through_current = has_constant_input or (step.current_leak is not None and bool(np.any(step.current_leak)))
    if step.current_decay is not None and through_current:
        text = "a bias, or an analog input, that acts through a synaptic current"
        found.append(("E0453", text, "synaptic currents that only spikes drive (analog input: --encode bitplane)"))
    return [
        Finding(code, text, node=node.name, source=node.source, supported=supported) for code, text, supported in found
    ]


def inclusive_tests(populations: Sequence[Node]) -> list[Finding]:
    """A warning (W0460) that names the populations which fire at the threshold itself: the chip fires above it."""
    names = [node.name for node in populations if node.dynamics and node.dynamics.threshold_test == ">="]
    if not names:
        return []
    text = f"a potential that equals the threshold fires in the model, but not in integers: {', '.join(names[:4])}"
    text += f" and {len(names) - 4} more" if len(names) > 4 else ""
    return [Finding("W0460", text, supported="threshold tests with >")]
