"""SpikingJelly's conversion recipes, each in several settings, on the networks of `conversion.py`."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import sys
import types
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

BATCH = 50

Setting = Callable[[nn.Module, torch.Tensor], nn.Module]


def settings() -> dict[str, Setting]:
    """By name, what makes a spiking network of a network and calibration images; empty without SpikingJelly."""
    for name in ("torchvision", "torchvision.models", "requests"):  # for its samples and their downloads
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
        sys.modules.setdefault(name, types.ModuleType(name))
    try:
        from spikingjelly.activation_based.ann2snn import Converter
        from spikingjelly.activation_based.ann2snn.recipes import LocalThresholdBalancingRecipe, RateCodingRecipe
    except ImportError:
        return {}
    logging.getLogger("spikingjelly").setLevel(logging.ERROR)

    def loader(x: torch.Tensor, passes: int = 1) -> list[torch.Tensor]:
        return [batch for _ in range(passes) for batch in x.split(BATCH)]

    def rate(**options: object) -> Setting:
        return lambda model, x: Converter(RateCodingRecipe(loader(x), **options)).convert(model)

    def balanced(passes: int) -> Setting:
        return lambda model, x: Converter(LocalThresholdBalancingRecipe(loader(x, passes))).convert(model)

    by_channel = {"channel_wise": True, "half_threshold": True, "pre_spike_maxpool": True}
    return {
        "99.9% per layer": rate(mode="99.9%"),
        "99.9% per channel, half threshold": rate(mode="99.9%", **by_channel),
        "99% per channel, half threshold": rate(mode="99%", **by_channel),
        "max per channel, half threshold": rate(mode="Max", **by_channel),
        **{f"LTB, {passes} passes": balanced(passes) for passes in (2, 5, 20)},
    }


def accuracies(
    setting: Setting, model: nn.Module, calibration: np.ndarray, x: np.ndarray, y: np.ndarray, timesteps: list[int]
) -> dict[int, float]:
    """Accuracy in percent by number of steps: the mean of the outputs over the steps, as its examples do."""
    from spikingjelly.activation_based import functional

    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():  # its progress bars
        net = setting(copy.deepcopy(model).eval(), torch.from_numpy(calibration)).eval()
        functional.reset_net(net)
        images = torch.from_numpy(x)
        total, found = torch.zeros(()), {}
        for step in range(1, max(timesteps) + 1):
            total = total + net(images)
            if step in timesteps:
                found[step] = 100 * float((total.argmax(1).numpy() == y).mean())
    return found
