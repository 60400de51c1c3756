"""The loop over time, written once, so that the compiler can see it."""

from __future__ import annotations

import torch
from torch import nn


def reset_states(module: nn.Module) -> None:
    """Call ``reset_state()`` on every part of ``module`` that has one, itself included."""
    for part in module.modules():
        reset = getattr(part, "reset_state", None)
        if callable(reset):
            reset()


def over_steps(module: nn.Module, steps: torch.Tensor) -> torch.Tensor:
    """Run one module over all steps ``[T, B, ...]``, then the next, instead of all modules over one step.

    A module with ``over_steps(steps)`` does it itself; a ``nn.Sequential`` hands on to its parts. One that holds no
    state (nothing with ``reset_state()``) sees all steps as one batch ``[T B, ...]``: the same numbers up to the
    rounding of float sums, and batch norm in training takes its statistics over all of them. Others run step by step.
    """
    own = getattr(module, "over_steps", None)
    if callable(own):
        result: torch.Tensor = own(steps)
        return result
    if type(module) is nn.Sequential:
        for part in module:
            steps = over_steps(part, steps)
        return steps
    if any(callable(getattr(part, "reset_state", None)) for part in module.modules()):
        return torch.stack([module(step) for step in steps])
    folded: torch.Tensor = module(steps.flatten(0, 1))
    return folded.unflatten(0, steps.shape[:2])


class TimeLoop(nn.Module):
    """Run a single-step network over time.

        reset every neuron of the body
        steps = encoder(x)                       [T, B, ...]
        out[t] = body(steps[t]),  t = 0 .. T-1   in this order, state carried along
        y = decoder(out)                         [T, B, ...] -> [B, ...]

    Args:
        encoder: values to steps, such as `Direct`.
        body: ordinary torch code for one step, such as ``nn.Sequential``; what it holds
            of `LIF` and `IF` (or anything with ``reset_state()``) is its state.
        decoder: steps to values, such as `Rate`.
        layerwise: compute the same layer by layer, each over all steps (`over_steps`): faster, and batch norm
            learns from all steps at once. No other module of the body may keep state.
    """

    layerwise = False  # of modules saved before there was a choice

    def __init__(self, encoder: nn.Module, body: nn.Module, decoder: nn.Module, *, layerwise: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.body = body
        self.decoder = decoder
        self.layerwise = bool(layerwise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to the decoded output ``[B, ...]``.

        The potentials of the last step stay readable (``neuron.v``) until the next call.
        """
        reset_states(self.body)
        steps = self.encoder(x)
        if self.layerwise:
            return self.decoder(over_steps(self.body, steps))
        return self.decoder(torch.stack([self.body(step) for step in steps]))
