"""One population in the spike pass: the executor's own step, and the derivatives of what it puts out.

A step is a function of the input i, the state z and the coefficients p of each neuron alone. One step at a time is
differentiated in reverse, and derivatives over all steps so far follow by the chain rule,

    ds_t/dc = ds/di + ds/dz dz_t/dc,    dz_(t+1)/dc = dz/di + dz/dz dz_t/dc

and likewise for every p: nothing of a step is kept for longer than the next.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hsnn_compiler.reference.float_neuron import FloatNeuron

INPUT = ""
"""In the place of a coefficient's name: the input of the population."""

Slopes = dict[str, Tensor]

AT_ONCE = 2**17
"""Neurons that are differentiated at a time, of some samples: what that needs stays small, and in the cache."""


class Population:
    """A population in all samples of a batch.

    Args:
        neuron: the executor's.
        trained: names of coefficients.
        detached: whether a reset carries no gradient.
        slopes: whether derivatives are wanted.
    """

    def __init__(self, neuron: FloatNeuron, trained: tuple[str, ...], detached: bool, slopes: bool) -> None:
        self._new = lambda: _Part(neuron, trained, detached, slopes)
        self._parts: list[_Part] = []

    def step(self, i: Tensor, is_last: bool) -> tuple[Tensor, Slopes]:
        """One step on input `i` [batch, ...]: what the population puts out, and its derivatives by direction.

        Args:
            i: input.
            is_last: whether no step follows.
        """
        pieces = i.split(max(AT_ONCE // max(i[:1].numel(), 1), 1))
        if not self._parts:
            self._parts = [self._new() for _ in pieces]
        done = [part.step(piece, is_last) for part, piece in zip(self._parts, pieces, strict=True)]
        if len(done) == 1:
            return done[0]
        slopes = {direction: torch.cat([found[direction] for _, found in done]) for direction in done[0][1]}
        return torch.cat([out for out, _ in done]), slopes


class _Part:
    """A population in some samples, its state, and the derivatives of that state.

    Args:
        neuron: the executor's.
        trained: names of coefficients.
        detached: whether a reset carries no gradient.
        slopes: whether derivatives are wanted.
    """

    def __init__(self, neuron: FloatNeuron, trained: tuple[str, ...], detached: bool, slopes: bool) -> None:
        self.neuron = copy.copy(neuron)
        self.neuron.detach_reset = detached
        self.trained = {name: getattr(neuron, name).detach() for name in trained}
        self.wanted = slopes
        self.state: Any = None
        self.slopes: dict[str, Slopes] = {}  # of the state, by its name and by direction
        has_current = self.neuron.current_decay is not None or not self.neuron.step_rule.current_first
        self.names = ("v", "u", "fired", "onward") if has_current else ("v", "fired", "onward")

    def step(self, i: Tensor, is_last: bool) -> tuple[Tensor, Slopes]:
        """As that of the population."""
        if self.state is None:
            self.state = self.neuron.start(tuple(i.shape))
        if not self.wanted:
            return self.neuron.step(i, self.state), {}
        with torch.enable_grad():
            free: dict[str, Tensor] = {INPUT: i.detach().requires_grad_()}
            for name, value in self.trained.items():
                free[name] = value.expand(i.shape).detach().requires_grad_()
                setattr(self.neuron, name, free[name])
            held = {}
            for name in self.names:
                if self.slopes.get(name):
                    held[name] = getattr(self.state, name).requires_grad_()
            out = self.neuron.step(free[INPUT], self.state)
            after = {name: getattr(self.state, name) for name in self.names}
            done = {name: value for name, value in after.items() if value is not None and value.requires_grad}
            kept = {} if is_last else done
            slopes = self._chained(out, free, held, more=bool(kept))
            last = next(reversed(kept), "")
            self.slopes = {name: self._chained(kept[name], free, held, more=name != last) for name in kept}
        for name, value in done.items():
            setattr(self.state, name, value.detach())
        return out.detach(), slopes

    def _chained(self, value: Tensor, free: Mapping[str, Tensor], held: Mapping[str, Tensor], more: bool) -> Slopes:
        """Derivatives of `value` by each direction, over all steps so far; the last of a step frees what it needs."""
        if not value.requires_grad:
            return {}
        with torch.no_grad():
            parts = torch.autograd.grad(
                value, [*free.values(), *held.values()], torch.ones_like(value), retain_graph=more, allow_unused=True
            )
            found = {name: part for name, part in zip(free, parts, strict=False) if part is not None}
            for name, part in zip(held, parts[len(free) :], strict=True):
                if part is None:
                    continue
                for direction, slope in self.slopes.get(name, {}).items():
                    before = found.get(direction)
                    found[direction] = part * slope if before is None else torch.addcmul(before, part, slope)
            return found
