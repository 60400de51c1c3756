"""What SpiNNaker 1's fixed point moves: spikes in s16.15 against float64, by decay of the potential.

    python benchmarks/spinnaker.py                       random networks, a table
    python benchmarks/spinnaker.py --bundle DIR --data examples/digits/digits_test.npz

The arithmetic is that of sPyNNaker's IF_curr_delta (backends/spinnaker/fixed_run.py), not a board's. A spike
moves where a neuron fires in one run and not in the other, in the same step; one that comes a step later counts twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.fixed_run import run_fixed
from hsnn_compiler.backends.spinnaker.float_run import run_float
from hsnn_compiler.backends.spinnaker.netlist import Population, Projection, Turn

DECAYS = (0.5, 0.9, 0.95, 0.99, 0.999)
SIZES = (64, 128, 10)
STEPS, SAMPLES, RATE = 200, 8, 0.1


def network(beta: float, rng: np.random.Generator) -> tuple[Turn, Given]:
    """Dense layers of neurons with threshold 1, whose weights are scaled until they fire as often as the input."""
    populations = {"in": Population("in", "source", SIZES[:1])}
    projections: dict[str, Projection] = {}
    given = Given({"in": (rng.random((SAMPLES, STEPS, SIZES[0])) < RATE).astype(np.uint8)})
    before = "in"
    for depth, (name, size) in enumerate(zip(("hidden", "out"), SIZES[1:], strict=True), start=1):
        n = populations[before].size
        populations[name] = Population(
            name, "neurons", (size,), depth, np.full(size, beta), np.ones(size), np.zeros(size), np.zeros(size)
        )
        pre, post = (index.reshape(-1).astype(np.int32) for index in np.indices((n, size)))
        weight = rng.normal(0.3, 1, n * size)
        low, high = 1e-5, 10.0
        for _ in range(20):
            scale = (low * high) ** 0.5
            projections[name] = Projection(name, before, name, pre, post, scale * weight)
            turn = Turn(0, STEPS + depth, populations, projections)
            rate = run_float(turn, STEPS, given, [(name, "s")]).spikes[name].mean()
            low, high = (low, scale) if rate > RATE else (scale, high)
        before = name
    return turn, given


def decays() -> None:
    print(f"{'-'.join(map(str, SIZES))}, {STEPS} steps, {SAMPLES} samples")
    print("| beta | layer | spikes | moved | of all |")
    print("|---|---|---|---|---|")
    for beta in DECAYS:
        turn, given = network(beta, np.random.default_rng(0))
        record = [(name, "s") for name in ("hidden", "out")]
        exact, fixed = (run(turn, STEPS, given, record).spikes for run in (run_float, run_fixed))
        for name, _ in record:
            moved, spikes = int((exact[name] != fixed[name]).sum()), int(exact[name].sum())
            print(f"| {beta:g} | {name} | {spikes:,} | {moved:,} | {100 * moved / max(spikes, 1):.2f}% |")


def bundle(folder: Path, data: Path) -> None:
    import hsnn_compiler

    program = hsnn_compiler.load(folder)
    file = np.load(data)
    x, y = file["x"].astype(np.float32), file["y"]
    record = [(name, "s") for name in program.populations]
    exact = program.simulate(x, "reference", record)
    fixed = program.simulate(x, "spinnaker-fixed", record)
    right = [f"{100 * result.accuracy(y):.2f}%" for result in (exact, fixed)]
    print(f"accuracy in float64 {right[0]}, in s16.15 {right[1]}, {len(x)} samples")
    print("| population | spikes | moved | of all | saturated |")
    print("|---|---|---|---|---|")
    for key in record:
        moved, spikes = int((exact.trace[key] != fixed.trace[key]).sum()), int(exact.trace[key].sum())
        row = (key[0], f"{spikes:,}", f"{moved:,}", f"{100 * moved / max(spikes, 1):.2f}%", fixed.saturated[key[0]])
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.bundle and options.data:
        bundle(options.bundle, options.data)
    else:
        decays()
