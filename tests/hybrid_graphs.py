"""Random hybrid networks: values and steps by turns, with residuals, concatenations and several crossings.

`random_hybrid` gives a graph as a frontend does, before any pass. What lies between an Encode and a Decode can run on a
chip (convolutions, linear layers, IF and LIF neurons, average pooling and sums of spikes at the end); the rest are ops
of the host. All ways lead to one output.
"""

from __future__ import annotations

import nir
import numpy as np
from picks import Picks
from value_graphs import Net

from hsnn_compiler.ir import Dynamics, Graph
from hsnn_compiler.ir.crossings import DECODE_KINDS, EVENT_KINDS, Decode, Encode
from hsnn_compiler.ir.ops import Add, Concat, LayerNorm, MaxPool2d, ReLU
from hsnn_compiler.ir.shapes import Shape

SHAPES: tuple[Shape, ...] = ((6,), (2, 4, 4), (3, 6, 4))
HIGHS = (0.83, 1.71, 3.07)
"""Ranges of Encodes and gains of Decodes: odd numbers, so that no decoded value lies half way between two levels."""


def random_hybrid(p: Picks, *, timed: bool = True, blocks: int | None = None) -> tuple[Graph, np.ndarray]:
    """A network and 3 or 4 samples for it.

    Args:
        p: the choices; ``Picks.seeded(seed)`` for one that a number names.
        timed: whether it has spiking blocks, at least two of them one after the other; else all are values.
        blocks: how many blocks of either kind, 3 to 6 by default.
    """
    net = Hybrid(p, p.choice(SHAPES), p.choice([4, 8]) if timed else None)
    count = p.integer(3, 6) if blocks is None else blocks
    spiking = {0, count - 1} if timed else set()
    for i in range(count):
        source = net.values[-1] if i in (0, count - 1) else p.choice([net.values[-1], *net.values])
        if i in spiking or (timed and p.flag()):
            net.spiking_block(f"s{i}", source)
        else:
            net.value_op(f"v{i}", source)
        if p.flag():
            net.join(f"j{i}")
    return net.end(), net.rng.normal(0.3, 1, (p.integer(3, 4), *net.shape("x"))).astype(np.float32)


class Hybrid(Net):
    """A network that grows block by block; `values` are the nodes that hold values, the newest last."""

    def __init__(self, p: Picks, shape: Shape, timesteps: int | None) -> None:
        super().__init__(shape, timesteps, seed=p.integer(0, 999))
        self.p = p
        self.values = ["x"]

    def value_op(self, name: str, source: str) -> None:
        """One or two ops of the host."""
        shape = self.shape(source)
        makers = ["relu", "layer norm", "weights"] + ["max pool"] * (len(shape) == 3 and min(shape[1:]) > 2)
        self.at = source
        for i, what in enumerate([self.p.choice(makers), self.p.choice(["nothing", "relu"])]):
            shape = self.shape(self.at)
            if what == "relu":
                self.add(f"{name}.{i}", ReLU())
            elif what == "max pool":
                self.add(f"{name}.{i}", MaxPool2d((2, 2), (2, 2)))
            elif what == "weights":
                self._weights(f"{name}.{i}")
            elif what == "layer norm":
                axes = shape[-self.p.integer(1, len(shape)) :]
                self.add(f"{name}.{i}", LayerNorm(self.rng.normal(1, 0.3, axes), self.rng.normal(0, 0.3, axes)))
        self.values.append(self.at)

    def join(self, name: str) -> None:
        """Add the newest value to another of its shape, or put the two side by side."""
        newest = self.values[-1]
        shapes = {value: self.shape(value) for value in self.values[:-1]}
        same = [value for value, shape in shapes.items() if shape == shapes.get(newest, self.shape(newest))]
        beside = [value for value, shape in shapes.items() if shape[1:] == self.shape(newest)[1:]]
        if same and self.p.flag():
            self.add(name, Add(), newest, self.p.choice(same))
        elif beside:
            self.add(name, Concat(0), self.p.choice(beside), newest)
        else:
            return
        self.values.append(name)

    def spiking_block(self, name: str, source: str) -> None:
        """Encode, up to three layers of neurons, one or two Decodes."""
        p, steps = self.p, self.graph.timesteps or 1
        kind = p.choice(["direct", *EVENT_KINDS])
        events = kind != "direct"
        high, period = p.choice(HIGHS), p.divisor(steps)
        self.add(f"{name}.encode", Encode(kind, high, p.flag(3), period) if events else Encode(), source)
        fired: list[str] = []
        for i in range(p.integer(1, 3)):
            if len(self.shape(self.at)) > 1 and p.flag(4):
                self.flatten(f"{name}.flatten{i}")
            self._weights(f"{name}.w{i}")
            self._neurons(f"{name}.n{i}")
            same = [other for other in fired if self.shape(other) == self.shape(self.at)]
            fired.append(self.at)
            if same and p.flag():
                self.add(f"{name}.sew{i}", Add(), self.at, p.choice(same))
        end = p.choice(["spikes", "spikes", "pooled", "currents"])
        if end == "currents":
            self._weights(f"{name}.out")
        elif end == "pooled" and len(self.shape(self.at)) == 3 and min(self.shape(self.at)[1:]) > 1:
            self.pool(f"{name}.pool", 2)
        self._decode(f"{name}.decode", self.at)
        if len(fired) > 1 and p.flag(3):
            self._decode(f"{name}.early", fired[0])

    def end(self) -> Graph:
        """Lead all values that nothing reads to one output."""
        leaves = [value for value in self.values if not self.graph.out_edges(value)]
        flat = []
        for i, leaf in enumerate(leaves):
            self.at = leaf
            flat.append(self.flatten(f"flat{i}").at if len(self.shape(leaf)) > 1 else leaf)
        if len(flat) > 1:
            self.add("all", Concat(0), *flat)
        else:
            self.at = flat[0]
        return self.linear("last", 4).done()

    def _weights(self, name: str) -> None:
        shape = self.shape(self.at)
        if len(shape) == 1:
            self.linear(name, self.p.choice([5, 6]), bias=self.p.flag())
        else:
            self.conv(name, self.p.choice([2, 3, 4]), self.p.choice([3, 1]), padding="same")

    def _neurons(self, name: str) -> None:
        p = self.p
        theta = np.full((1,) * len(self.shape(self.at)), p.choice([0.3, 0.6]))
        one = np.ones_like(theta)
        reset = p.choice(["subtract", "zero"])
        start = float(theta.flat[0]) / 2 if reset == "subtract" and p.flag() else 0.0
        if p.flag():
            op = nir.IF(r=one, v_threshold=theta, v_reset=0 * one)
        else:
            tau = p.choice([2.0, 5.0]) * one
            op = nir.LIF(tau=tau, r=tau, v_leak=0 * one, v_threshold=theta, v_reset=0 * one)
        self.add(name, op, dynamics=Dynamics(reset=reset, v_init=start))

    def _decode(self, name: str, source: str) -> None:
        kind = self.p.choice(DECODE_KINDS)
        period = self.p.divisor(self.graph.timesteps or 1)
        self.add(name, Decode(kind, self.p.choice((1.0, *HIGHS)), period), source)
        self.values.append(name)
