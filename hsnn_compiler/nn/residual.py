"""Residual connections of spiking networks: spike-element-wise (SEW) functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hsnn_compiler.nn.loop import over_steps

FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": lambda a, s: a + s,
    "and": lambda a, s: a * s,
    "iand": lambda a, s: (1 - a) * s,
}
"""g(a, s) by the name that ``SEWAdd(mode)`` takes."""


class SEWAdd(nn.Module):
    """Put the spikes of a residual branch and of its shortcut together, element by element.

        add     a + s          0, 1 or 2 (more behind other adds): graded
        and     a s            a spike where both are
        iand    (1 - a) s      a spike of the shortcut, unless the branch fires

    with a of the branch, s of the shortcut. Source: Fang et al., "Deep Residual Learning in Spiking Neural Networks",
    NeurIPS 2021, arXiv 2102.04159.

    Args:
        mode: ``"add"``, ``"and"`` or ``"iand"``.
    """

    def __init__(self, mode: str = "add") -> None:
        super().__init__()
        if mode not in FUNCTIONS:
            raise ValueError(f"mode must be one of {sorted(FUNCTIONS)}, not {mode!r}")
        self.mode = mode

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """Two tensors of one shape to one of the same."""
        if branch.shape != shortcut.shape:
            raise ValueError(f"branch {tuple(branch.shape)} and shortcut {tuple(shortcut.shape)} differ in shape")
        return FUNCTIONS[self.mode](branch, shortcut)

    def extra_repr(self) -> str:
        """Show the function in ``print(model)``."""
        return f"mode={self.mode!r}"


class Residual(nn.Module):
    """A branch and a shortcut, both fed by x: y = join(branch(x), shortcut(x)), in one step or over all of them.

    Args:
        branch: what is learnt besides the shortcut.
        shortcut: ``nn.Identity``, or what brings x to the shape of the branch.
        join: a `SEWAdd`; by default their sum, which is also what values need.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, join: SEWAdd | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.join = SEWAdd() if join is None else join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]``, values or one step."""
        joined: torch.Tensor = self.join(self.branch(x), self.shortcut(x))
        return joined

    def over_steps(self, steps: torch.Tensor) -> torch.Tensor:
        """``[T, B, ...]``, see `hsnn_compiler.nn.loop.over_steps`."""
        joined: torch.Tensor = self.join(over_steps(self.branch, steps), over_steps(self.shortcut, steps))
        return joined
