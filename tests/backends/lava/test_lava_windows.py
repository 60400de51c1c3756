"""Spikes from the host, windows and neurons that fire once: the integer executor equals Lava bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note, settings
from lava_runs import assert_equal, failures
from picks import Picks, picks
from window_graphs import random_windows, window_signals

from hsnn_compiler.backends.lava.emit import emit
from hsnn_compiler.backends.lava.runner import run_network
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import COLLECT_CODES
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.ir.timing import waits
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

SEEDS = range(60)
pytestmark = pytest.mark.usefixtures("lava")


@pytest.mark.parametrize("seed", [0, 5, 9])
def test_a_few(seed: int) -> None:
    """With the real child process."""
    graph, x = random_windows(Picks.seeded(seed))
    assert_equal(graph, x, window_signals(graph))


def test_a_module_replays_its_example(tmp_path: Path) -> None:
    graph, x = random_windows(Picks.seeded(8))
    emit(graph, tmp_path, "a random network", x[:2])
    run = subprocess.run([sys.executable, "network.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert "reference: yes" in run.stdout
    assert "reference: NO" not in run.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("fast_lava")
def test_many() -> None:
    """All that fail are named by their seed; `Picks.seeded(seed)` makes the network again."""

    def check(seed: int) -> None:
        graph, x = random_windows(Picks.seeded(seed))
        assert_equal(graph, x, window_signals(graph))

    wrong = failures(SEEDS, check)
    assert not wrong, wrong


@pytest.mark.slow
@pytest.mark.timeout(900)  # a counterexample is made small first, which takes its time
@pytest.mark.usefixtures("fast_lava")
@settings(max_examples=15)
@given(picks())
def test_smallest_counterexample(p: Picks) -> None:
    graph, x = random_windows(p)
    note(to_text(graph, whole=True))
    assert_equal(graph, x, window_signals(graph))


def corners(graph: Graph, x: np.ndarray) -> dict[str, bool]:
    """What a network exercises, by name."""
    result = LoihiExecutor(graph).run(x, window_signals(graph))
    collects, once = graph.of_kind("Collect"), graph.of_kind("FirstSpike")
    behind = [graph.successors(node.name)[0] for node in collects]
    found = {
        "a window behind a window": any(node.schedule.depth > 2 * graph.timesteps for node in collects),
        "a window saturates": any(result.saturated[node.name] for node in collects),
        "soft reset behind a window": any(n.dynamics and n.dynamics.reset == "subtract" for n in behind),
        "hard reset behind a window": any(n.dynamics and n.dynamics.reset == "zero" for n in behind),
        "integrators behind a window": any(not n.is_spiking for n in behind),
        "first spikes behind a window": any(n.kind == "FirstSpike" for n in behind),
        "first spikes with analog input": any(
            source.kind == "Encode" for node in once for source in graph.predecessors(node.name)
        ),
        "some fire once, some never": any(0 < result.trace[n.name, "s"].mean() * graph.timesteps < 1 for n in once),
        "two windows for one population": len({n.name for n in behind}) < len(behind),
        "spikes and a window in one population": any(
            {"Collect"} < {source.kind for source in graph.predecessors(node.name)} - {"Encode"} for node in behind
        ),
        "shift left": any(node.quant.shift < 0 for node in collects),
        "shift right": any(node.quant.shift > 0 for node in collects),
        "long delays": max(waits(graph).values()) > graph.timesteps,
        "host neurons": bool(graph["neurons"].type and graph.out_edges("neurons")) if "neurons" in graph else False,
        "doubled channels": graph["events"].op.doubled,
    }
    found |= {f"collects {code}": any(n.op.code == code for n in collects) for code in COLLECT_CODES}
    return found | {f"{graph['events'].op.kind} events": True}


def test_the_random_networks_reach_the_corners() -> None:
    """The tests above are worth what their networks do: counted here, without Lava."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen.update({name: int(yes) for name, yes in corners(*random_windows(Picks.seeded(seed))).items()})
    print(seen)
    rare = {name: number for name, number in seen.items() if number < 3}
    assert not rare, f"of {len(SEEDS)} networks: {rare}"


LIMITS_NETWORK = """\
    import numpy as np
    from hsnn_lava import Collector, FirstSpike
    from lava.proc.io.source import RingBuffer


    class Network:
        def __init__(self, inputs):
            a = RingBuffer(data=np.moveaxis(inputs["a"], 0, -1))
            steps = int(inputs["interval"])
            once = FirstSpike(shape=(3,), ramp=2**23 // steps - 1, bias_mant=-7, bias_exp=7, interval=steps, offset=1)
            sums = Collector(shape=(3,), code="bitplane", shift=0, bias=2**23 - 1, interval=steps, offset=1, name="c")
            a.s_out.connect(once.a_in)
            a.s_out.connect(sums.a_in)
            self.neurons = {"once": once, "sums": sums}
            self.steps = len(inputs["a"])
"""


def test_numbers_at_their_limits(network_dir: Callable[..., Path]) -> None:
    steps = 4
    a = np.random.default_rng(0).choice([-(2**24), -(2**17), -1, 0, 1, 2**17 - 1, 2**17, 2**24], (5 * steps, 3))
    done = run_network(
        network_dir(LIMITS_NETWORK),
        {"a": a, "interval": np.array(steps)},
        {"once": ["s", "v"], "sums": ["s", "acc"]},
        deadline_s=60,
    )
    ramp = 2**23 // steps - 1
    acc, v = np.zeros((2, 3), np.int64)
    for t, row in enumerate(a):
        if t % steps == 0:
            presented, acc = (acc + 32) >> 6 if t else np.full(3, (2**23 - 1 + 32) >> 6), np.full(3, 2**23 - 1)
            u = (row << 6).astype(np.int32).astype(np.int64)
            u = np.where(u > 2**23, u - 2**24, np.where(u <= -(2**23), u + 2**24, u))
            v = u - (7 << 7) + ramp // 2 - ramp
        v = np.clip(v + ramp, -(2**23) + 1, 2**23 - 1)
        fires = v >= steps * ramp
        v = np.where(fires, -steps * ramp, v)
        acc = np.clip(acc + (row << (steps - 1 - t % steps)), -(2**23) + 1, 2**23 - 1)
        np.testing.assert_array_equal(done["once", "s"][t], fires)
        np.testing.assert_array_equal(done["once", "v"][t], v)
        np.testing.assert_array_equal(done["sums", "s"][t], presented)
        np.testing.assert_array_equal(done["sums", "acc"][t], acc)
