"""The definition of a netlist: batched, against loops over single spikes."""

from __future__ import annotations

import numpy as np
import pytest
from netlists import everything, in_loops, random_net

from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.float_run import run_float
from hsnn_compiler.diagnostics import HsnnError


@pytest.mark.parametrize("seed", range(4))
def test_batched_steps_are_the_loops(seed: int) -> None:
    turn, given = random_net(np.random.default_rng(seed), samples=2, timesteps=9)
    found = run_float(turn, 9, given, everything(turn))
    for sample in range(2):
        fired, potential = in_loops(turn, 9, given, sample)
        for (name, t, i), spike in fired.items():
            assert found.spikes[name][sample, t].reshape(-1)[i] == spike, (name, t, i)
            assert found.potential[name][sample, t].reshape(-1)[i] == pytest.approx(potential[name, t, i], abs=1e-12)
    assert all(array.any() for name, array in found.spikes.items() if name != "out")
    assert not found.spikes["out"].any()


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, given = random_net(np.random.default_rng(5), samples=7, timesteps=6)
    whole = run_float(turn, 6, given, everything(turn))
    monkeypatch.setattr("hsnn_compiler.backends.spinnaker.stepping.BATCH_SIZE", 3)
    seen: list[tuple[int, int]] = []
    parts = run_float(turn, 6, given, everything(turn), lambda *done: seen.append(done))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    for name in whole.spikes:
        np.testing.assert_array_equal(whole.spikes[name], parts.spikes[name])


def test_inputs_that_are_not_those_of_the_turn_are_refused() -> None:
    turn, given = random_net(np.random.default_rng(0), samples=2, timesteps=6)
    with pytest.raises(HsnnError, match="E0330 in: spikes of shape") as caught:
        run_float(turn, 7, given, [])
    assert caught.value.findings[0].supported.startswith("[samples, 7, ")
    with pytest.raises(HsnnError, match="no values given for 'x'"):
        run_float(turn, 6, Given(given.spikes), [])
