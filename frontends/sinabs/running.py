"""What sinabs' modules need while they run: memory that is empty, the size of the batch, no counting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sinabs.layers as sl
import torch
from sinabs.network import Network

from hsnn_compiler.frontends.torch.stateful import prepares, resets

Tensor = torch.Tensor


@resets(sl.StatefulLayer)
def _forget(mod: Any) -> None:
    for name, buffer in mod._buffers.items():
        if isinstance(buffer, Tensor):
            mod._buffers[name] = torch.zeros_like(buffer)


class _SameType:
    """A function that makes spikes, which are then numbers of the potential's type: sinabs makes them float32."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.required_states = made.required_states

    def apply(self, v_mem: Tensor, *args: Any) -> Tensor:
        spikes: Tensor = self.made.apply(v_mem, *args)
        return spikes.to(v_mem.dtype)


@prepares(sl.StatefulLayer)
@contextmanager
def _running(mod: Any, batch: int) -> Iterator[None]:
    """A squeezed layer is told the size of the batch; a layer that computes in float64 stays in it."""
    before = {name: vars(mod)[name] for name in ("spike_fn", "batch_size", "num_timesteps") if name in vars(mod)}
    if before.get("spike_fn") is not None:
        mod.spike_fn = _SameType(mod.spike_fn)
    if isinstance(mod, sl.SqueezeMixin):
        mod.batch_size, mod.num_timesteps = batch, 1 if mod.num_timesteps == 1 else -1
    try:
        yield
    finally:
        vars(mod).update(before)


@prepares(sl.UnflattenTime)
@contextmanager
def _unflattening(mod: Any, batch: int) -> Iterator[None]:
    before, mod.batch_size = mod.batch_size, batch
    try:
        yield
    finally:
        mod.batch_size = before


@prepares(Network)
@contextmanager
def _uncounted(mod: Any, batch: int) -> Iterator[None]:
    """Without the hooks that count synaptic operations (``synops=True``): they know the batch size, and add up."""
    before = [(part, part._forward_hooks) for part in mod.modules()]
    for part, hooks in before:
        part._forward_hooks = type(hooks)(
            (key, hook) for key, hook in hooks.items() if getattr(hook, "__module__", "") != "sinabs.synopcounter"
        )
    try:
        yield
    finally:
        for part, hooks in before:
            part._forward_hooks = hooks
