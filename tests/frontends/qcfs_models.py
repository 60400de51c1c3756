"""QCFS as in the code of Bu et al. 2022, and a network with it."""

import torch
from torch import nn


class GradFloor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.floor()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class QCFS(nn.Module):
    def __init__(self, levels=8, threshold=1.5):
        super().__init__()
        self.levels, self.threshold = levels, nn.Parameter(torch.tensor([threshold]))

    def forward(self, x):
        x = torch.clamp(x / self.threshold, 0, 1)
        return GradFloor.apply(x * self.levels + 0.5) / self.levels * self.threshold


def quantised_vgg():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), QCFS(), nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), QCFS(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 16, 24), QCFS(), nn.Linear(24, 5),
    )  # fmt: skip
