"""The captured digits network in the float executor equals PyTorch: not one spike differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.loading import load_model
from hsnn_compiler.nn import LIF
from hsnn_compiler.reference.float_executor import FloatExecutor

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
BATCH = 128


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_spike_differs(dtype: torch.dtype) -> None:
    loaded = load_model(DIGITS / "digits_direct.pt")
    model = loaded.module
    x = np.load(DIGITS / "digits_test.npz")["x"]
    graph = capture(model, torch.from_numpy(x[:2]), name="digits")
    names = {module: name for name, module in model.named_modules() if isinstance(module, LIF)}
    spikes: dict[str, list[torch.Tensor]] = {name: [] for name in names.values()}
    hooks = [m.register_forward_hook(lambda m, _, out: spikes[names[m]].append(out.detach())) for m in names]
    model.to(dtype)
    outputs, expected = [], {name: [] for name in spikes}
    with torch.no_grad():
        for batch in torch.from_numpy(x).to(dtype).split(BATCH):
            outputs.append(model(batch).numpy())
            for name, steps in spikes.items():
                expected[name].append(torch.stack(steps, 1).numpy())
                steps.clear()
    for hook in hooks:
        hook.remove()

    neurons = [node.name for node in graph if node.is_spiking]
    assert len(neurons) == len(names) == 4
    result = FloatExecutor(graph, dtype).run(x, [(name, "s") for name in neurons], batch_size=BATCH)
    for name, node in zip(spikes, neurons, strict=True):
        wanted = np.concatenate(expected[name])
        assert wanted.mean() > 0.001
        assert int((result.trace[node, "s"] != wanted).sum()) == 0, node
    np.testing.assert_array_equal(result.output, np.concatenate(outputs))
