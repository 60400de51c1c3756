"""What sPyNNaker accepts and the machine does not do, found in a netlist before anything is emitted or mapped.

On a virtual board sPyNNaker makes a delay of 0 one of 1, lets weights wrap at 16 bits, and grows the machine past one
board, all in silence. (Signs it cannot get wrong: ``network.py`` splits every projection by sign.)
"""

from __future__ import annotations

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Turn
from hsnn_compiler.backends.spinnaker.ring_buffers import FRACTION_BITS, shifts, units
from hsnn_compiler.diagnostics import Finding, Source
from hsnn_compiler.targets import Target

LARGEST_SHIFT = 15
_SLOT_BITS = 13
LARGEST = 2.0**16  # s16.15
_BELOW = "below 65536 in absolute value (s16.15)"
_SCALE = "scale the weights, biases and thresholds of this population by the same factor"


def check(netlist: Netlist, target: Target) -> list[Finding]:
    """Everything in a netlist that the machine would not do as it is written: all findings at once.

    Errors: E0542 delays, E0543 weights and potentials beyond the formats, E0546 more cores than the board has, E0548
    rows of synapses that are too long. Warning: W0543 potentials that would leave the format if everything came at
    once. Information: I0544 weights that round to zero.
    """
    findings: list[Finding] = []
    for turn in netlist.turns:
        for name, population in turn.populations.items():
            if population.is_neural:
                findings += _numbers(population)
                findings += _weights(turn, name)
                findings += _rows(turn, name, target["core.neurons"], target["core.row_words"])
        findings += _delays(turn, target["formats.delay_steps"], target["core.neurons"])
        findings += _cores(turn, target)
    return findings


def cores_of(turn: Turn, neurons_per_core: int) -> int:
    """Cores that sPyNNaker takes for a turn at least; a source of spikes is one core, whatever its size."""
    return sum(
        -(-population.size // neurons_per_core) if population.is_neural else 1
        for population in turn.populations.values()
    )


def _numbers(population: Population) -> list[Finding]:
    found = []
    for name in ("threshold", "v_init", "bias"):
        array = getattr(population, name)
        if array is not None and not np.abs(array).max(initial=0.0) < LARGEST:
            what = "start potential" if name == "v_init" else name
            message = f"a {what} of {array[np.abs(array).argmax()]:g} does not fit the machine's numbers"
            found.append(_finding("E0543", message, population, supported=_BELOW, suggestion=_SCALE))
    return found


def _weights(turn: Turn, name: str) -> list[Finding]:
    """Weights in the 16 bits of the ring buffers, and what they can make of a potential."""
    population = turn.populations[name]
    found: list[Finding] = []
    weight = np.concatenate([np.zeros(0), *(part.weight for part in turn.arriving(name))])
    post = np.concatenate([np.zeros(0, np.int32), *(part.post for part in turn.arriving(name))])
    chosen = shifts(turn, name)
    if max(chosen) > LARGEST_SHIFT:
        message = (
            f"what can come in one step, {np.bincount(post, np.abs(weight)).max():g}, fits no ring buffer; sPyNNaker "
            f"keeps the lowest 16 bits of a weight that is too large"
        )
        return [_finding("E0543", message, population, supported=_BELOW, suggestion=_SCALE)]
    fine = np.where(weight < 0, units(weight, chosen[1]), units(weight, chosen[0]))
    zeroed = int(((fine == 0) & (weight != 0)).sum())
    if zeroed:
        lost = np.abs(weight[fine == 0]).sum() / np.abs(weight).sum()
        message = (
            f"{zeroed:,} of {weight.size:,} weights round to zero in steps of {2.0 ** (max(chosen) - FRACTION_BITS):g} "
            f"({100 * lost:.2g}% of the sum of all)"
        )
        found.append(_finding("I0544", message, population))
    assert population.beta is not None
    assert population.bias is not None
    per_step = np.bincount(post, np.abs(weight) * (weight < 0), population.size) + np.abs(population.bias)
    reach = float((per_step / (1.0 - population.beta)).max())
    if reach >= LARGEST:
        message = f"a potential could reach -{reach:g} if all inhibition came in every step"
        found.append(_finding("W0543", message, population, supported=_BELOW, suggestion=_SCALE))
    return found


def _rows(turn: Turn, name: str, per_core: int, longest: int) -> list[Finding]:
    """Only several synapses between the same two neurons can make a row longer than a core has neurons."""
    found = []
    for part in turn.arriving(name):
        for chosen in (part.weight < 0, part.weight >= 0):
            where = part.pre[chosen].astype(np.int64) << 32 | part.post[chosen] // per_core
            words = int(np.unique(where, return_counts=True)[1].max(initial=0))
            if words > longest:
                message = f"{words} synapses from one neuron to one core in {part.name!r}"
                found.append(_finding("E0548", message, turn.populations[name], supported=f"{longest} words in a row"))
    return found


def _delays(turn: Turn, longest: int, per_core: int) -> list[Finding]:
    found = []
    staged = {
        part.pre_population
        for part in turn.projections.values()
        if part.delay > 2 * _slots(turn.populations[part.post_population], per_core)
    }
    for part in turn.projections.values():
        before, after = turn.populations[part.pre_population], turn.populations[part.post_population]
        limit, why = _longest_delay(before, after, longest, per_core, part.pre_population in staged)
        if not 1 <= part.delay <= limit:
            message = f"a delay of {part.delay} steps in {part.name!r}"
            if part.delay < 1:
                message += "; sPyNNaker would make it 1 without a word"
            elif why:
                message += f", {why}"
            found.append(_finding("E0542", message, after, supported=f"1 to {limit} steps"))
    return found


def _slots(after: Population, per_core: int) -> int:
    """Steps that a ring buffer holds: it has 2^13 slots for all neurons of a core together.

    (``MAX_RING_BUFFER_BITS`` in ``utilities/constants.py`` of sPyNNaker, less the bit of the sign.)
    """
    return 1 << _SLOT_BITS - max((min(after.size, per_core) - 1).bit_length(), 1)


def _longest_delay(before: Population, after: Population, longest: int, per_core: int, staged: bool) -> tuple[int, str]:
    """The longest delay that sPyNNaker writes rightly, in steps, and why it is no longer.

    A delay of several times the slots goes through stages of a delay extension. ``get_synapses`` in ``synapse_io.py``
    places the rows of a stage by the number of neurons per core of the population *behind* the synapses, where the
    machine looks for those before them, and as if all cores were full. With more than one stage (`staged`: for any
    synapse of the same source) that loses synapses, unless the numbers are the same and the cores are full.
    """
    slots = _slots(after, per_core)
    behind = min(after.size, per_core)
    ahead = min(before.size, per_core) if before.is_neural else before.size
    if (ahead == behind and before.size % ahead == 0) or 2 * slots >= longest:
        return longest, ""
    why = f"between cores of {ahead} and {behind} neurons; sPyNNaker would lose synapses without a word"
    return (slots if staged else 2 * slots), why


def _cores(turn: Turn, target: Target) -> list[Finding]:
    needed = cores_of(turn, target["core.neurons"])
    there = target["system.chips"] * target["chip.neuron_cores"]
    if needed <= there:
        return []
    return [
        Finding(
            "E0546",
            f"turn {turn.number} takes {needed:,} cores; sPyNNaker's virtual machine grows without a word",
            supported=f"{there:,} cores on the {target['system.chips']} chips of {target.title}",
            suggestion="fewer channels or more pooling, or keep the first layers on the host: --layer NAME:place=host",
        )
    ]


def _finding(code: str, message: str, population: Population, supported: str = "", suggestion: str = "") -> Finding:
    return Finding(
        code,
        message,
        node=population.name,
        source=Source(population.origin),
        supported=supported,
        suggestion=suggestion,
    )
