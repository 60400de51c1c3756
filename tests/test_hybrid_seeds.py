"""Hybrid networks of the kinds people build: captured, partitioned, and run on Lava, where every number is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hybrid_seeds import SEEDS, STEPS, seed_model

import hsnn_compiler as hc
from hsnn_compiler.driver import capture_model
from hsnn_compiler.ir.stages import middle_stages
from hsnn_compiler.reference.float_executor import FloatExecutor

SAMPLES = 3
TURNS = {
    "HAS ResNet": (2, 7),
    "HAS VGG": (3, 5),
    "direct-coded SNN, ANN head": (0, 2),
    "ANN stem, spiking body": (0, 3),
    "spiking transformer": (1, 6),
    "vision transformer": (0, 3),
}
"""Turns of the host between those of the chip, and populations on the chip."""


@pytest.mark.usefixtures("lava")
@pytest.mark.parametrize("name", SEEDS)
def test_seed(name: str, tmp_path: Path) -> None:
    model, samples = seed_model(name)
    x = samples.numpy()
    with torch.no_grad():
        wanted = model(samples).numpy()
    graph, _ = capture_model(model, x, name)
    (found,) = FloatExecutor(graph).run(x).outputs.values()
    np.testing.assert_allclose(found, wanted, atol=1e-5)

    program = hc.compile(model, calibration=x, example=x[:1], timesteps=None if graph.timesteps else STEPS)
    if graph.timesteps:  # else activations became neurons, at a loss
        (found,) = program.simulate(x, backend="float").outputs.values()
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (len(middle_stages(program.graph)), len(program.populations)) == TURNS[name]

    program.save(tmp_path / "bundle")
    record = [(node, signal) for node in program.populations for signal in program.graph[node].states + "s"]
    integers = program.simulate(x[:SAMPLES], record=record)
    lava = program.simulate(x[:SAMPLES], backend="lava", record=record, deadline_s=120)
    for key, trace in integers.trace.items():
        assert key[1] != "s" or trace.any(), f"{key[0]} never fires"
        np.testing.assert_array_equal(lava.trace[key], trace, err_msg=str(key))
    for node, output in integers.outputs.items():
        np.testing.assert_array_equal(lava.outputs[node], output)
