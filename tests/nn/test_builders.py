"""Whole HAS networks: the paper's structure, and files of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hsnn_compiler.loading import load_model
from hsnn_compiler.nn import (
    IF,
    BitPlane,
    Direct,
    HASBlock,
    Last,
    Parts,
    TimeLoop,
    calibrate,
    has_resnet,
    has_small,
    has_vgg,
)

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def widths(model: nn.Module, path: str) -> list[int]:
    """Output channels of the convolutions on one path, in order."""
    return [
        conv.out_channels
        for name, conv in model.named_modules()
        if isinstance(conv, nn.Conv2d) and f".{path}." in name and conv.kernel_size != (1, 1)
    ]


def test_resnet_b32_m2_d4() -> None:
    model = has_resnet()
    stages = [channels for channels in (32, 64, 128, 256) for _ in range(2 * 2)]
    assert widths(model, "ann") == widths(model, "snn") == [64, *stages]
    stem = model.stem
    assert isinstance(stem, HASBlock)
    assert [type(part).__name__ for part in stem.ann] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    assert [type(part).__name__ for part in stem.snn.body] == ["Conv2d", "BatchNorm2d", "IF", "AvgPool2d"]
    assert (stem.ann[0].kernel_size, stem.ann[0].stride) == ((7, 7), (2, 2))
    strides = [block.snn.body.branch[0].stride[0] for name, block in model.named_children() if "stage" in name]
    assert strides == [1, 1, 2, 1, 2, 1, 2, 1]
    loops = [part for part in model.modules() if isinstance(part, TimeLoop)]
    assert [loop.encoder.timesteps for loop in loops] == [8] * 9


def test_vgg_b16_m2_d4() -> None:
    model = has_vgg(in_channels=3, base=16)
    assert widths(model, "ann") == widths(model, "snn") == [48, 96, 192, 384, 768]
    linear = [layer.out_features for layer in model.classifier.ann if isinstance(layer, nn.Linear)]
    assert linear == [1024, 512, 10]


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        (lambda: has_resnet(base=4), (2, 3, 32, 32), 10),
        (lambda: has_resnet(1, 7, base=3, multiplier=3, depth=2, blocks=1), (2, 1, 28, 28), 7),
        (lambda: has_vgg(base=2, hidden=(16,)), (2, 3, 32, 32), 10),
        (lambda: has_vgg(1, 5, base=4, depth=1, hidden=()), (2, 1, 8, 8), 5),
        (lambda: has_small(), (2, 1, 8, 8), 10),
        (lambda: has_small(2, 3, size=16, base=4), (2, 2, 16, 16), 3),
    ],
)
def test_shapes_and_gradients(model: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> None:
    torch.manual_seed(0)
    net = model()
    y = net(torch.rand(shape))
    assert y.shape == (shape[0], classes)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_ann_of_the_same_size() -> None:
    ann = has_small(parts=Parts(encoder=partial(Direct, 1), decoder=Last, neuron=nn.ReLU))
    sizes = [sum(p.numel() for p in net.parameters()) for net in (ann, has_small())]
    assert sizes[0] == sizes[1]
    assert not any(isinstance(part, (IF, BitPlane)) for part in ann.modules())


def test_saved_whole_and_loaded_without_naming_a_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = has_small().eval()
    x = torch.rand(20, 1, 8, 8)
    calibrate(model, x)
    expected = model(x)
    model[0].snn.encoder.start_calibration()  # in progress: not in the file
    torch.save(model, tmp_path / "has.pt")
    assert (tmp_path / "has.pt").stat().st_size < 300_000
    loaded = load_model(tmp_path / "has.pt").module
    assert torch.equal(loaded(x), expected)
    scale = model[0].snn.encoder.high.item()
    loaded(3 * x)
    assert loaded[0].snn.encoder.high.item() == scale
    assert all(part.v is None for part in load_model(tmp_path / "has.pt").module.modules() if isinstance(part, IF))


def test_the_shipped_network_is_as_good_as_its_readme_says() -> None:
    model = load_model(DIGITS / "digits_has.pt").module
    with np.load(DIGITS / "digits_test.npz") as data:
        x, y = torch.from_numpy(data["x"]), data["y"]
    with torch.no_grad():
        right = model(x).argmax(1).numpy() == y
    assert abs(100 * right.mean() - 98.61) < 0.3  # one image: sums may be rounded otherwise elsewhere


def test_state_dict_goes_into_a_new_network() -> None:
    torch.manual_seed(0)
    model, other = has_small().eval(), has_small().eval()
    x = torch.rand(4, 1, 8, 8)
    calibrate(model, x)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: has_small(size=12), "size"),
        (lambda: has_resnet(depth=0), "depth"),
        (lambda: has_vgg(base=0), "base"),
        (lambda: has_small(classes=0), "classes"),
    ],
)
def test_refusals(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
