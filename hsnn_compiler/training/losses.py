"""Losses of fine-tuning: cross-entropy on labels, divergence from a teacher, and a mixture of both.

With outputs z [batch, classes] of the student and z_A of the teacher, both times `gain` (rates lie in [0, 1], and a
softmax of such numbers is never confident):

    L = alpha CE(z, y) + (1 - alpha) tau^2 KL(softmax(z_A / tau) || softmax(z / tau))

The factor tau^2 keeps the size of the gradients (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Distillation:
    """The mixture.

    Attributes:
        alpha: share of the cross-entropy, 0 to 1; 0 needs no labels.
        temperature: tau, above 0.
        gain: what makes logits of outputs.
    """

    alpha: float = 0.4
    temperature: float = 1.0
    gain: float = 1.0

    def __call__(self, outputs: Tensor, teacher: Tensor | None, y: Tensor | None) -> Tensor:
        """The loss, a mean over the batch.

        Args:
            outputs: [batch, classes] of the student.
            teacher: the same of the teacher; not needed where alpha is 1.
            y: int64 [batch]; without labels, or with alpha 0, the teacher alone counts.
        """
        alpha = 0.0 if y is None else self.alpha
        logits = outputs.flatten(1) * self.gain
        total = logits.new_zeros(())
        if alpha > 0 and y is not None:
            total = total + alpha * F.cross_entropy(logits, y)
        if alpha < 1 and teacher is not None:
            wanted = teacher.flatten(1) * self.gain
            total = total + (1 - alpha) * divergence(logits, wanted, self.temperature)
        return total


def divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """tau^2 KL(softmax(teacher / tau) || softmax(logits / tau)), a mean over the batch."""
    ours = F.log_softmax(logits / temperature, 1)
    theirs = F.log_softmax(teacher.detach() / temperature, 1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def right(outputs: Tensor, teacher: Tensor | None, y: Tensor | None) -> int:
    """How many predictions are right; without labels, how many agree with the teacher's."""
    wanted = y if y is not None else None if teacher is None else teacher.flatten(1).argmax(1)
    return 0 if wanted is None else int((outputs.flatten(1).argmax(1) == wanted).sum())
