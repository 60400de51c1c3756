"""What sPyNNaker accepts in silence, and what catches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spinnaker_nets import dense, joined, netlist, neurons, source

from hsnn_compiler.backends.spinnaker import mapping
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Projection
from hsnn_compiler.backends.spinnaker.traps import check
from hsnn_compiler.targets import Target


def codes(program: Netlist, board: Target) -> list[str]:
    return [finding.code for finding in check(program, board)]


def test_nothing_to_find(board):
    assert {*codes(dense(30, 300, 10), board)} <= {"I0544"}


def one_synapse(weight: float = 0.5, delay: int = 1, after: Population | None = None, size: int = 1) -> Netlist:
    before, after = source("in", size), after or neurons("out", 1, 1)
    at = np.zeros(1, np.int32)
    return netlist([before, after], [Projection("w", "in", "out", at, at, np.array([weight]), delay)])


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        (one_synapse(delay=0), "E0542", "would make it 1"),
        (one_synapse(delay=145), "E0542", "145 steps"),
        (one_synapse(weight=70_000.0), "E0543", "70000"),
        (one_synapse(weight=-70_000.0), "E0543", "70000"),
        (one_synapse(after=neurons("out", 1, 1, threshold=65_536.0)), "E0543", "threshold"),
        (one_synapse(after=neurons("out", 1, 1, v_init=-65_536.0)), "E0543", "start potential"),
        (one_synapse(after=neurons("out", 1, 1, bias=np.nan)), "E0543", "bias"),
        (one_synapse(weight=-100.0, after=neurons("out", 1, 1, beta=0.999)), "W0543", "-100000"),
        (one_synapse(weight=2.0**-17), "I0544", "1 of 1 weights round to zero"),
        (netlist([source("in", 1), neurons("out", 256 * 800, 1)], []), "E0546", "801 cores"),
    ],
)
def test_found_before_anything_is_mapped(program, code, says, board):
    findings = check(program, board)
    assert [finding.code for finding in findings] == [code]
    assert says in findings[0].message


def test_the_largest_numbers_are_let_pass(board):
    after = neurons("out", 1, 1, beta=0.5, threshold=65_535.9, v_init=-65_535.0, bias=32_000.0)
    assert codes(one_synapse(weight=65_535.0, delay=144, after=after), board) == []


def test_rows_of_many_synapses_between_the_same_neurons(board):
    program = one_synapse()
    part = program.turns[0].projections["w"]
    many = replace(part, pre=np.repeat(part.pre, 257), post=np.repeat(part.post, 257), weight=np.full(257, 0.001))
    assert codes(netlist([*program.populations.values()], [many]), board) == ["E0548"]
    both_signs = replace(many, weight=np.where(np.arange(257) % 2, 0.001, -0.001))
    assert codes(netlist([*program.populations.values()], [both_signs]), board) == []


def test_all_findings_at_once(board):
    program = netlist(
        [source("in", 1), neurons("a", 1, 1, threshold=1e9), neurons("b", 256 * 800, 150)],
        [Projection("w", "in", "a", np.zeros(1, np.int32), np.zeros(1, np.int32), np.full(1, 1e6), 0)],
    )
    assert sorted(codes(program, board)) == ["E0542", "E0543", "E0543", "E0546"]


@pytest.mark.parametrize(
    ("before", "after", "delay", "caught"),
    [
        (source("in", 100), neurons("out", 200, 1), 64, False),
        (source("in", 100), neurons("out", 200, 1), 65, True),
        (source("in", 200), neurons("out", 200, 1), 144, False),
        (source("in", 784), neurons("out", 300, 1), 65, True),
        (neurons("in", 768, 0), neurons("out", 300, 1), 144, False),
        (neurons("in", 300, 0), neurons("out", 300, 1), 65, True),
        (source("in", 1), neurons("out", 128, 1), 128, False),
        (source("in", 1), neurons("out", 128, 1), 129, True),
        (source("in", 784), neurons("out", 10, 1), 144, False),
    ],
)
def test_stages_of_delay_that_would_lose_synapses(before, after, delay, caught, board):
    part = replace(joined("w", before, after, 0.1), delay=delay)
    assert codes(netlist([before, after], [part]), board).count("E0542") == caught


def test_one_source_of_many_stages_and_of_one(board):
    before, same, other = source("in", 200), neurons("same", 200, 1), neurons("other", 250, 1)
    parts = [replace(joined("a", before, same, 0.1), delay=100), replace(joined("b", before, other, 0.1), delay=33)]
    assert codes(netlist([before, same, other], parts), board).count("E0542") == 1
    assert codes(netlist([before, same, other], [parts[0], replace(parts[1], delay=32)]), board).count("E0542") == 0
    assert codes(netlist([before, same, other], parts[1:]), board).count("E0542") == 0


# The same in PyNN, as somebody might write it by hand: sPyNNaker maps it and says nothing.
SILENT = """
import json
import numpy as np
import pyNN.spiNNaker as sim
from hsnn_compiler.backends.spinnaker.map_child import observe

def join(before, after, weight, delay, receptor="excitatory"):
    one = np.arange(1)
    rows = np.stack([one, one, one + weight, one + delay], axis=1)
    connector = sim.FromListConnector(rows, column_names=["weight", "delay"])
    sim.Projection(before, after, connector, sim.StaticSynapse(), receptor_type=receptor)

sim.setup(timestep=1.0)
source = sim.Population(1, sim.SpikeSourceArray(spike_times=[[1.0]]), label="population 0")
limit = {"max_expected_summed_weight": [0.75, 0.75]}
made = [
    sim.Population(size, sim.IF_curr_delta(), label=f"population {i}", additional_parameters=limit)
    for i, size in enumerate((1, 1, 1, 200, 205000), 1)
]
join(source, made[0], -0.5, 1.0)
join(source, made[1], 0.5, 0.0)
join(source, made[2], 2.5, 1.0)
join(source, made[3], 0.5, 100.0)
sim.run(10.0)
json.dump(observe(), open("mapped.json", "w"))
sim.end()
"""

# A convolution, for which sPyNNaker has binaries of exponential synapses only.
CONVOLUTION = """
import json
import numpy as np
import pyNN.spiNNaker as sim
from pyNN.space import Grid2D
from hsnn_compiler.backends.spinnaker.map_child import observe

sim.setup(timestep=1.0)
sim.set_number_of_neurons_per_core(sim.SpikeSourceArray, (4, 4))
sim.set_number_of_neurons_per_core(sim.IF_curr_delta, (2, 2))
source = sim.Population(16, sim.SpikeSourceArray(spike_times=[[1.0]] * 16), label="population 0", structure=Grid2D(1.0))
after = sim.Population(4, sim.IF_curr_delta(), label="population 1", structure=Grid2D(1.0))
sim.Projection(source, after, sim.ConvolutionConnector(np.ones((3, 3)) / 10), sim.Convolution())
sim.run(10.0)
json.dump(observe(), open("mapped.json", "w"))
sim.end()
"""


def mapped_by_hand(script: str, job: Path, *names: str) -> tuple[dict, str]:
    mapping.prepare(job)
    (job / "script.py").write_text(script)
    env = {**os.environ, "HOME": str(job / "home")}
    ran = subprocess.run([sys.executable, "script.py"], cwd=job, env=env, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr[-2000:]
    mapped = json.loads((job / "mapped.json").read_text())
    mapped["names"] = {f"population {i}": name for i, name in enumerate(names)}
    return mapped, ran.stdout + ran.stderr


@pytest.mark.usefixtures("spynnaker")
def test_sign_delay_overflow_stages_and_boards_that_spynnaker_lets_pass(tmp_path, board):
    names = ["negative", "delay0", "overflow", "stages", "board"]
    mapped, said = mapped_by_hand(SILENT, tmp_path, "in", *names)
    assert "WARNING" not in said
    sizes = [1, 1, 1, 200, 205_000]
    at = np.zeros(1, np.int32)
    given = {"negative": (-0.5, 1), "delay0": (0.5, 0), "overflow": (2.5, 1), "stages": (0.5, 100)}
    meant = netlist(
        [source("in", 1), *(neurons(name, size, 0) for name, size in zip(names, sizes, strict=True))],
        [Projection(f"w.{name}", "in", name, at, at, np.full(1, w), delay) for name, (w, delay) in given.items()],
    )
    findings = mapping.check_mapped(mapping.read(meant.turns[0], mapped, 0.0), board)
    assert [(finding.code, finding.node) for finding in findings if finding.node] == [
        ("E0549", "negative"),
        ("E0549", "delay0"),
        ("E0549", "overflow"),
        ("E0549", "stages"),
    ]
    assert "is off by 65,536 steps" in next(f.message for f in findings if f.node == "overflow")
    assert [finding.code for finding in findings if not finding.node] == ["E0546"]
    assert "144 chips" in findings[0].message
    # All but the sign, which a netlist cannot get wrong, is found without sPyNNaker.
    early = [(finding.code, finding.node) for finding in check(meant, board)]
    assert early == [("E0542", "delay0"), ("E0542", "stages"), ("E0546", "")]


@pytest.mark.usefixtures("spynnaker")
def test_a_binary_that_does_not_exist(tmp_path, board):
    mapped, _ = mapped_by_hand(CONVOLUTION, tmp_path, "in", "out")
    meant = netlist([source("in", 16), neurons("out", 4, 1)], [])
    found = mapping.check_mapped(mapping.read(meant.turns[0], mapped, 0.0), board)
    assert "E0545" in [finding.code for finding in found]
    assert "IF_curr_delta_conv.aplx" in " ".join(finding.message for finding in found)
