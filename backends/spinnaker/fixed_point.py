"""Numbers on SpiNNaker 1: s16.15, and the exponential and the division of its runtime library.

What is here follows ``stdfix-exp.c`` of spinn_common and ``maths-util.h`` of sPyNNaker, and was compared with the
machine code in ``IF_curr_delta_neuron.aplx`` of sPyNNaker 1!7.4.1, on 80,000 arguments of the exponential.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hsnn_compiler.diagnostics import refuse

ONE = 1 << 15
LOWEST, HIGHEST = -(2**31), 2**31 - 1

_EXP_LOWEST = -340695  # below it the result is 0
# 1 - exp(-x) for x < 2^-4, in units of 2^-32, as C + x (L - x Q)
_SERIES_CONSTANT, _SERIES_LINEAR, _SERIES_SQUARE = 5294, 4293434720, 2081624032
_HALF = 0x7FFFFFFE  # what is cut off is rounded up above it


def to_s1615(array: np.ndarray, what: str, node: str = "") -> np.ndarray:
    """Real numbers in s16.15, int64: rounded to nearest, ties to even, as ``DataType.S1615`` does.

    Args:
        array: real numbers.
        what: they are, for the message.
        node: whose they are.

    Raises:
        HsnnError: E0530 where one is outside of [-65536, 65536).
    """
    scaled = np.rint(np.asarray(array, np.float64) * ONE)
    if scaled.size and not (scaled.min() >= LOWEST and scaled.max() <= HIGHEST):
        worst = float(array.reshape(-1)[np.abs(scaled).argmax()])
        raise refuse(
            "E0530",
            f"{what} of {worst:g} cannot be held in s16.15",
            node=node,
            supported="-65536 to 65535.99997",
            suggestion="scale the weights, biases and thresholds of this population by the same factor",
        )
    return scaled.astype(np.int64)


def wrap(number: np.ndarray) -> np.ndarray:
    """The lowest 32 bits, as a signed number."""
    return ((number + 2**31) & (2**32 - 1)) - 2**31


@cache
def exponential(n: int) -> int:
    """``expk``: exp(n / 2^15) in units of 2^-15, rounded down, for n <= 0.

    The integer part and the highest four bits of the fraction are looked up, the rest is a polynomial.
    """
    if n > 0:
        raise ValueError("only decays are asked for")
    if n < _EXP_LOWEST:
        return 0
    whole, fraction = n >> 15, n & (ONE - 1)
    if not fraction:
        return _power(whole) >> 17
    fraction = ONE - fraction
    value = _power(whole + 1)
    value -= _scaled(value, _table(fraction >> 11))
    x = (fraction & 0x7FF) << 17
    return (value - _scaled(value, _series(x))) >> 17


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``kdivk``: a / b of non-negative numbers in s16.15, rounded down."""
    return (a << 15) // b


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b of numbers in s16.15, rounded down; what is too large loses its highest bits."""
    return wrap((a * b) >> 15)


def _power(k: int) -> int:
    """2^32 e^k, rounded."""
    from decimal import ROUND_HALF_UP, Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        return int((Decimal(k).exp() * 2**32).to_integral_value(ROUND_HALF_UP))


@cache
def _table(k: int) -> int:
    """2^32 (1 - e^(-k / 16)), rounded."""
    from decimal import ROUND_HALF_UP, Decimal, localcontext

    with localcontext() as context:
        context.prec = 60
        return int(((1 - (-Decimal(k) / 16).exp()) * 2**32).to_integral_value(ROUND_HALF_UP))


def _series(x: int) -> int:
    return ((((_SERIES_LINEAR - ((_SERIES_SQUARE * x) >> 32)) & 0xFFFFFFFF) * x) >> 32) + _SERIES_CONSTANT


def _scaled(a: int, b: int) -> int:
    """a b / 2^32 of 64 and 32 bits."""
    low = (a & 0xFFFFFFFF) * b
    return (a >> 32) * b + (low >> 32) + ((low & 0xFFFFFFFF) > _HALF)
