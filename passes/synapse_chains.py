"""Two layers of weights without neurons between, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import torch

from hsnn_compiler.ir.dynamics import discretize
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.ops import bias_of
from hsnn_compiler.ir.shapes import Shape, conv_padding, shape_rule
from hsnn_compiler.passes.batchnorm import with_weights
from hsnn_compiler.reference.torch_ops import bind

ENDS = ("IF", "LIF", "I", "LI", "Collect")
"""What may get a constant of its own for every neuron; where there is a synaptic current, it would grow first."""
LARGEST_MATRIX = 2**26
"""Elements; and as many of what a matrix is made from at a time."""


def merge_chains(graph: Graph) -> tuple[Graph, int]:
    """Merge layers of weights on the chip that only feed another one; returns the graph and how many.

    W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), for matrices and convolutions alike; where the second
    convolution pads, only if its zeros are also what the first would make of zeros. A bias of the first, which
    the zeros are without, goes on to the neurons then, as a constant of each.
    """
    graph = _past_padding(infer_types(graph))
    merged = 0
    while (chain := _mergeable(graph)) is not None:
        nodes, op = chain
        graph = _merged(graph, nodes, op)
        merged += 1
    return graph, merged


def _past_padding(graph: Graph) -> Graph:
    """Move biases in front of a padded convolution to the neurons behind it, each its own share."""
    for node in graph:
        behind = graph.successors(node.name)
        if not (node.kind.startswith("Conv") and node.on_chip and len(behind) == 1 and np.any(bias_of(node.op))):
            continue
        (second,) = behind
        ends = graph.successors(second.name)
        padded = second.kind == node.kind and any(side for sides in conv_padding(second.op) for side in sides)
        if not (padded and ends and all(end.kind in ENDS for end in ends)):
            continue
        bias = np.asarray(bias_of(node.op), np.float64).reshape(-1, *[1] * (len(node.shape) - 1))
        share = _without_bias(second.op, np.broadcast_to(bias, node.shape))
        graph.update(node.name, op=_bare(node.op))
        for end in ends:
            _add_constant(graph, end, share)
    return graph


def _without_bias(op: Any, constant: np.ndarray) -> np.ndarray:
    """What a convolution without its bias makes of one input, float64."""
    function = bind(_bare(op), torch.float64, lambda _, array: torch.from_numpy(np.asarray(array, np.float64)))
    out: np.ndarray = function(torch.from_numpy(constant.copy())[None])[0].numpy()
    return out


def _bare(op: Any) -> Any:
    """A convolution with zeros for its bias."""
    return with_weights(op, op.weight, np.zeros(len(op.weight)))


def _add_constant(graph: Graph, end: Node, share: np.ndarray) -> None:
    """Let neurons, or what collects for them, get a constant in every step."""
    if end.kind == "Collect":
        graph.update(end.name, op=replace(end.op, bias=end.op.bias + share))
        return
    assert end.dynamics is not None
    step = discretize(end.op, end.dynamics)
    graph.update(end.name, dynamics=replace(end.dynamics, leak=step.leak + step.gain * share))


def _mergeable(graph: Graph) -> tuple[list[Node], Any] | None:
    """Weights, perhaps a Flatten, and weights; and the op that does what they do."""
    for node in graph:
        if not (node.is_synapse and node.on_chip and len(graph.in_edges(node.name)) == 1):
            continue
        chain = [node]
        while len(out := graph.out_edges(chain[-1].name)) == 1 and not out[0].delay:
            chain.append(graph[out[0].dst])
            if chain[-1].kind != "Flatten":
                break
        last = chain[-1]
        if len(chain) > 1 and last.is_synapse and all(len(graph.in_edges(n.name)) == 1 for n in chain[1:]):
            op = _product(chain, graph.predecessors(node.name)[0].shape)
            if op is not None:
                return chain, op
    return None


def _merged(graph: Graph, chain: Sequence[Node], op: Any) -> Graph:
    graph = graph.copy()
    first, *between, last = chain
    shape = graph.predecessors(first.name)[0].shape
    graph.update(last.name, op=op)
    graph.bypass(first.name)
    for flatten in between[1:] if isinstance(op, nir.Affine) and len(shape) > 1 else between:
        graph.bypass(flatten.name)
    if isinstance(op, nir.Affine) and len(shape) > 1:
        graph.update(between[0].name, op=nir.Flatten({"input": np.array(shape)}, 0, -1))
    return infer_types(graph)


def _product(chain: Sequence[Node], shape: Shape) -> Any:
    """One op for the chain, or None where there is none."""
    first, last = chain[0].op, chain[-1].op
    if isinstance(last, (nir.Affine, nir.Linear)):
        return _matrix([node.op for node in chain], shape) if len(chain[-1].shape) == 1 else None
    if len(chain) == 2 and isinstance(first, type(last)):
        merged = _convolutions(first, last, shape)
        return merged if merged is not None and shape_rule(merged, [shape]) == chain[-1].shape else None
    return None


def _matrix(ops: Sequence[Any], shape: Shape) -> nir.Affine | None:
    """The matrix of a map that ends with one: its rows, led back through what comes before; and its value at zero."""
    weight = torch.from_numpy(np.asarray(ops[-1].weight, np.float64))
    if len(weight) * int(np.prod(shape)) > LARGEST_MATRIX:
        return None
    functions = [bind(op, torch.float64) for op in ops]

    def before(x: torch.Tensor) -> torch.Tensor:
        for function in functions[:-1]:
            x = function(x)
        return x

    with torch.enable_grad():
        x = torch.zeros((1, *shape), dtype=torch.float64, requires_grad=True)
        at_zero = before(x)
        parts = weight.unsqueeze(1).split(max(1, LARGEST_MATRIX // weight.shape[1]))
        rows = [torch.autograd.grad(at_zero, x, part, retain_graph=True, is_grads_batched=True)[0] for part in parts]
    bias = functions[-1](at_zero.detach())[0]
    return nir.Affine(torch.cat(rows).flatten(1).numpy(), bias.numpy())


def _convolutions(first: Any, second: Any, shape: Shape) -> Any:
    """Kernel taps at ``a d1 + b d2 s1`` for taps a, b of the two; strides multiply."""
    sides, ours = conv_padding(second), conv_padding(first)
    if any(before != after for before, after in (*sides, *ours)):
        return None
    rank = len(sides)
    stride, dilation, step = (_sizes(value, rank) for value in (first.stride, first.dilation, second.dilation))
    one, two = dense_weights(first), dense_weights(second)
    spread = [s * d for s, d in zip(stride, step, strict=True)]
    padded = any(side for side, _ in sides)
    tiles = list(one.shape[2:]) == stride and not any(side for side, _ in ours)
    whole = all(n % k == 0 for n, k in zip(shape[1:], one.shape[2:], strict=True))
    if padded and (np.any(bias_of(first)) or not (tiles and whole)):
        return None  # zeros around the second would be something else in terms of the first's input
    size = [
        (b - 1) * wide + (a - 1) * d + 1
        for a, b, d, wide in zip(one.shape[2:], two.shape[2:], dilation, spread, strict=True)
    ]
    kernel = np.zeros((len(two), one.shape[1], *size))
    for b in np.ndindex(*two.shape[2:]):
        for a in np.ndindex(*one.shape[2:]):
            at = tuple(i * d + j * wide for i, d, j, wide in zip(a, dilation, b, spread, strict=True))
            kernel[(slice(None), slice(None), *at)] += two[(..., *b)] @ one[(..., *a)]
    bias = np.asarray(bias_of(second), np.float64) + two.sum(tuple(range(2, two.ndim))) @ np.asarray(bias_of(first))
    strides = tuple(s * t for s, t in zip(stride, _sizes(second.stride, rank), strict=True))
    padding = tuple(o[0] + s * t[0] for o, s, t in zip(ours, stride, sides, strict=True))
    if rank == 1:
        return nir.Conv1d(first.input_shape, kernel, strides[0], padding[0], 1, 1, bias)
    return nir.Conv2d(first.input_shape, kernel, strides, padding, (1, 1), 1, bias)


def dense_weights(op: Any) -> np.ndarray:
    """Weights [out, in, ...] of a convolution as if it had one group."""
    weight, groups = np.asarray(op.weight, np.float64), int(op.groups)
    out, per_group = weight.shape[:2]
    whole = np.zeros((out, per_group * groups, *weight.shape[2:]))
    for group in range(groups):
        outs = slice(group * out // groups, (group + 1) * out // groups)
        whole[outs, group * per_group : (group + 1) * per_group] = weight[outs]
    return whole


def _sizes(value: Any, rank: int) -> list[int]:
    numbers: list[int] = np.broadcast_to(np.atleast_1d(np.asarray(value)), (rank,)).astype(int).tolist()
    return numbers
