"""Synapses from SDRAM images against a netlist, without sPyNNaker; test_mapping.py reads the images themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spinnaker_nets import dense, joined, netlist, neurons, source

from hsnn_compiler.backends.spinnaker.images import Decoded, compare
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Projection
from hsnn_compiler.backends.spinnaker.ring_buffers import FULL, max_expected_summed_weight, shifts, units

OUT = "out"


def two_sources() -> Netlist:
    populations = [source("a", 7), source("b", 5, 3), neurons(OUT, 6, 4)]
    return netlist(populations, [joined("wa", populations[0], populations[2]), joined("wb", *populations[1:])])


def faithful(program: Netlist, order: np.ndarray) -> Decoded:
    """What images without a fault would hold, in some order."""
    turn = program.turns[0]
    names, arriving, shift = list(turn.populations), turn.arriving(OUT), shifts(turn, OUT)
    weight = np.concatenate([part.weight for part in arriving])
    counts = [part.weight.size for part in arriving]
    columns = (
        np.repeat([names.index(part.pre_population) for part in arriving], counts),
        np.concatenate([part.pre for part in arriving]).astype(np.int64),
        np.concatenate([part.post for part in arriving]).astype(np.int64),
        np.repeat([part.delay for part in arriving], counts),
        weight < 0,
        np.where(weight < 0, units(weight, shift[1]), units(weight, shift[0])),
    )
    return Decoded(shift, *(column[order] for column in columns), size_bytes=0, longest_row=6)


@given(st.data())
def test_a_single_fault_is_seen(data):
    program = two_sources()
    order = np.array(data.draw(st.permutations(range(72))))
    decoded = faithful(program, order)
    sound = compare(program.turns[0], OUT, decoded)
    assert sound.is_ours
    assert (sound.synapses, sound.missing, sound.extra) == (72, 0, 0)

    at = data.draw(st.integers(0, 71))
    field = data.draw(st.sampled_from(["source", "pre", "post", "delay", "inhibitory", "units"]))
    column = getattr(decoded, field).copy()
    column[at] = not column[at] if field == "inhibitory" else column[at] + data.draw(st.integers(2, 9))
    broken = compare(program.turns[0], OUT, replace(decoded, **{field: column}))
    assert not broken.is_ours
    assert broken.missing == broken.extra == (field != "units")


def test_synapses_lost_or_added(board):
    program = two_sources()
    order = np.arange(72)
    lost = compare(program.turns[0], OUT, faithful(program, order[1:]))
    assert (lost.missing, lost.extra) == (1, 0)
    twice = compare(program.turns[0], OUT, faithful(program, np.append(order, 3)))
    assert (twice.missing, twice.extra) == (0, 1)
    assert compare(program.turns[0], OUT, None).missing == 72


def test_two_synapses_between_the_same_neurons():
    at = np.zeros(2, np.int32)
    program = netlist(
        [source("in", 1), neurons(OUT, 1, 1)], [Projection("w", "in", OUT, at, at, np.array([0.25, 0.5]))]
    )
    swapped = faithful(program, np.array([1, 0]))
    assert compare(program.turns[0], OUT, swapped).is_ours
    assert not compare(program.turns[0], OUT, replace(swapped, units=swapped.units[[0, 0]])).is_ours


def test_the_shift_is_the_smallest_that_never_saturates():
    program = dense(300, 40)
    turn = program.turns[0]
    part = turn.projections["w0"]
    for shift, sign in zip(shifts(turn, "layer1"), (1, -1), strict=True):
        largest = [
            np.bincount(part.post, units(part.weight, k) * (np.sign(part.weight) == sign)).max()
            for k in (shift - 1, shift)
        ]
        assert largest[1] <= FULL < largest[0]


@pytest.mark.parametrize("shift", range(16))
def test_what_spynnaker_makes_of_the_expected_weight(shift):
    """``get_ring_buffer_shifts`` of sPyNNaker, written down again."""
    weight = max_expected_summed_weight(shift)
    power = int(np.ceil(max(0, np.log2(weight))))
    assert (power + 1 if 2**power <= weight else power) == shift
