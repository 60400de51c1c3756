"""Networks that the compiler itself brought to the chip: Lava agrees with the integer executor."""

from __future__ import annotations

from collections.abc import Callable

import nir
import numpy as np
import pytest
from lava_runs import assert_equal
from value_graphs import Net, run_passes

from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.ops import Add, BatchNorm, ReLU
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE

pytestmark = pytest.mark.usefixtures("fast_lava")


def residual_ann(seed: int) -> Graph:
    net = Net((2, 6, 5), seed=seed).conv("c0", 3, padding=1)
    net.add("bn", BatchNorm(net.rng.uniform(0.5, 1.5, 3), np.zeros(3), net.rng.normal(size=3), np.ones(3)))
    net.add("r0", ReLU()).conv("c1", 3, padding="same", dilation=2).add("r1", ReLU()).conv(
        "c2", 3, (3, 2), padding="same"
    )
    net.add("add", Add(), "c2", "r0").add("r2", ReLU()).pool("pool", 2).flatten()
    return net.linear("fc", 4).done()


def direct_snn(seed: int) -> Graph:
    reset = ("zero", "subtract")[seed % 2]
    net = Net((2, 6, 5), timesteps=8, seed=seed).encode().conv("c0", 4, padding=1)
    net.neuron("n0", threshold=net.rng.uniform(0.3, 0.8, (4, 1, 1)), reset=reset).conv("c1", 4, stride=(2, 1), groups=2)
    net.neuron("n1", threshold=0.5 * np.ones((1, 1, 1)), reset=reset).pool("pool", (1, 2)).flatten()
    return net.linear("fc", 3).neuron("out", threshold=[0.3], reset=reset).done("mean")


def currents_with_memory(seed: int) -> Graph:
    net = Net((2, 9), timesteps=8, seed=seed).encode().conv("c0", 4, padding=1, stride=2)
    ones = np.ones(1)
    lif = nir.LIF(6 * ones, 6 * ones, 0 * ones, 0.3 * ones, 0 * ones)
    cuba = nir.CubaLIF(3 * ones, 6 * ones, 6 * ones, 0 * ones, 0.3 * ones, 0 * ones, 3 * ones)
    net.add("n0", lif, dynamics=Dynamics(reset="subtract", v_init=0.1)).conv("c1", 2)
    weights = net.graph["c1"].op
    net.graph.update("c1", op=with_weights(weights, weights.weight, 0 * weights.bias))  # none through a current
    net.add("n1", cuba, dynamics=Dynamics(reset="subtract", v_init=0.1)).flatten()
    li = nir.LI(tau=5 * np.ones(1), r=np.ones(1), v_leak=np.zeros(1))
    return net.linear("fc", 3).add("li", li, dynamics=Dynamics(reset="none")).done("last")


def starts_and_leaks(seed: int) -> Graph:
    """Start potentials per neuron, leaks per channel and per neuron, and counts that leave the chip."""
    net, ones = Net((2, 5, 4), timesteps=5, seed=seed).encode().conv("c0", 3, padding=1), np.ones((3, 1, 1))

    def how(*shape: int) -> Dynamics:
        start, leak = net.rng.uniform(-0.3, 0.3, (3, 5, 4)), net.rng.uniform(-0.1, 0.2, shape)
        return Dynamics(integrator="none", reset="subtract", v_init=start, leak=leak, max_spikes=1 + 3 * seed)

    net.add("n0", nir.IF(ones, net.rng.uniform(0.3, 0.8, (3, 1, 1)), 0 * ones), dynamics=how(3, 1, 1))
    net.conv("c1", 3, padding=1).add("n1", nir.IF(ones, 0.5 * ones, 0 * ones), dynamics=how(3, 5, 4))
    return net.done("mean")


def agrees(graph: Graph, seed: int, pipeline: str = DEFAULT_PIPELINE, **context: object) -> Graph:
    x = np.random.default_rng(seed).normal(size=(32, *graph["x"].shape)).astype(np.float32)
    context = {"timesteps": graph.timesteps or 8} | context
    after = run_passes(graph, pipeline, calibration=x, **context)[-1].result.graph
    result = assert_equal(after, x[:3])
    assert all(result.spikes[node.name] > 0 for node in after if node.is_spiking)
    return after


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", [residual_ann, direct_snn, currents_with_memory, starts_and_leaks])
def test_lava_agrees(make: Callable[[int], Graph], seed: int) -> None:
    agrees(make(seed), seed)


@pytest.mark.parametrize(("steps", "most"), [(1, 255), (2, 15), (4, 3)])
def test_lava_agrees_on_graded_spikes(steps: int, most: int) -> None:
    """Converted, with potentials corrected neuron by neuron, into convolutions and a matrix."""
    text = DEFAULT_PIPELINE.replace("calibrate-thresholds", "calibrate-thresholds{method=max,correct=potential}")
    after = agrees(residual_ann(steps), steps, text, timesteps=steps, max_spikes=most)
    quants = [node.quant for node in after if node.is_synapse and node.on_chip]
    assert all(quant.message_bits == most.bit_length() + 1 for quant in quants)  # type: ignore[union-attr]
    assert {quant.integers.ndim for quant in quants} == {2, 4}  # type: ignore[union-attr]
    assert all(np.ndim(node.quant.v_init) for node in after if node.is_spiking)  # type: ignore[union-attr]
