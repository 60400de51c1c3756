"""Train a small hybrid network of HAS blocks on the digits, and show what its parts are good for.

    python examples/digits/train_has.py [DIRECTORY]

Writes ``digits_has.pt`` to DIRECTORY (default: beside this file), then trains, a few seeds each, the same network with
and without order-aware rescaling of the bit planes' gradients, its spiking paths alone with and without it, and an ANN
of the same number of weights, and prints their accuracies. Takes about three minutes on one core; ``--no-ablation``
leaves the comparison out.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from train import SEED, accuracy, load_data, train

from hsnn_compiler.nn import BitPlane, Direct, HASBlock, Last, Parts, calibrate, has_small

EPOCHS = 30
ABLATION_EPOCHS = 10
ABLATION_SEEDS = 3
RATE = 1e-2
CALIBRATION_IMAGES = 256

PLAIN = Parts(encoder=partial(BitPlane, rescale=False))
ANN = Parts(encoder=partial(Direct, 1), decoder=Last, neuron=nn.ReLU)
"""In the place of spikes the values themselves, one step, ReLU for neurons: two ANN paths with as many weights."""


def has_net(parts: Parts, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return has_small(parts=parts)


def spiking_only(parts: Parts, seed: int) -> nn.Sequential:
    """The network without its ANN paths: all that reaches a layer's weights came through encoders."""
    layers = has_net(parts, seed).named_children()
    return nn.Sequential(
        OrderedDict((name, layer.snn if isinstance(layer, HASBlock) else layer) for name, layer in layers)
    )


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Train; before each epoch, encoders take the scale of what reaches them now, and keep it."""
    train(
        model,
        x,
        y,
        epochs=epochs,
        rate=RATE,
        before_epoch=lambda: calibrate(model, x[:CALIBRATION_IMAGES], percentile=99.9),
    )


def ablation(x: torch.Tensor, y: torch.Tensor, held_out: torch.Tensor, labels: torch.Tensor) -> None:
    arms = {
        "HAS, order-aware rescaling": (has_net, Parts()),
        "HAS, without rescaling": (has_net, PLAIN),
        "spiking paths alone, order-aware rescaling": (spiking_only, Parts()),
        "spiking paths alone, without rescaling": (spiking_only, PLAIN),
        "ANN with as many weights as HAS": (has_net, ANN),
    }
    print(f"\nAfter {ABLATION_EPOCHS} epochs, {ABLATION_SEEDS} seeds, {len(labels)} test images:")
    for name, (build, parts) in arms.items():
        reached = []
        for seed in range(ABLATION_SEEDS):
            model = build(parts, seed)
            fit(model, x, y, ABLATION_EPOCHS)
            reached.append(accuracy(model, held_out, labels))
        each = ", ".join(f"{value:.2f}" for value in reached)
        print(f"  {name:44}{np.mean(reached):6.2f}%  ({each})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--no-ablation", action="store_true", help="train and write the model only")
    options = parser.parse_args()
    # Sums depend on how they are split over threads, so the number of threads is fixed.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x_train, x_test, y_train, y_test = load_data()
    x, y, held_out, labels = map(torch.from_numpy, (x_train, y_train, x_test, y_test))

    model = has_net(Parts(), SEED)
    fit(model, x, y, EPOCHS)
    torch.save(model, options.directory / "digits_has.pt")
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"digits_has.pt  {accuracy(model, held_out, labels):.2f}% of {len(labels)} test images,"
        f" {weights} weights, T = {model.stem.snn.encoder.timesteps}"
    )
    if not options.no_ablation:
        ablation(x, y, held_out, labels)


if __name__ == "__main__":
    main()
