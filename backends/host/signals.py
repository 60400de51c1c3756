"""What flows along the edges of a graph, as values of an ONNX model."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from hsnn_compiler.backends.host.tracing import Trace


@dataclass
class Signal:
    """What a node puts out, in the forms in which it was made or asked for.

    Attributes:
        trace: takes the nodes that turn one form into another.
        shape: without batch and time.
        steps: number of time steps, None for what exists once per sample.
        forms: names of values: ``once`` [batch, ...], the same at every step; ``flat`` [batch * time, ...];
            ``stacked`` [batch, time, ...].
    """

    trace: Trace
    shape: tuple[int, ...]
    steps: int | None
    forms: dict[str, str] = field(default_factory=dict)

    @property
    def is_constant(self) -> bool:
        """Whether it is one value per sample, whatever the step."""
        return "once" in self.forms

    def once(self) -> str:
        """Name of the value per sample."""
        return self.forms["once"]

    def flat(self) -> str:
        """Name of the values of all steps, as if each were a sample."""
        if "flat" not in self.forms:
            self.forms["flat"] = self.trace.op("Reshape", self.stacked(), self.trace.ints(-1, *self.shape))
        return self.forms["flat"]

    def stacked(self) -> str:
        """Name of the values of all steps, or of the value per sample of what has no steps."""
        if self.steps is None:
            return self.once()
        if "stacked" not in self.forms:
            self.forms["stacked"] = self._repeated() if self.is_constant else self._unfolded()
        return self.forms["stacked"]

    def later(self, delay: int) -> Signal:
        """The same some steps later, zero before that."""
        if not delay:
            return self
        assert self.steps is not None
        pads = [0] * (2 * (len(self.shape) + 2))
        pads[1] = delay
        padded = self.trace.op("Pad", self.stacked(), self.trace.ints(*pads), torch.tensor(0.0), mode="constant")
        moved = self.trace.op("Slice", padded, self.trace.ints(0), self.trace.ints(self.steps), self.trace.ints(1))
        return Signal(self.trace, self.shape, self.steps, {"stacked": moved})

    def _unfolded(self) -> str:
        return self.trace.op("Reshape", self.forms["flat"], self.trace.ints(-1, self.steps or 1, *self.shape))

    def _repeated(self) -> str:
        row = self.trace.op("Unsqueeze", self.forms["once"], self.trace.ints(1))
        return self.trace.op("Expand", row, self.trace.ints(1, self.steps or 1, *([1] * len(self.shape))))
