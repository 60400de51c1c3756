"""What hybrid networks compute, written out in torch: one step after the other, with gradients.

Independent of the executors: of the compiler it takes the graph alone. Only for what `hybrid_graphs` makes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hsnn_compiler.ir import Graph


class Spike(torch.autograd.Function):
    """v > threshold, with the arctangent's slope 1 / (1 + (pi (v - threshold))^2)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(v - threshold)
        return (v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return upstream / (1 + (math.pi * ctx.saved_tensors[0]) ** 2), None


class Replay:
    """All signals of a graph, float64: values [batch, ...], per step a list of T tensors [batch, ...].

    Args:
        graph: from `hybrid_graphs`.
        x: samples.

    Attributes:
        signals: by node.
        potentials: of neurons, after each step.
        weights: leaves that collect gradients, by node.
    """

    def __init__(self, graph: Graph, x: np.ndarray) -> None:
        self.graph, self.steps = graph, graph.timesteps or 1
        self.signals: dict[str, Tensor | list[Tensor]] = {}
        self.potentials: dict[str, list[Tensor]] = {}
        self.weights = {n.name: torch.tensor(n.op.weight, requires_grad=True) for n in graph if n.is_synapse}
        for node in graph.topological():
            if node.kind == "Input":
                self.signals[node.name] = torch.tensor(x, dtype=torch.float64)
            else:
                self.signals[node.name] = self._node(node, [self.signals[e.src] for e in graph.in_edges(node.name)])

    def _node(self, node: Any, inputs: list[Any]) -> Any:
        if node.kind == "Encode":
            return self._encode(node.op, inputs[0])
        if node.kind == "Decode":
            return sum(w * s for w, s in zip(self._worth(node.op), inputs[0], strict=True)) * node.op.gain
        if node.kind in ("IF", "LIF"):
            return self._neurons(node, inputs[0])
        if isinstance(inputs[0], list):
            return [self._op(node, list(step)) for step in zip(*inputs, strict=True)]
        return self._op(node, inputs)

    def _op(self, node: Any, inputs: list[Tensor]) -> Tensor:
        op, x = node.op, inputs[0]
        if node.kind == "Output":
            return x
        if node.kind == "ReLU":
            return F.relu(x)
        if node.kind == "Add":
            return sum(inputs[1:], start=x)
        if node.kind == "Concat":
            return torch.cat(inputs, 1)
        if node.kind == "Flatten":
            return x.flatten(1)
        if node.kind == "MaxPool2d":
            return F.max_pool2d(x, 2)
        if node.kind == "AvgPool2d":
            return F.avg_pool2d(x, 2)
        if node.kind == "LayerNorm":
            axes = tuple(range(-op.weight.ndim, 0))
            centred = x - x.mean(axes, keepdim=True)
            scale = (centred.square().mean(axes, keepdim=True) + op.eps).rsqrt()
            return centred * scale * torch.tensor(op.weight) + torch.tensor(op.bias)
        weight = self.weights[node.name]
        if node.kind == "Linear":
            return x @ weight.T
        if node.kind == "Affine":
            return x @ weight.T + torch.tensor(op.bias)
        assert node.kind == "Conv2d", node.kind
        return F.conv2d(x, weight, torch.tensor(op.bias), padding="same")

    def _neurons(self, node: Any, currents: list[Tensor]) -> list[Tensor]:
        theta = float(node.op.v_threshold.flat[0])
        decay = 1 - 1 / float(node.op.tau.flat[0]) if node.kind == "LIF" else 1.0
        v = torch.full_like(currents[0], node.dynamics.v_init)
        spikes, self.potentials[node.name] = [], []
        for current in currents:
            v = decay * v + current
            s = Spike.apply(v, theta)
            v = v - s * theta if node.dynamics.reset == "subtract" else v * (1 - s)
            spikes.append(s)
            self.potentials[node.name].append(v)
        return spikes

    def _encode(self, op: Any, x: Tensor) -> list[Tensor]:
        if op.kind == "direct":
            return [x] * self.steps
        u = x / op.high
        u = (torch.cat([u, -u], 1) if op.doubled else u).clamp(0, 1)
        top = {"bitplane": 2**self.steps - 1, "phase": 2**op.period - 1}.get(op.kind, self.steps)
        worth = sum(self._worth(op))
        return [self._fires(op, torch.round(u.detach() * top), t) + (u - u.detach()) / worth for t in range(self.steps)]

    def _fires(self, op: Any, n: Tensor, t: int) -> Tensor:
        steps = self.steps
        if op.kind in ("bitplane", "phase"):
            bits = steps if op.kind == "bitplane" else op.period
            return torch.floor(n / 2 ** (bits - 1 - t % bits)) % 2
        if op.kind == "rate":
            fires = torch.floor((t + 1) * n / steps) > torch.floor(t * n / steps)
        elif op.kind == "ttfs":
            fires = (n > 0) & (n == steps - t)
        else:
            fires = n > t
        return fires.to(n.dtype)

    def _worth(self, op: Any) -> list[float]:
        """What a spike is worth at each step."""
        steps, k = self.steps, op.period
        return [
            {
                "mean": 1 / steps,
                "rate": 1 / steps,
                "delta": 1 / steps,
                "sum": 1.0,
                "last": float(t == steps - 1),
                "ttfs": (steps - t) / steps,
                "bitplane": 2.0 ** (steps - 1 - t) / (2**steps - 1),
                "phase": 2.0 ** -(1 + t % k) * (k / steps) * 2**k / (2**k - 1),
            }[op.kind]
            for t in range(steps)
        ]
