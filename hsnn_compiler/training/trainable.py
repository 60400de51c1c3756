"""A graph as something that is trained: parameters that collect gradients, and the graph that comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.quant import WeightQuant
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.training.parameters import RANGES, chosen, key_of, on_chip, start_of, write

Rounding = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""From the weights of all synapses, by node, to those that the chip will hold."""


class Trainable:
    """The float executor on trained parameters: one definition of the model, in the graph's own meaning.

    Args:
        graph: any legal graph, typed; after quantisation, only weights are trained.
        train: names of what is trained, see `hsnn_compiler.training.parameters.NAMES`.
        nodes: only of these nodes; None for all that reach an output.
        surrogate: see `hsnn_compiler.nn.surrogate`; distances to threshold are counted in thresholds.
        rounding: what the chip will make of the weights. The network then runs on rounded weights, and gradients go
            straight through the rounding.
        device: ``"cpu"`` or ``"cuda"``.

    Attributes:
        parameters: by ``node:name``, the leaf tensors to train (`hsnn_compiler.training.parameters.RANGES` says what
            the network makes of them).

    Raises:
        HsnnError: E0212, E0550.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        train: Iterable[str] = ("weight", "bias"),
        nodes: Iterable[str] | None = None,
        surrogate: str = "atan",
        rounding: Rounding | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source = graph
        self.rounding = rounding
        self.device = torch.device(device)
        self.executor = FloatExecutor(graph, method="auto", surrogate=surrogate, relative=True, device=device)
        self.trained = chosen(graph, train, nodes)
        for tensor in self.executor.parameters.values():
            tensor.requires_grad_(False)
        self.start = {key: self.executor.parameters[key].clone() for key in self.trained}
        self.parameters: dict[str, Tensor] = {}
        for node, name in self.trained:
            first = RANGES[name].first(self.start[node, name])
            self.parameters[key_of(node, name)] = first.requires_grad_()
        self.by_node: dict[str, list[str]] = {}
        for node, name in self.trained:
            self.by_node.setdefault(node, []).append(name)
        for name in {node for node, _ in self.executor.parameters}:  # what is frozen takes no part in gradients
            self.executor.rebind(name, {})

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs [batch, ...] by name, with gradients; what has steps at its output is averaged over them.

        Args:
            x: [batch, ...] ([batch, time, ...] where the input has time), or one such tensor per input node.
        """
        return self.features(x, ())[0]

    def features(
        self, x: Tensor | Mapping[str, Tensor], nodes: Iterable[str]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outputs, and what some nodes put out, [batch, ...] averaged over the steps, by name."""
        self.bind()
        inputs = x if isinstance(x, Mapping) else {self.executor.graph.of_kind("Input")[0].name: x}
        outputs, signals = self.executor.signals(inputs, nodes)
        return self._means(outputs), self._means(signals)

    def __call__(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The first output, [batch, ...]."""
        return next(iter(self.forward(x).values()))

    def effective(self) -> dict[tuple[str, str], Tensor]:
        """The parameters in the units of the graph, not rounded, by (node, name); gradients flow to `parameters`."""
        return {
            (node, name): RANGES[name].move(self.start[node, name], self.parameters[key_of(node, name)])
            for node, name in self.trained
        }

    def bind(self) -> None:
        """Let the executor compute with the parameters as they are now."""
        made = self.effective()
        for node, near in self._rounded(made).items():
            tensor = made[node, "weight"]
            # Straight through: the value of the rounded weights, the gradient of the others.
            made[node, "weight"] = torch.from_numpy(near).to(tensor) + (tensor - tensor.detach())
        for node, names in self.by_node.items():
            self.executor.rebind(node, {name: made[node, name] for name in names})

    def values(self) -> dict[str, np.ndarray]:
        """Parameters that have changed, by ``node:name``, as `write` takes them; weights not rounded."""
        found = {}
        with torch.no_grad():
            for (node, name), tensor in self.effective().items():
                if not torch.equal(tensor, self.start[node, name]):
                    shape = start_of(self.source[node], name).shape
                    found[key_of(node, name)] = tensor.cpu().numpy().reshape(shape).copy()
        return found

    def graph(self) -> Graph:
        """The graph with the parameters as they are now; what has not changed is as it was, bit for bit."""
        return write(self.source, self.values())

    def _rounded(self, made: Mapping[tuple[str, str], Tensor]) -> dict[str, np.ndarray]:
        """What the chip makes of trained weights, where it is known: by node."""
        trained = {
            node: tensor.detach().cpu().numpy().astype(np.float64)
            for (node, name), tensor in made.items()
            if name == "weight" and (self.rounding or self.source[node].quant) and self.source[node].is_synapse
        }
        quants = {node: self.source[node].quant for node in trained}
        if self.rounding is None:
            return {n: on_chip(q, trained[n]) for n, q in quants.items() if isinstance(q, WeightQuant)}
        every = {node.name: np.asarray(node.op.weight, np.float64) for node in self.source if node.is_synapse}
        rounded = self.rounding({**every, **trained})
        return {node: rounded[node] for node in trained if node in rounded}

    def _means(self, signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: s.mean(1) if has_time(self.source[n]) else s for n, s in signals.items()}
