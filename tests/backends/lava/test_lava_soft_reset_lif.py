"""The process models of SoftResetLIF, OwnDecaysLIF and LIFReset against an independent replay.

The models are stepped directly, without Lava's runtime, so that hundreds of random cases
take seconds; test_lava_processes.py runs them within Lava.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("lava")

N = 6  # neurons
STEPS = 24
LIMIT = 2**23


def shrink(x: np.ndarray, factor: int | np.ndarray) -> np.ndarray:
    """x * factor / 4096, rounded towards zero; float64 holds it exactly."""
    return np.trunc(x * factor / 4096).astype(np.int64)


def as_int32(x: np.ndarray) -> np.ndarray:
    """Lava adds in int32, which overflows once |a_in| passes 2^18, as u wraps only once."""
    return x.astype(np.int32).astype(np.int64)


def replay_fixed(a: np.ndarray, p: dict[str, Any], soft: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s, u, v of every step, from the equations in SoftResetLIF's docstring, in int64."""
    u = np.zeros(N, np.int64)
    start = np.broadcast_to(p["v_init"], N).astype(np.int64)
    v = start
    threshold = p["vth"] * 64
    rows = []
    for t in range(1, len(a) + 1):
        if p["interval"] and t % p["interval"] == p["offset"] % p["interval"]:
            u, v = np.zeros_like(u), start
        u = as_int32(shrink(u, 4095 - p["du"]) + a[t - 1] * 64)
        u = np.where(u > LIMIT, u - 2 * LIMIT, np.where(u <= -LIMIT, u + 2 * LIMIT, u))
        v = as_int32(shrink(v, 4096 - p["dv"]) + u + p["bias_mant"] * 2 ** p["bias_exp"])
        v = np.minimum(np.maximum(v, -LIMIT + 1), LIMIT - 1)
        s = sum((v > k * threshold).astype(int) for k in range(1, p["most"] + 1))
        v = np.where(s > 0, v - s * (threshold if p["taken"] is None else p["taken"]) if soft else 0, v)
        rows.append((s, u, v))
    s_all, u_all, v_all = (np.stack(column) for column in zip(*rows, strict=True))
    return s_all, u_all, v_all


class _Port:
    """Stands in for Lava's ports: hands out one row per step, and keeps what is sent."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = iter(rows)
        self.sent: list[np.ndarray] = []

    def recv(self) -> np.ndarray:
        return next(self.rows)

    def send(self, data: np.ndarray) -> None:
        self.sent.append(np.array(data))


def step_model(
    model_class: type, a: np.ndarray, p: dict[str, Any], dtype: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s, u, v of every step, from a Lava process model."""
    model: Any = model_class(
        {
            "reset_interval": p["interval"],
            "reset_offset": p["offset"],
            "v_init": p["v_init"],
            "taken": p["taken"],
            "max_spikes": p["most"],
        }
    )
    port = _Port(a.astype(dtype))
    model.a_in = model.s_out = port
    model.u, model.v = np.zeros(N, dtype), np.broadcast_to(p["v_init"], N).astype(dtype)
    model.du, model.dv, model.vth = p["du"], p["dv"], p["vth"]
    mantissa_type = np.int16 if dtype is np.int32 else float
    model.bias_mant, model.bias_exp = (
        p["bias_mant"].astype(mantissa_type),
        p["bias_exp"].astype(mantissa_type),
    )
    u_all, v_all = [], []
    for model.time_step in range(1, len(a) + 1):
        model.run_spk()
        u_all.append(model.u.copy())
        v_all.append(model.v.copy())
    return np.stack(port.sent), np.stack(u_all), np.stack(v_all)


def models() -> Any:
    from hsnn_compiler.backends.lava.hsnn_lava.processes import soft_reset_lif

    return soft_reset_lif


@st.composite
def fixed_cases(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Up to 2^24, which a convolution can deliver: u wraps and v saturates.
    reach = draw(st.sampled_from([3, 300, 30_000, 2**17, 2**24]))
    p = {
        "du": draw(st.sampled_from([-1, 0, 4095]) | st.integers(-1, 4095) | st.just(rng.integers(-1, 4096, N))),
        "dv": draw(st.sampled_from([0, 4096]) | st.integers(0, 4096) | st.just(rng.integers(0, 4097, N))),
        "vth": draw(st.sampled_from([0, 131071]) | st.integers(0, 131071) | st.integers(0, 300)),
        "bias_mant": rng.integers(-4096, 4096, N),
        "bias_exp": rng.integers(0, 8, N),
        "v_init": draw(st.integers(-LIMIT + 1, LIMIT - 1) | st.integers(-9000, 9000) | st.just(None)),
        "interval": draw(st.integers(1, 9)),
        "offset": draw(st.integers(0, 20)),
        "taken": draw(st.sampled_from([None, 0, 64 * 300, LIMIT]) | st.just(rng.integers(0, LIMIT + 1, N))),
        "most": 1,
    }
    if p["v_init"] is None:  # one per neuron
        p["v_init"] = rng.integers(-LIMIT + 1, LIMIT, N)
    return rng.integers(-reach, reach, (STEPS, N)), p


@settings(max_examples=300, deadline=None)
@given(fixed_cases())
def test_soft_reset_fixed(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    a, p = case
    got = step_model(models().PySoftResetLIFModelFixed, a, p, np.int32)
    for mine, wanted in zip(got, replay_fixed(a, p, soft=True), strict=True):
        np.testing.assert_array_equal(mine, wanted)


@settings(max_examples=200, deadline=None)
@given(fixed_cases(), st.sampled_from([2, 3, 15, 255]))
def test_several_spikes_per_step_fixed(case: tuple[np.ndarray, dict[str, Any]], most: int) -> None:
    a, p = case
    p |= {"most": most, "taken": None, "vth": p["vth"] or 1}
    got = step_model(models().PySoftResetLIFModelFixed, a, p, np.int32)
    for mine, wanted in zip(got, replay_fixed(a, p, soft=True), strict=True):
        np.testing.assert_array_equal(mine, wanted)


@settings(max_examples=100, deadline=None)
@given(fixed_cases())
def test_soft_reset_fixed_without_period(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    a, p = case
    p["interval"] = None
    got = step_model(models().PySoftResetLIFModelFixed, a, p, np.int32)
    for mine, wanted in zip(got, replay_fixed(a, p, soft=True), strict=True):
        np.testing.assert_array_equal(mine, wanted)


@settings(max_examples=200, deadline=None)
@given(fixed_cases(), st.booleans())
def test_own_decays_fixed(case: tuple[np.ndarray, dict[str, Any]], periodic: bool) -> None:
    a, p = case
    p["interval"] = p["interval"] if periodic else None
    got = step_model(models().PyOwnDecaysLIFModelFixed, a, p, np.int32)
    for mine, wanted in zip(got, replay_fixed(a, p, soft=False), strict=True):
        np.testing.assert_array_equal(mine, wanted)


@settings(max_examples=100, deadline=None)
@given(fixed_cases())
def test_lava_own_lif_reset(case: tuple[np.ndarray, dict[str, Any]]) -> None:
    # That Lava means what the documents say; v starts at 0 there. Its arithmetic would take decays per neuron.
    a, p = case
    models()
    from lava.proc.lif.models import PyLifResetModelBitAcc

    p["v_init"] = 0
    got = step_model(PyLifResetModelBitAcc, a, p, np.int32)
    for mine, wanted in zip(got, replay_fixed(a, p, soft=False), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_the_cases_reach_wrap_and_saturation() -> None:
    a = np.full((4, N), 2**17 + 1)
    p: dict[str, Any] = {"du": 4095, "dv": 0, "vth": 131071, "v_init": 0, "interval": None, "offset": 0, "taken": None}
    p |= {"most": 1, "bias_mant": np.zeros(N, int), "bias_exp": np.zeros(N, int)}
    _, u, v = step_model(models().PySoftResetLIFModelFixed, a, p, np.int32)
    assert u[0, 0] == -LIMIT + 64
    _, _, v = step_model(models().PySoftResetLIFModelFixed, -np.full((4, N), 2**16), p, np.int32)
    assert v[3, 0] == -LIMIT + 1


@pytest.mark.parametrize(
    ("v", "most", "sent"),
    [
        *((0, 9, 0), (64, 9, 0), (65, 9, 1), (128, 9, 1), (129, 9, 2)),
        *((640, 9, 9), (10**6, 9, 9), (-(10**6), 9, 0), (10**6, 255, 255)),
    ],
)
def test_how_often_a_neuron_fires(v: int, most: int, sent: int) -> None:
    """As often as the threshold fits, n times where v > n thresholds: at exactly n of them, n - 1 times."""
    p: dict[str, Any] = {"du": 4095, "dv": 0, "vth": 1, "v_init": v, "interval": None, "offset": 0, "taken": None}
    p |= {"most": most, "bias_mant": np.zeros(N, int), "bias_exp": np.zeros(N, int)}
    s, _, left = step_model(models().PySoftResetLIFModelFixed, np.zeros((1, N)), p, np.int32)
    assert s[0].tolist() == [sent] * N
    assert left[0].tolist() == [v - 64 * sent] * N


@pytest.mark.parametrize("wrong", [{"max_spikes": 0}, {"max_spikes": 256}, {"max_spikes": 2, "taken": 5},
                                   {"max_spikes": 2, "vth": 0}])  # fmt: skip
def test_what_the_process_does_not_do(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"max_spikes|one threshold each"):
        models().SoftResetLIF(shape=(N,), **wrong)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9) | st.none(), st.sampled_from([1, 4]))
def test_soft_reset_floating(seed: int, interval: int | None, most: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(STEPS, N))
    p: dict[str, Any] = {
        "du": rng.random(),
        "dv": rng.random(),
        "vth": rng.random() + 0.1,
        "v_init": rng.normal(),
    }
    taken = (None, 0.7)[seed % 2] if most == 1 else None
    p |= {"interval": interval, "offset": int(rng.integers(12)), "taken": taken, "most": most}
    p |= {"bias_mant": rng.normal(size=N), "bias_exp": np.zeros(N)}
    u, v = np.zeros(N), np.full(N, p["v_init"])
    got = step_model(models().PySoftResetLIFModelFloat, a, p, float)
    for t in range(1, STEPS + 1):
        if interval and (t - p["offset"]) % interval == 0:
            u, v = np.zeros(N), np.full(N, p["v_init"])
        u = u * (1 - p["du"]) + a[t - 1]
        v = v * (1 - p["dv"]) + u + p["bias_mant"]
        s = sum((v > k * p["vth"]).astype(int) for k in range(1, most + 1))
        v = v - (p["vth"] if p["taken"] is None else p["taken"]) * s
        for mine, wanted in zip(got, (s, u, v), strict=True):
            np.testing.assert_allclose(mine[t - 1], wanted, rtol=1e-12, atol=1e-12)
