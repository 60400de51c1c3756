"""The example that a model is run on: a batch of a tell-tale size, with or without time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.frontends.torch.axes import ORDERS, Axes

Subject = Callable[..., Any]
"""What is run: the model, or the model once per step."""

STEPS_TO_SEE = 3
"""Of a model that computes one step per call: as many as show that the steps are alike, and where they start."""
_BATCHES = (5, 7, 11, 13, 17, 19, 23, 29)


def flat(result: Any) -> list[Any]:
    """The results of a model, one after the other, also of nested tuples."""
    if isinstance(result, (tuple, list)):
        return [part for item in result if item is not None for part in flat(item)]
    return [result]


class Samples:
    """Inputs for one run of a model.

    Args:
        example: one input tensor or several, `order` in front.
        order: ``"B"``, ``"TB"`` or ``"BT"``; in parentheses: the model gets both axes merged into one.

    Attributes:
        tensors: by argument of the model, the axes not merged; the batch size is a prime that occurs nowhere else in
            their shapes.
        axes: leading axes of what the model gets.
        steps: length of the example's time axis, 0 if there is none.
        batch: the batch size.
    """

    def __init__(self, example: Tensor | Sequence[Tensor], order: str) -> None:
        if order not in ORDERS:
            raise refuse("E0408", f"axes {order!r}", supported=", ".join(ORDERS))
        self.axes, order = Axes(order), order.strip("()")
        tensors = [example] if isinstance(example, Tensor) else list(example)
        leading = len(order)
        if not tensors or not all(isinstance(t, Tensor) and t.dim() >= leading and t.numel() for t in tensors):
            raise refuse(
                "E0408",
                "the example is not a batch of inputs",
                supported=f"a tensor, or a list of them, of shape [{', '.join(_NAMES[axis] for axis in order)}, ...]",
                suggestion="x[:1] of your data set",
            )
        at = order.index("B")
        if len({item.shape[at] for item in tensors}) > 1 or len({item.shape[:leading] for item in tensors}) > 1:
            raise refuse(
                "E0408",
                f"inputs whose first axes differ: {', '.join(str(list(item.shape[:leading])) for item in tensors)}",
                supported="inputs that share batch and time",
            )
        taken = {size for item in tensors for size in item.shape}
        if order != "B":
            self.axes = self.axes._replace(steps=tensors[0].shape[1 - at])
        self.steps = self.axes.steps
        self.batch = next((size for size in _BATCHES if size not in taken), 31)
        rows = torch.arange(self.batch) % tensors[0].shape[at]
        self.tensors = [_noisy(item.detach().cpu().index_select(at, rows)) for item in tensors]

    def first_steps(self, count: int) -> Samples:
        """The same with a shorter time axis, if there is one."""
        if self.axes.time is not None:
            if self.axes.steps < count:
                raise refuse("E0408", f"an example of {self.axes.steps} steps", supported=f"{count} steps or more")
            self.axes = self.axes._replace(steps=count)
            self.tensors = [item.narrow(self.axes.time or 0, 0, count) for item in self.tensors]
        return self

    def few(self, count: int) -> list[Tensor]:
        """Copies of the first samples of the batch."""
        at = self.axes.order.strip("()").index("B")
        return [self._given(item.narrow(at, 0, count).clone()) for item in self.tensors]

    def all(self) -> list[Tensor]:
        """Copies of all samples."""
        return [self._given(item.clone()) for item in self.tensors]

    def _given(self, item: Tensor) -> Tensor:
        return item.flatten(0, 1) if self.axes.order.startswith("(") else item


class StepByStep:
    """A model that computes one step per call, called once per step.

    Where its forward has an argument `state`, as Norse's models have it, it returns (result, state), and gets
    the state back at the next step.

    Args:
        model: the model.
        axes: of its inputs: without time, every step gets the same.
        steps: how many.
    """

    def __init__(self, model: torch.nn.Module, axes: Axes, steps: int) -> None:
        self.model, self.axes, self.steps = model, axes, steps

    def __call__(self, *inputs: Tensor) -> Any:
        """All results, stacked over the steps in the first axis."""
        results = []
        threads = "state" in inspect.signature(type(self.model).forward).parameters
        state: dict[str, Any] = {}
        for number in range(self.steps):
            result = self.model(*(self._step(item, number) for item in inputs), **state)
            if threads and isinstance(result, tuple) and len(result) == 2:
                result, state["state"] = result
            results.append(flat(result))
        stacked = [torch.stack(parts) for parts in zip(*results, strict=True)]
        return stacked[0] if len(stacked) == 1 else tuple(stacked)

    def _step(self, item: Tensor, number: int) -> Tensor:
        return item if self.axes.time is None else item[number] if self.axes.time == 0 else item[:, number]


_NAMES = {"B": "batch", "T": "time"}


def _noisy(rows: Tensor) -> Tensor:
    """Make all samples different, so that whatever is computed from them differs too."""
    if not rows.is_floating_point():
        return rows
    noise = torch.rand(rows.shape, generator=torch.Generator().manual_seed(0))
    return rows + (0.05 * noise).to(rows.dtype)
