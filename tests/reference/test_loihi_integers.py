"""The integer synapse and neuron against plain Python and numpy integers."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from picks import Picks, picks

from hsnn_compiler.reference.loihi_neuron import Lif, NeuronParameters, scan
from hsnn_compiler.reference.loihi_synapse import FLOAT32_EXACT, IntegerSynapse, lava_dense_weights


def test_weights_as_lava_truncates_them() -> None:
    cases = {
        (3, -3, 255, -257): (2, -4, 254, -256),  # mixed: even, rounded down
        (3, 300, 0, 1): (3, 255, 0, 1),
        (-3, -300, 0, -1): (-3, -255, 0, -1),
    }
    for given_weights, wanted in cases.items():
        assert tuple(lava_dense_weights(np.array([given_weights]))[0]) == wanted
    assert tuple(lava_dense_weights(np.array([[15, -15, 16]]), 4)[0]) == (0, -32, 0)


@pytest.mark.parametrize("magnitude", [100, FLOAT32_EXACT // 8 - 1, FLOAT32_EXACT // 8, 2**22, 2**23 - 1])
def test_convolution_is_exact_on_both_sides_of_float32(magnitude: int) -> None:
    """Eight weights: float32 holds their sums exactly up to 2^24, above it float64 is used."""
    rng = np.random.default_rng(magnitude)
    weight = rng.integers(magnitude - 9, magnitude + 1, (3, 8, 1, 1)).astype(np.int64)
    op = nir.Conv2d((4, 4), weight.astype(float), 1, 0, 1, 1, np.zeros(3))
    synapse = IntegerSynapse(weight, op)
    assert synapse.dtype is (torch.float32 if weight.reshape(3, -1).sum(1).max() < FLOAT32_EXACT else torch.float64)
    spikes = rng.integers(0, 2, (20, 8, 4, 4))
    spikes[0] = 1
    wanted = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], spikes)
    wanted = (wanted + 2**23) % 2**24 - 2**23  # Lava wraps at 24 bits
    np.testing.assert_array_equal(synapse(torch.from_numpy(spikes).to(torch.int8)).numpy(), wanted)


@settings(max_examples=40)
@given(picks())
def test_dense(p: Picks) -> None:
    rng = p.rng()
    weight = rng.integers(-260, 260, (p.integer(1, 6), p.integer(1, 40)))
    exponent, bits = p.integer(-8, 7), p.integer(1, 8)
    spikes = rng.integers(0, 2, (7, weight.shape[1]))
    got = IntegerSynapse(weight, None, exponent, bits)(torch.from_numpy(spikes)).numpy()
    used = lava_dense_weights(weight, bits).tolist()
    for sample, row in zip(got, spikes.tolist(), strict=True):
        for value, weights in zip(sample.tolist(), used, strict=True):
            total = sum(w for w, s in zip(weights, row, strict=True) if s)
            assert value == (total << exponent if exponent >= 0 else total >> -exponent)


def reference_neuron(p: NeuronParameters, start: int, bias: int, current: list[int]) -> list[tuple[int, int, int]]:
    """One neuron in Python integers, written after Lava's models."""

    def shrink(x: int, factor: int) -> int:
        return (abs(x) * factor >> 12) * (1 if x >= 0 else -1)

    u, v, rows = 0, start, []
    for a in current:
        u = shrink(u, 4096 - (p.du + 1)) + (a << 6)
        if u > 2**23:
            u -= 2**24
        elif u <= -(2**23):
            u += 2**24
        v = max(-(2**23) + 1, min(2**23 - 1, shrink(v, 4096 - p.dv) + u + bias))
        s, before = 0, v
        while before > (s + 1) * (p.vth << 6) and s < p.max_spikes:
            s += 1
            v = v - (p.vth << 6) if p.reset == "subtract" else 0
        rows.append((s, u, v))
    return rows


@settings(max_examples=80)
@given(picks())
def test_neuron(p: Picks) -> None:
    rng = p.rng()
    top = p.choice([50, 2000, 2**17, 2**18])
    current = rng.integers(-top, top + 1, (12, 2, 3))
    bias = rng.integers(-4096, 4096, (2, 3)) << p.integer(0, 7)
    most = p.choice([1, 2, 255])
    start = p.choice([np.array(p.choice([0, 2**23 - 1, -(2**23) + 1, 77])), rng.integers(-(2**23) + 1, 2**23, (2, 3))])
    parameters = NeuronParameters(
        du=p.choice([4095, 0, 1000, 4094]),
        dv=p.choice([0, 4095, 300, 4096]),
        vth=p.choice([10, 0 if most == 1 else 1, 2**17 - 1, 3000]),
        bias=torch.from_numpy(bias),
        v_init=torch.from_numpy(start),
        reset=p.choice(["zero", "subtract"]) if most == 1 else "subtract",
        max_spikes=most,
    )
    done = scan(Lif(parameters, (2, 3)), torch.from_numpy(current), "uv")
    for index in np.ndindex(2, 3):
        first = int(np.broadcast_to(start, (2, 3))[index])
        rows = reference_neuron(parameters, first, int(bias[index]), current[(slice(None), *index)].tolist())
        got = zip(
            *(x[(slice(None), *index)].tolist() for x in (done.output, done.states["u"], done.states["v"])), strict=True
        )
        assert list(got) == rows
