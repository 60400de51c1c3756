"""Which leading axes of a tensor are batch and time.

A node of the graph has neither; torch's tensors have a batch axis, and those of spiking models a time
axis too: beside it (SpikingJelly, Norse and snnTorch put it first, sinabs second) or merged with it
(so that a convolution sees one batch).
"""

from __future__ import annotations

from typing import NamedTuple

ORDERS = ("B", "TB", "BT", "(TB)", "(BT)")


class Axes(NamedTuple):
    """Leading axes of a tensor, before those of a sample.

    Attributes:
        order: ``"B"``: [batch, ...]; ``"TB"``, ``"BT"``: [time, batch, ...] and [batch, time, ...];
            ``"(TB)"``, ``"(BT)"``: the same two merged into one axis.
        steps: length of the time axis; 0 if there is none.
    """

    order: str = "B"
    steps: int = 0

    @property
    def has_time(self) -> bool:
        """Whether there is a time axis."""
        return self.order != "B"

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many leading axes there are."""
        return 2 if self.order in ("TB", "BT") else 1

    @property
    def time(self) -> int | None:
        """Position of a time axis of its own, else None."""
        return {"TB": 0, "BT": 1}.get(self.order)

    def sizes(self, batch: int) -> tuple[int, ...]:
        """Lengths of the leading axes for a batch of this size."""
        return {
            "B": (batch,),
            "TB": (self.steps, batch),
            "BT": (batch, self.steps),
        }.get(self.order, (self.steps * batch,))

    def reordered(self, after: tuple[int, ...], batch: int) -> Axes | None:
        """The axes of a result of shape `after` that holds the same elements in the same order, or None.

        Leading axes stay, are merged, or come apart; a time axis of one step comes or goes.
        """
        others = {"TB": ("(TB)",), "(TB)": ("TB",), "BT": ("(BT)",), "(BT)": ("BT",)}.get(self.order, ())
        candidates = [self, *(Axes(order, self.steps) for order in others)]
        if self.order == "B":
            candidates.append(Axes("TB", 1))
        elif self.steps == 1:
            candidates.append(Axes())
        for axes in candidates:
            if after[: axes.count] == axes.sizes(batch):
                return axes
        return None


SAMPLES = Axes()
