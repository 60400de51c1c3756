"""The source itself: PyTorch, in double precision where the model allows it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.batches import has_time

if TYPE_CHECKING:
    import torch


class Source:
    """Runs a PyTorch model on batches, each from fresh neuron states.

    Args:
        module: the model; a copy is run, it stays as it was.
        graph: what was captured from it.
        axes: see `hsnn_compiler.driver.compile`.

    Attributes:
        precision: ``float64``, or ``float32`` where the model does not run in double precision.
        by_step: whether the model computes one step per call.
    """

    def __init__(self, module: torch.nn.Module, graph: Graph, axes: str = "B") -> None:
        self.graph, self.axes = graph, axes
        self.given = module
        self.module = copy.deepcopy(module).eval().double()
        self.precision = "float64"
        self.by_step = False

    def run(self, x: np.ndarray) -> np.ndarray | None:
        """The first output [samples, ...], with time second where it has time; None if it has not the graph's shape.

        A model that computes one step per call is called once per step, as capture does.
        """
        import torch

        with torch.no_grad():
            try:
                out = self._call(x)
            except (RuntimeError, TypeError):  # tensors made in float32 inside the model
                if self.precision == "float32":
                    raise
                self.module, self.precision = copy.deepcopy(self.given).eval(), "float32"
                out = self._call(x)
            found = self._as_captured(out, len(x))
            if found is None and not self.by_step:
                self.by_step = True
                found = self._as_captured(self._call(x), len(x))
        return found

    def _call(self, x: np.ndarray) -> torch.Tensor:
        import torch

        from hsnn_compiler.frontends.torch.axes import SAMPLES, Axes
        from hsnn_compiler.frontends.torch.dialects import load_dialects
        from hsnn_compiler.frontends.torch.samples import StepByStep
        from hsnn_compiler.frontends.torch.stateful import forget

        load_dialects()
        forget(self.module)
        data = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1) if self.axes == "TB" else x))
        steps = (self.graph.timesteps or 1) if self.axes == "B" else x.shape[1]
        axes = SAMPLES if self.axes == "B" else Axes(self.axes, steps)
        subject = StepByStep(self.module, axes, steps) if self.by_step else self.module
        result = subject(data.double() if self.precision == "float64" else data.float())
        while isinstance(result, (tuple, list, dict)):
            result = next(iter(result.values() if isinstance(result, dict) else result))
        forget(self.module)
        assert isinstance(result, torch.Tensor)
        return result

    def _as_captured(self, out: torch.Tensor, samples: int) -> np.ndarray | None:
        end = self.graph.of_kind("Output")[0]
        array = out.double().numpy()
        timed = has_time(end)
        if timed and (self.by_step or self.axes != "BT") and array.ndim == len(end.shape) + 2:
            array = array.swapaxes(0, 1)  # PyTorch's convention: time first
        fits = array.shape[:1] == (samples,) and array.shape[1 + timed :] == end.shape
        return array if fits else None
