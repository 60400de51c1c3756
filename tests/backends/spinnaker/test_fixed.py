"""The arithmetic of SpiNNaker 1: against numbers of the installed binary, and against loops over single spikes."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from netlists import everything, random_net, spikes_of

from hsnn_compiler.backends.spinnaker.cells import NEVER, cells, time_constants
from hsnn_compiler.backends.spinnaker.execute import Given
from hsnn_compiler.backends.spinnaker.fixed_point import ONE, exponential, to_s1615
from hsnn_compiler.backends.spinnaker.fixed_run import FixedNeurons, by_sign, run_fixed
from hsnn_compiler.backends.spinnaker.float_run import run_float
from hsnn_compiler.backends.spinnaker.netlist import Population, Projection, Turn
from hsnn_compiler.backends.spinnaker.ring_buffers import shifts
from hsnn_compiler.diagnostics import HsnnError

# Computed by the machine code of IF_curr_delta_neuron.aplx of sPyNNaker 1!7.4.1, run in an emulator of ARM: parameters
# as sPyNNaker sends them, then beta, V, i_offset, excitatory and inhibitory input; R and e; V after the step.
BINARY = [
    (0.0, -250212, -30610, 175944, 44146, 32768, 0, 101188),
    (0.0, -1072816, 91632, 262140, 95214, 32768, 0, 258558),
    (0.05, 1040191, 63267, 26840, 63578, 34492, 1638, 78525),
    (0.05, -1205290, -4603, 262140, 109420, 34492, 1638, 87866),
    (0.5, 965820, -97090, 114080, 131070, 65536, 16384, 368830),
    (0.5, 21140, 34722, 262140, 117046, 65536, 16384, 190386),
    (0.9, -383575, -4055, 65188, 24950, 327677, 29491, -309030),
    (0.9, 1126977, -40618, 230860, 38234, 327677, 29491, 1166289),
    (0.95, 165685, -69264, 9560, 63352, 655355, 31130, 34378),
    (0.95, -1126198, -26371, 183472, 14790, 655355, 31130, -927626),
    (0.99, 596252, -88057, 13768, 5898, 3276788, 32440, 510019),
    (0.99, -627201, -54519, 32120, 70732, 3276788, 32440, -714144),
    (0.999, -1184845, 49754, 239304, 54484, 32767612, 32735, -947419),
    (0.999, 409830, 2560, 31084, 45768, 32767612, 32735, 397208),
    (255 / 256, -580839, -86022, 86500, 902, 8388596, 32640, -578994),
    (255 / 256, 828798, 11504, 84804, 42348, 8388596, 32640, 879521),
]


def one_neuron(beta: float, threshold: float | None = NEVER, v: float = 0.0, bias: float = 0.0) -> Population:
    limit = None if threshold is None else np.array([threshold])
    return Population("n", "neurons", (1,), 0, np.array([beta]), limit, np.array([v]), np.array([bias]))


@pytest.mark.parametrize("row", BINARY, ids=lambda row: f"{row[0]:g}, {row[1]}")
def test_a_step_is_that_of_the_binary(row: tuple[float, ...]) -> None:
    beta, v, bias, exciting, inhibiting, resistance, decay, after = row
    neurons = FixedNeurons(one_neuron(beta, NEVER, v / ONE, bias / ONE), Given(), 1, (0, 0))
    assert (int(neurons.resistance), int(neurons.decay)) == (resistance, decay)
    neurons.shift = (2, 1)
    arrived = [torch.tensor([[exciting / 4]]), torch.tensor([[inhibiting / 2]])]
    spikes = neurons.step(arrived)
    assert not spikes.any()
    assert int(neurons.v) == after
    assert neurons.saturated == 0


def test_the_exponential_is_that_of_the_library() -> None:
    # expk of the same binary
    assert [exponential(n) for n in (0, -1, -32768, -22713, -340695, -340696)] == [32768, 32766, 12054, 16384, 1, 0]
    grid = range(-340000, 1, 997)
    assert all(-2 <= exponential(n) - math.exp(n / ONE) * ONE <= 1 for n in grid)


def test_time_constants_give_back_the_decay() -> None:
    beta = np.concatenate([np.random.default_rng(0).uniform(0.3, 0.999, 500), [0.5, 0.75, 0.9, 0.99, 0.0]])
    back = np.array([math.exp(-1 / t) for t in time_constants(beta)])
    assert (back == beta)[beta > 0.62].all()
    assert (back == beta)[-5:].all()
    np.testing.assert_allclose(back, beta, rtol=4e-16)  # below, numbers are too far apart to hit each one
    cell = cells(one_neuron(0.9))
    assert (1 - 0.9) * cell.tau_m[0] / cell.cm[0] == pytest.approx(1)


def test_a_threshold_is_the_smallest_number_that_reaches_it() -> None:
    at = [int(FixedNeurons(one_neuron(0.5, t), Given(), 1, (0, 0)).threshold) for t in (1.0, math.nextafter(1.0, 2.0))]
    assert at == [ONE, ONE + 1]


def test_what_does_not_fit_is_refused() -> None:
    assert to_s1615(np.array([-65536.0, 65535.99997]), "a bias").tolist() == [-(2**31), 2**31 - 1]
    with pytest.raises(HsnnError, match=r"E0530 n: a start potential of -70000 cannot be held in s16\.15"):
        FixedNeurons(one_neuron(0.5, v=-70000.0), Given(), 1, (0, 0))


def test_full_buffers_and_lost_bits_are_counted() -> None:
    neurons = FixedNeurons(one_neuron(0.5), Given(), 1, (0, 0))
    neurons.step([torch.tensor([[70000.0]]), torch.tensor([[0.0]])])
    assert neurons.saturated == 1
    assert int(neurons.v) == 65535
    neurons = FixedNeurons(one_neuron(0.999, None, bias=60000.0), Given(), 1, (0, 0))
    neurons.step([torch.zeros(1, 1), torch.zeros(1, 1)])
    assert neurons.saturated > 0  # R i_offset is 60 million


def loops(turn: Turn, timesteps: int, given: Given, sample: int) -> dict[tuple[str, int, int], tuple[int, int]]:
    """Spikes and potentials in integers, event by event."""
    turn = by_sign(turn)
    buffers: dict[tuple[str, int, int, int], int] = defaultdict(int)
    state, found = {}, {}
    for p in turn.populations.values():
        if p.is_neural:
            cell = cells(p)
            current = p.bias + (given.currents[p.presented][sample].reshape(-1) if p.presented else 0.0)
            for i in range(p.size):
                tau, cm = round(cell.tau_m[i] * ONE), round(cell.cm[i] * ONE)
                decay = exponential(-((ONE << 15) // tau))
                state[p.name, i] = [round(p.v_init[i] * ONE), (tau << 15) // cm, decay, round(current[i] * ONE)]
    for step in range(1, turn.steps + 1):
        now = []
        for p in turn.populations.values():
            t = step - 1 - p.depth
            if not p.is_neural:
                now += [(p.name, i) for i in spikes_of(p, given, sample, t)] if 0 <= t < timesteps else []
                continue
            shift = shifts(turn, p.name)
            for i in range(p.size):
                v, resistance, decay, current = state[p.name, i]
                for sign in (0, 1):
                    current += (1 - 2 * sign) * (buffers.pop((p.name, i, step, sign), 0) << shift[sign])
                alpha = (current * resistance) >> 15
                v = alpha - (((alpha - v) * decay) >> 15)
                fires = p.threshold is not None and v >= math.ceil(p.threshold[i] * ONE)
                state[p.name, i][0] = v = 0 if fires else v
                now += [(p.name, i)] if fires else []
                if 0 <= t < timesteps:
                    found[p.name, t, i] = (int(fires), v)
        for name, i in now:
            for part in turn.projections.values():
                if part.pre_population == name:
                    sign = int(part.weight[0] < 0)
                    shift = shifts(turn, part.post_population)[sign]
                    for k in np.flatnonzero(part.pre == i):
                        key = (part.post_population, int(part.post[k]), step + part.delay, sign)
                        buffers[key] = min(buffers[key] + round(abs(part.weight[k]) * 2.0 ** (15 - shift)), 0xFFFF)
    return found


@pytest.mark.parametrize("seed", range(2))
def test_batched_integers_are_the_loops(seed: int) -> None:
    turn, given = random_net(np.random.default_rng(seed), samples=2, timesteps=7)
    result = run_fixed(turn, 7, given, everything(turn))
    for (name, t, i), (spike, v) in loops(turn, 7, given, 1).items():
        assert result.spikes[name][1, t].reshape(-1)[i] == spike
        assert result.potential[name][1, t].reshape(-1)[i] * ONE == v
    assert not any(result.saturated.values())


def test_numbers_that_both_formats_hold_give_the_same_spikes() -> None:
    nets = [random_net(np.random.default_rng(seed), 4, 6, grid=2.0**-4) for seed in range(6)]
    for turn, given in nets:
        half = {
            name: p if p.beta is None else Population(*[getattr(p, f) if f != "beta" else np.full(p.size, 0.5)
                                                        for f in p.__dataclass_fields__])
            for name, p in turn.populations.items()
        }  # fmt: skip
        turn = Turn(0, turn.steps, half, turn.projections)
        exact, fixed = (run(turn, 6, given, everything(turn)) for run in (run_float, run_fixed))
        for name in exact.spikes:
            np.testing.assert_array_equal(exact.spikes[name], fixed.spikes[name])


def test_weights_are_kept_to_half_a_unit() -> None:
    projection = Projection("w", "a", "n", np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([0.3]))
    source = Population("a", "source", (1,))
    turn = Turn(0, 2, {"a": source, "n": one_neuron(0.0)}, {"w": projection})
    found = run_fixed(turn, 2, Given({"a": np.ones((1, 2, 1))}), [("n", "v")]).potential["n"][0, :, 0]
    assert found.tolist() == [0.0, round(0.3 * ONE) / ONE]
