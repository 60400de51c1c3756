"""Synapses as they lie in the SDRAM images that sPyNNaker writes, and whether they are those of the netlist.

Read as the machine reads them (``master_pop_table.py``, ``synapse_io.py``, ``synapse_dynamics_static.py`` of sPyNNaker
7.4): the population table leads from the key of a spike to blocks of rows, one row for each source neuron and stage of
delay; a row has three words of header, the second of which says how many synapses follow; a synapse is one word,
weight (16 bits) | delay | sign | index of the neuron on its core.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.spinnaker.netlist import Turn
from hsnn_compiler.backends.spinnaker.ring_buffers import FRACTION_BITS

_HEADER_WORDS = 3
_ENTRY_WORDS = 5
_ADDRESS_UNIT = 16  # bytes
_INVALID_ADDRESS = 0xFFFFFF
_PARAMETERS, _TABLE, _BLOCKS = "SynapseParams", "PopTable", "SynBlocks"


@dataclass(frozen=True, eq=False)
class Decoded:
    """Synapses of one population, found in the images of its cores.

    Attributes:
        shifts: of the excitatory and the inhibitory ring buffer.
        source: index of the population before them, int64 [synapses].
        pre, post: indices of neurons, int64 [synapses].
        delay: steps, int64 [synapses].
        inhibitory: bool [synapses].
        units: weight in units of the ring buffer, int64 [synapses].
        size_bytes: of the rows.
        longest_row: words.
    """

    shifts: tuple[int, int]
    source: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    delay: np.ndarray
    inhibitory: np.ndarray
    units: np.ndarray
    size_bytes: int
    longest_row: int


@dataclass(frozen=True)
class Fidelity:
    """How well the images of a population keep its synapses.

    Attributes:
        synapses: in the netlist.
        missing, extra: of the netlist and not in the images, and the other way round (source, target, delay and sign).
        largest_error: of a weight, in steps of the resolution; rounding is 0.5 at most.
        zeroed: weights that are not 0 and became 0.
        resolution: one step, in real units, excitatory and inhibitory.
    """

    synapses: int
    missing: int
    extra: int
    largest_error: float
    zeroed: int
    resolution: tuple[float, float]

    @property
    def is_ours(self) -> bool:
        """Whether every synapse is there, with at most half a step of error, and no other."""
        return not self.missing and not self.extra and self.largest_error <= 0.5


def decode(
    database: Path,
    cores: Sequence[Mapping[str, Any]],
    keys: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
) -> dict[int, Decoded]:
    """The synapses in ``ds.sqlite3``, by the index of the population they end at.

    Args:
        database: SDRAM images.
        cores: of neurons: ``x``, ``y``, ``p``, ``population`` (index), ``first`` neuron.
        keys: of senders: ``key``, ``population`` (index), ``stages`` of delay (0: the population itself) and
            ``delay_per_stage``.
        sizes: neurons of every population.
    """
    senders = {key["key"]: key for key in keys}
    found: dict[int, list[Decoded]] = {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        for core in cores:
            rows = connection.execute(
                "SELECT region_label, content FROM region WHERE x = ? AND y = ? AND p = ?",
                (core["x"], core["y"], core["p"]),
            )
            regions = {label: content for label, content in rows if content is not None}
            if _BLOCKS in regions:
                found.setdefault(core["population"], []).append(_core(regions, core["first"], senders, sizes))
    finally:
        connection.close()
    return {population: _join(parts) for population, parts in found.items()}


def compare(turn: Turn, name: str, decoded: Decoded | None) -> Fidelity:
    """Compare the images of a population with the netlist, synapse by synapse.

    Args:
        turn: the netlist.
        name: of the population.
        decoded: what its cores hold; None where they hold nothing.
    """
    names = list(turn.populations)
    arriving = turn.arriving(name)
    weight = np.concatenate([np.zeros(0), *(part.weight for part in arriving)])
    ours = np.concatenate(
        [
            np.zeros(0, np.int64),
            *(
                _pack(names.index(part.pre_population), part.pre, part.post, part.delay, part.weight < 0)
                for part in arriving
            ),
        ]
    )
    if decoded is None:
        return Fidelity(weight.size, weight.size, 0, 0.0, 0, (0.0, 0.0))
    steps = tuple(2.0 ** (shift - FRACTION_BITS) for shift in decoded.shifts)
    exact = np.abs(weight) / np.where(weight < 0, steps[1], steps[0])
    theirs = _pack(decoded.source, decoded.pre, decoded.post, decoded.delay, decoded.inhibitory)
    # Two synapses may lie between the same neurons: then the smaller weight is compared with the smaller.
    mine, found = np.lexsort((exact, ours)), np.lexsort((decoded.units, theirs))
    every, place = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    surplus = np.bincount(place[: ours.size], minlength=every.size) - np.bincount(
        place[ours.size :], minlength=every.size
    )
    missing, extra = int(surplus[surplus > 0].sum()), -int(surplus[surplus < 0].sum())
    error, zeroed = 0.0, 0
    if not missing and not extra and weight.size:
        error = float(np.abs(exact[mine] - decoded.units[found]).max())
        zeroed = int((decoded.units == 0).sum())
    return Fidelity(weight.size, missing, extra, error, zeroed, (steps[0], steps[1]))


def _pack(source: Any, pre: np.ndarray, post: np.ndarray, delay: Any, inhibitory: np.ndarray) -> np.ndarray:
    """One number per synapse: 12 bits of population, 20 of each neuron, 10 of delay, and the sign, int64."""
    wide = np.asarray(source, np.int64) << 20 | pre.astype(np.int64)
    return (wide << 20 | post.astype(np.int64)) << 11 | np.asarray(delay, np.int64) << 1 | inhibitory.astype(np.int64)


def _core(
    regions: Mapping[str, bytes], first: int, senders: Mapping[int, Mapping[str, Any]], sizes: Sequence[int]
) -> Decoded:
    parameters = np.frombuffer(regions[_PARAMETERS], "<u4")
    index_bits, sign_bits = int(parameters[2]), int(parameters[3])
    shifts = (int(parameters[7]), int(parameters[8]))
    table = np.frombuffer(regions[_TABLE], "<u4")
    blocks = np.frombuffer(regions[_BLOCKS], "<u4")
    entries = table[2 : 2 + int(table[0]) * _ENTRY_WORDS].reshape(-1, _ENTRY_WORDS)
    addresses = table[2 + entries.size :]
    columns: list[tuple[np.ndarray, ...]] = []
    size_bytes, longest = 0, 0
    for key, _mask, packed, _core_part, neurons in entries.tolist():
        sender = senders[key]
        start, count, per_core = packed & 0x1FFF, packed >> 16, neurons & 0xFFFF
        for address in addresses[start : start + count].tolist():
            if address >> 8 == _INVALID_ADDRESS:
                continue
            width = (address & 0xFF) + 1 + _HEADER_WORDS
            stages = max(sender["stages"], 1)
            offset = (address >> 8) * _ADDRESS_UNIT // 4
            rows = blocks[offset : offset + sizes[sender["population"]] * stages * width].reshape(-1, width)
            size_bytes, longest = size_bytes + rows.nbytes, max(longest, width - _HEADER_WORDS)
            row, column = np.nonzero(np.arange(width - _HEADER_WORDS) < rows[:, 1:2])
            word = rows[row, _HEADER_WORDS + column].astype(np.int64)
            pre, late = _source(row, per_core, sender)
            low = word & 0xFFFF
            columns.append(
                (
                    np.full(row.size, sender["population"], np.int64),
                    pre,
                    first + (low & ((1 << index_bits) - 1)),
                    (low >> (index_bits + sign_bits)) + late,
                    low >> index_bits & ((1 << sign_bits) - 1),
                    word >> 16,
                )
            )
    source, pre, post, delay, sign, units = (
        (np.concatenate(parts) for parts in zip(*columns, strict=True)) if columns else (np.zeros(0, np.int64),) * 6
    )
    return Decoded(shifts, source, pre, post, delay, sign > 0, units, size_bytes, longest)


def _source(row: np.ndarray, per_core: int, sender: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The neuron that a row belongs to, and the steps that passed before its spikes arrive."""
    stages = sender["stages"]
    if not stages:
        return row, np.zeros_like(row)
    core, local = np.divmod(row, per_core)
    stage, neuron = np.divmod(local, per_core // stages)
    return core * (per_core // stages) + neuron, (stage + 1) * sender["delay_per_stage"]


def _join(parts: Sequence[Decoded]) -> Decoded:
    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    return Decoded(
        parts[0].shifts,
        column("source"),
        column("pre"),
        column("post"),
        column("delay"),
        column("inhibitory"),
        column("units"),
        sum(part.size_bytes for part in parts),
        max(part.longest_row for part in parts),
    )
