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
    """

    def __init__(self, encoder: nn.Module, body: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.body = body
        self.decoder = decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x [B, ...]`` to the decoded output ``[B, ...]``.

        The potentials of the last step stay readable (``neuron.v``) until the next call.
        """
        reset_states(self.body)
        return self.decoder(torch.stack([self.body(step) for step in self.encoder(x)]))
