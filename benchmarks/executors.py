"""Our executors beside those of others, in one run: sample-steps per second (batch x time / seconds), and memory.

    python benchmarks/executors.py [--quick] [--only dense|conv] [--no-lava] [--no-peers]

Floating point: `FloatExecutor(method="auto")` beside snnTorch, SpikingJelly, Norse, sinabs and plain PyTorch. Integers:
`LoihiExecutor` beside Lava's CPU backend, which must give the same spikes, and does. For the networks see
`executor_nets.py`, for how the others run `executor_peers.py`. Samples of 16 steps, given as bytes.

Every library runs in its fastest way here, found by trying all for each network and batch: synapses over the folded
time and sample axes, then its own neurons, over all steps at once where it has such; 16 samples at a time or all;
channels_last or not; one thread or as many as cores. Rounds of all contestants alternate; rates are medians over
the rounds, and ratios medians of the ratios within a round. Nobody gets credit for loading: all have run before.

The neurons are the same: decay 0.9, gain 1, reset by subtraction in the step that spikes. What differs:

* SpikingJelly and sinabs spike at v >= threshold, the others at v > threshold.
* snnTorch (``reset_delay=False``) subtracts nothing after a spike in the step before that left v above the threshold:
  the more active a network, the fewer spikes it gives. It has no neuron with a reset for all steps at once.
* Norse scales its input by 0.1, so its thresholds are 0.1 of ours: rounding differs.
* Ours counts the spikes of every layer in passing, the others do not.
* In raw graphs each layer answers a step later than in the others. Lava runs one sample, in processes of its own,
  and sends all spikes to a recorder; its rate is that of the steps by which a long run is longer than a short one.
  Ours runs the same sample for so many steps, and 256 samples at a time.

Missing libraries are named, left out. Memory: the peak of a process of its own (VmHWM: ru_maxrss begins with
what the parent had) above that of one that imported PyTorch and made network and input.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from executor_nets import TIME, Net, calibrated, float_graph, inputs, network, raw_graph
from executor_peers import CORES, PEERS, Peer, Variant, variants

if TYPE_CHECKING:
    from hsnn_compiler.reference.float_executor import FloatExecutor

ACTIVITIES = (0.02, 0.1, 0.3)
BATCHES = (1, 256)
CHECKED_SAMPLES = 32
TUNED_AT = 0.1
"""Activity at which the fastest way of each library is looked for: theirs hardly depend on it."""
TUNED_SAMPLES = 64
"""The fastest way for a batch of 256 is looked for with so many, which leave the cache as well."""
SECONDS = 0.15
"""Repeat a contestant for so long per round."""
DEADLINE = 300.0
LAVA_SHORT_STEPS = {"dense": 100, "conv": 10}
OURS, TORCH = "ours", "torch"

Contestants = dict[str, tuple[int, Callable[[], object]]]
"""With the threads that PyTorch shall have."""
Rounds = dict[str, list[float]]


def measured(contestants: Contestants, steps: int, rounds: int) -> Rounds:
    """Sample-steps per second of each contestant in each round."""
    rates: Rounds = {name: [] for name in contestants}
    for _, function in contestants.values():
        function()
    for _ in range(rounds):
        for name, (threads, function) in sorted(contestants.items(), key=lambda item: item[1][0]):
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)
                function()  # what oneDNN has prepared, it has to prepare anew
            count, start = 0, time.perf_counter()
            while not count or time.perf_counter() - start < SECONDS:
                function()
                count += 1
            rates[name].append(steps * count / (time.perf_counter() - start))
    torch.set_num_threads(CORES)
    return rates


def alone(function: Callable[[], object], steps: int, rounds: int) -> float:
    """The median rate of one contestant."""
    return statistics.median(measured({OURS: (CORES, function)}, steps, rounds)[OURS])


def ratio(rates: Rounds, others: list[str]) -> str:
    """How many times as fast as the fastest of the others ours is."""
    if not others:
        return "-"
    best = max(others, key=lambda name: statistics.median(rates[name]))
    return f"{statistics.median(a / b for a, b in zip(rates[OURS], rates[best], strict=True)):.1f}"


def row(cells: list[object], widths: int = 13) -> None:
    print("".join(f"{cell:>{widths}}" for cell in cells), flush=True)


def activity_of(net: Net, spikes: dict[str, int], steps: int) -> str:
    sizes = {node.name: node.type.size for node in float_graph(net) if node.is_neuron and node.type}
    return ", ".join(f"{count / steps / sizes[name]:.1%}" for name, count in spikes.items())


# -- floating point -------------------------------------------------------------------------------


def installed() -> list[str]:
    """Peers that can be imported; the others are named."""
    found = []
    for name in PEERS:
        try:
            Peer(name, network("dense", [1.0, 1.0]), variants(name, "dense", 1)[0])
            found.append(name)
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return found


def fastest(name: str, net: Net, x: np.ndarray) -> Variant:
    """The fastest way of a library to run a network."""
    times = {}
    ways, x = variants(name, net.name, len(x)), x[:TUNED_SAMPLES]
    for variant in ways:
        peer = Peer(name, net, variant)
        torch.set_num_threads(variant.threads)
        peer.run(x[:16])
        tries: list[float] = []
        while sum(tries) < SECONDS or len(tries) < 2:
            start = time.perf_counter()
            peer.run(x)
            tries.append(time.perf_counter() - start)
        times[variant] = statistics.median(tries)
    torch.set_num_threads(CORES)
    return min(times, key=times.__getitem__)


def check(net: Net, executor: FloatExecutor, x: np.ndarray, chosen: dict[str, Variant]) -> None:
    """Print how active the layers are, and by how many spikes the libraries differ from ours."""
    ours = executor.run(x, batch_size=256).spikes
    print(f"{'':>13}active: {activity_of(net, ours, len(x) * TIME)}", end="")
    differences = []
    for name, variant in chosen.items():
        counts = [0] * len(ours)
        Peer(name, net, variant).run(x, counts)
        wrong = sum(abs(a - b) for a, b in zip(counts, ours.values(), strict=True)) / sum(ours.values())
        differences.append(f"{name} {wrong:.2%}")
    print("; spikes differ by: " + ", ".join(differences) if differences else "", flush=True)


def floats(name: str, nets: dict[float, Net], peers: list[str], rounds: int) -> dict[str, Variant]:
    """The table of a network; the fastest ways at the largest batch."""
    from hsnn_compiler.reference.float_executor import FloatExecutor

    print(f"\n{name}, floating point: thousand sample-steps per second")
    row(["batch", "active", OURS, *peers, "/ library", "/ torch"])
    libraries = [peer for peer in peers if peer != TORCH]
    executors = {a: FloatExecutor(float_graph(net), method="auto") for a, net in nets.items()}
    for executor in executors.values():  # so that kernels are used from the first batch of one on
        executor.run(inputs(name, 256, TIME, TUNED_AT), batch_size=256)
    chosen: dict[str, Variant] = {}
    for batch in BATCHES:
        chosen = {peer: fastest(peer, nets[TUNED_AT], inputs(name, batch, TIME, TUNED_AT)) for peer in peers}
        for activity, net in nets.items():
            x = inputs(name, batch, TIME, activity)
            runs: Contestants = {OURS: (CORES, partial(executors[activity].run, x, batch_size=256))}
            runs |= {peer: (v.threads, partial(Peer(peer, net, v).run, x)) for peer, v in chosen.items()}
            rates = measured(runs, batch * TIME, rounds)
            medians = [f"{statistics.median(rates[run]) / 1000:.1f}" for run in runs]
            torch_ratio = ratio(rates, [TORCH])
            row([batch, f"{activity:.0%}", *medians, ratio(rates, libraries), torch_ratio])
            if batch == BATCHES[-1]:
                check(net, executors[activity], x[:CHECKED_SAMPLES], chosen)
        for peer, variant in chosen.items():
            print(f"{'':>13}batch {batch}, {peer}: {variant}")
    return chosen


# -- integers -------------------------------------------------------------------------------------


def integers(name: str, nets: dict[float, Net], rounds: int, *, with_lava: bool) -> None:
    """The table of a network on integers."""
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

    print(f"\n{name}, Loihi's integers: thousand sample-steps per second")
    row(["active", "Lava", "ours", "ours, 256", "/ Lava", "256 / Lava"])
    for activity, net in nets.items():
        executor = LoihiExecutor(raw_graph(net))
        x = inputs(name, 256, TIME, activity)
        many = alone(partial(executor.run, x, batch_size=256), 256 * TIME, rounds)
        lava, steps = lava_rate(name, net, activity, rounds) if with_lava else (None, 100 * LAVA_SHORT_STEPS[name])
        single = inputs(name, 1, steps, activity)
        one = alone(partial(executor.run, single), steps, rounds)
        cells = [f"{one / 1000:.1f}", f"{many / 1000:.1f}"]
        ratios = [f"{one / lava:.0f}", f"{many / lava:.0f}"] if lava else ["-", "-"]
        row([f"{activity:.0%}", f"{lava / 1000:.3f}" if lava else "-", *cells, *ratios])
        print(f"{'':>13}active: {activity_of(net, executor.run(single).spikes, steps)}; {steps} steps", flush=True)


def lava_rate(name: str, net: Net, activity: float, rounds: int) -> tuple[float | None, int]:
    """Steps per second of Lava, None if it failed, and the steps of the long run."""
    from hsnn_compiler.backends.lava.simulate_raw import run_raw
    from hsnn_compiler.diagnostics import HsnnError
    from hsnn_compiler.reference.loihi_executor import LoihiExecutor

    graph, short = raw_graph(net), LAVA_SHORT_STEPS[name]
    end = time.monotonic() + DEADLINE

    def seconds(steps: int) -> float:
        x = inputs(name, 1, steps, activity)
        start = time.perf_counter()
        spikes = run_raw(graph, x, deadline_s=max(end - time.monotonic(), 0.0)).spikes
        passed = time.perf_counter() - start
        if spikes != LoihiExecutor(graph).run(x).spikes:
            raise SystemExit(f"{name}: Lava gives other spikes than ours")
        return passed

    long = 10 * short
    try:
        start = seconds(short)
        while seconds(long) - start < (1.0 if rounds < 9 else 2.0):
            long *= 3
        return statistics.median((long - short) / (seconds(long) - seconds(short)) for _ in range(min(rounds, 3))), long
    except HsnnError as error:
        print(f"left out: Lava ({str(error).splitlines()[0]})")
        return None, long


# -- memory ---------------------------------------------------------------------------------------


def memory(net: Net, chosen: dict[str, Variant]) -> None:
    """Peak memory at the largest batch, each in a process of its own."""

    def peak(name: str, variant: Variant | None = None) -> int:
        job = {"name": name, "net": net.name, "thresholds": net.thresholds, "variant": variant and asdict(variant)}
        command = [sys.executable, "-W", "ignore", __file__, "--peak", json.dumps(job)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    base = peak("")
    print(f"\n{net.name}, batch {BATCHES[-1]}, {TUNED_AT:.0%} active: peak memory above an interpreter with PyTorch")
    print(f"{'ours':>13}{peak(OURS) - base:>7} MB floating point")
    print(f"{'':>13}{peak('integers') - base:>7} MB integers", flush=True)
    for name, variant in chosen.items():
        whole = Variant(BATCHES[-1], variant.channels_last, variant.mode, variant.threads)
        for way in dict.fromkeys((variant, whole)):
            print(f"{name:>13}{peak(name, way) - base:>7} MB {way}", flush=True)


def run_for_peak(job: dict[str, object]) -> None:
    """What the process does whose memory is measured."""
    net = network(str(job["net"]), job["thresholds"])  # type: ignore[arg-type]
    x = inputs(net.name, BATCHES[-1], TIME, TUNED_AT)
    if job["name"] == OURS:
        from hsnn_compiler.reference.float_executor import FloatExecutor

        FloatExecutor(float_graph(net), method="auto").run(x, batch_size=256)
    elif job["name"] == "integers":
        from hsnn_compiler.reference.loihi_executor import LoihiExecutor

        LoihiExecutor(raw_graph(net)).run(x, batch_size=256)
    elif job["name"]:
        torch.set_num_threads((variant := Variant(**job["variant"])).threads)  # type: ignore[arg-type]
        Peer(str(job["name"]), net, variant).run(x)
    status = Path("/proc/self/status").read_text()
    print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--only", choices=["dense", "conv"])
    parser.add_argument("--no-lava", action="store_true")
    parser.add_argument("--no-peers", action="store_true", help="only plain PyTorch beside ours")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        run_for_peak(json.loads(options.peak))
        return
    rounds = 3 if options.quick else 9
    print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    peers = [TORCH] if options.no_peers else installed()
    for name in [options.only] if options.only else ["dense", "conv"]:
        nets = {activity: calibrated(name, activity) for activity in ACTIVITIES}
        chosen = floats(name, nets, peers, rounds)
        integers(name, nets, rounds, with_lava=not options.no_lava)
        if name == "conv":
            memory(nets[TUNED_AT], chosen)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
