"""Memory of rate-based backpropagation does not grow with the number of steps; that of time does."""

from __future__ import annotations

import nir
import numpy as np
import torch

from hsnn_compiler.ir import Dynamics, Graph, Node, TensorType
from hsnn_compiler.ir.crossings import Decode, Encode
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.training.rate import RateTrainable
from hsnn_compiler.training.trainable import Trainable


class Saved:
    """A tensor kept for a backward pass; `bytes_now` and `most` count all of them, each memory once."""

    now: dict[int, int]
    most = 0
    bytes_now = 0

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.place = tensor.untyped_storage().data_ptr()
        Saved.now[self.place] = Saved.now.get(self.place, 0) + 1
        if Saved.now[self.place] == 1:
            Saved.bytes_now += tensor.untyped_storage().nbytes()
            Saved.most = max(Saved.most, Saved.bytes_now)

    def __del__(self) -> None:
        Saved.now[self.place] -= 1
        if not Saved.now[self.place]:
            Saved.bytes_now -= self.tensor.untyped_storage().nbytes()


def network(steps: int) -> Graph:
    rng, one = np.random.default_rng(0), np.ones((1, 1, 1))
    graph = Graph(timesteps=steps)
    graph.add(Node("x", nir.Input(np.array([2, 8, 8])), TensorType((2, 8, 8))))
    graph.add(Node("encode", Encode("rate")), "x")
    source, channels = "encode", 2
    for i in range(3):
        weight = rng.normal(0, 0.4, (8, channels, 3, 3))
        graph.add(Node(f"c{i}", nir.Conv2d(None, weight, 1, 1, 1, 1, np.full(8, 0.2))), source)
        op = nir.LIF(3 * one, 2 * one, 0 * one, one, 0 * one)
        graph.add(Node(f"n{i}", op, dynamics=Dynamics(reset="subtract")), f"c{i}")
        source, channels = f"n{i}", 8
    graph.add(Node("flat", nir.Flatten({"input": None}, 0, -1)), source)
    graph.add(Node("fc", nir.Affine(rng.normal(0, 0.1, (5, 512)), np.zeros(5))), "flat")
    graph.add(Node("decode", Decode("mean")), "fc")
    graph.add(Node("y", nir.Output(np.array([5]))), "decode")
    return infer_types(graph)


def most_saved(kind: type[Trainable], steps: int) -> int:
    """Most bytes kept at the same time for backward passes, of one batch."""
    model = kind(network(steps))
    x = torch.from_numpy(np.random.default_rng(1).uniform(0, 1, (4, 2, 8, 8)).astype(np.float32))
    Saved.now, Saved.most, Saved.bytes_now = {}, 0, 0
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        loss = (model(x) ** 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters.values())
    return Saved.most


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_steps() -> None:
    rate = [most_saved(RateTrainable, steps) for steps in (2, 8, 32)]
    time = [most_saved(Trainable, steps) for steps in (2, 8, 32)]
    assert rate[0] > 50_000
    assert max(rate) <= 1.1 * min(rate)
    assert time[1] > 3 * time[0]
    assert time[2] > 3 * time[1]
    assert rate[0] < time[0]
