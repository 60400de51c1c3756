"""Recurrent layers and their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.backends.host.aten_shapes import joined
from hsnn_compiler.backends.host.table import NoFormError, emits
from hsnn_compiler.backends.host.tracing import Arg, Trace

# Order of the gates: torch has i f g o and r z n, ONNX i o f c and z r h.
_LSTM, _GRU, _RNN = (0, 3, 1, 2), (1, 0, 2), (0,)


def _reordered(weight: Tensor, gates: Sequence[int]) -> Tensor:
    parts = weight.chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])


def _layers(
    t: Trace, kind: str, gates: Sequence[int], x: Tensor, starts: Sequence[Tensor], weights: Sequence[Tensor],
    how: Sequence[Any], **attributes: Any,
) -> tuple[Arg, ...]:  # fmt: skip
    """All layers of a stack: the outputs of the last, then the last states of each kind.

    Args:
        t: the trace.
        kind: ONNX's node.
        gates: the order of the gates in ONNX.
        x: what goes in, [time, batch, features], or batch first if `how` says so.
        starts: states before the first step, each [layers * directions, batch, features].
        weights: per layer and direction input weights, recurrent weights, and their biases if there are any.
        how: has_biases, layers, dropout, train, bidirectional, batch_first.
        attributes: for the node.
    """
    has_biases, layers, _, _, both_ways, batch_first = how
    ways = 2 if both_ways else 1
    each = 4 if has_biases else 2
    if len(weights) != layers * ways * each:
        raise NoFormError("a recurrent layer with a projection")
    hidden = weights[1].shape[1]
    found: Arg = t.op("Transpose", x, perm=[1, 0, 2]) if batch_first else x
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    ends: list[list[Arg]] = [[] for _ in starts]
    for layer in range(layers):
        own = [weights[(layer * ways + way) * each : (layer * ways + way + 1) * each] for way in range(ways)]
        stacked = [torch.stack([_reordered(part[k], gates) for part in own]) for k in range(2)]
        biases = [torch.cat([_reordered(part[k], gates) for k in (2, 3)]) for part in own] if has_biases else []
        first = [_part(t, start, layer * ways, (layer + 1) * ways, layers * ways) for start in starts]
        out, *last = t.ops(
            kind, 1 + len(starts), found, *stacked, torch.stack(biases) if biases else None, None, *first,
            hidden_size=hidden, direction="bidirectional" if both_ways else "forward", **attributes,
        )  # fmt: skip
        for end, value in zip(ends, last, strict=True):
            end.append(value)
        # [time, direction, batch, hidden] to [time, batch, direction * hidden]
        found = t.reshape(t.op("Transpose", out, perm=[0, 2, 1, 3]), [steps, batch, ways * hidden])
    found = t.op("Transpose", found, perm=[1, 0, 2]) if batch_first else found
    return found, *(joined(t, end, 0) for end in ends)


def _part(t: Trace, start: Tensor, low: int, high: int, count: int) -> Arg:
    if (low, high) == (0, count):
        return start
    return t.op("Slice", start, t.ints(low), t.ints(high), t.ints(0))


@emits("lstm.input")
def _lstm(t: Trace, out: Any, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], *how: Any) -> Any:
    return _layers(t, "LSTM", _LSTM, x, states, weights, how)


@emits("gru.input")
def _gru(t: Trace, out: Any, x: Tensor, state: Tensor, weights: Sequence[Tensor], *how: Any) -> Any:
    return _layers(t, "GRU", _GRU, x, [state], weights, how, linear_before_reset=1)


@emits("rnn_tanh.input")
def _rnn_tanh(t: Trace, out: Any, x: Tensor, state: Tensor, weights: Sequence[Tensor], *how: Any) -> Any:
    return _layers(t, "RNN", _RNN, x, [state], weights, how, activations=["Tanh"] * (2 if how[4] else 1))


@emits("rnn_relu.input")
def _rnn_relu(t: Trace, out: Any, x: Tensor, state: Tensor, weights: Sequence[Tensor], *how: Any) -> Any:
    return _layers(t, "RNN", _RNN, x, [state], weights, how, activations=["Relu"] * (2 if how[4] else 1))


# -- one step -----------------------------------------------------------------------------------------

Bias = Tensor | None


def _product(t: Trace, x: Tensor, weight: Tensor, bias: Bias) -> str:
    done = t.op("MatMul", x, weight.t())
    return done if bias is None else t.op("Add", done, bias)


def _gates(t: Trace, value: str, count: int, size: int) -> list[str]:
    return [t.op("Slice", value, t.ints(k * size), t.ints((k + 1) * size), t.ints(-1)) for k in range(count)]


@emits("lstm_cell")
def _lstm_cell(
    t: Trace, out: Any, x: Tensor, state: Sequence[Tensor], w_in: Tensor, w_rec: Tensor, b_in: Bias = None,
    b_rec: Bias = None,
) -> tuple[Arg, Arg]:  # fmt: skip
    h, c = state
    total = t.op("Add", _product(t, x, w_in, b_in), _product(t, h, w_rec, b_rec))
    i, f, g, o = _gates(t, total, 4, w_rec.shape[1])
    kept = t.op("Mul", t.op("Sigmoid", f), c)
    cell = t.op("Add", kept, t.op("Mul", t.op("Sigmoid", i), t.op("Tanh", g)))
    return t.op("Mul", t.op("Sigmoid", o), t.op("Tanh", cell)), cell


@emits("gru_cell")
def _gru_cell(
    t: Trace, out: Any, x: Tensor, h: Tensor, w_in: Tensor, w_rec: Tensor, b_in: Bias = None, b_rec: Bias = None
) -> Arg:
    size = w_rec.shape[1]
    r, z, n = _gates(t, _product(t, x, w_in, b_in), 3, size)
    own_r, own_z, own_n = _gates(t, _product(t, h, w_rec, b_rec), 3, size)
    reset, update = t.op("Sigmoid", t.op("Add", r, own_r)), t.op("Sigmoid", t.op("Add", z, own_z))
    new = t.op("Tanh", t.op("Add", n, t.op("Mul", reset, own_n)))
    return t.op("Add", new, t.op("Mul", update, t.op("Sub", h, new)))


def _rnn_cell(key: str, kind: str) -> None:
    @emits(key)
    def emit(
        t: Trace, out: Any, x: Tensor, h: Tensor, w_in: Tensor, w_rec: Tensor, b_in: Bias = None, b_rec: Bias = None
    ) -> Arg:
        return t.op(kind, t.op("Add", _product(t, x, w_in, b_in), _product(t, h, w_rec, b_rec)))


_rnn_cell("rnn_tanh_cell", "Tanh")
_rnn_cell("rnn_relu_cell", "Relu")
