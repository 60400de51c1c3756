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


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", [residual_ann, direct_snn, currents_with_memory])
def test_lava_agrees(make: Callable[[int], Graph], seed: int) -> None:
    graph = make(seed)
    x = np.random.default_rng(seed).normal(size=(32, *graph["x"].shape)).astype(np.float32)
    after = run_passes(graph, DEFAULT_PIPELINE, calibration=x, timesteps=graph.timesteps or 8)[-1].result.graph
    result = assert_equal(after, x[:3])
    assert all(result.spikes[node.name] > 0 for node in after if node.is_spiking)
