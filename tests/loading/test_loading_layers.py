"""Which layers and values load without naming a module."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loading_cases import refusal, saved
from torch import nn

import hsnn_compiler.nn as snn
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.loading import load_model

# Whole modules of torch.nn and hsnn_compiler.nn


def test_whole_module(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), bn=nn.BatchNorm2d(2), drop=nn.Dropout()))
    path = saved(tmp_path / "m.pt", model.train())
    loaded = load_model(path)
    assert (loaded.kind, loaded.path, loaded.findings) == ("module", path, ())
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not any(part.training for part in loaded.module.modules())
    x = torch.randn(2, 1, 5, 5)
    assert torch.equal(loaded.module(x), model.eval()(x))


def test_spiking_module(tmp_path: Path) -> None:
    body = nn.Sequential(nn.Linear(3, 4), snn.LIF(threshold=torch.ones(4)), nn.Linear(4, 2), snn.IF())
    model = snn.TimeLoop(snn.Direct(5), body, snn.Rate())
    x = torch.randn(6, 3)
    expected = model(x)
    assert torch.equal(load_model(saved(tmp_path / "m.pt", model)).module(x), expected)


ARGUMENTS: list[tuple] = [
    (), (4,), (2, 4), (4, 4, 2), ((4,),), (2, 4, 8), (nn.Linear(2, 2),), (4, 100, [10, 20]),
    ((0, 1), (2, 2)), (1, (2, 2)), (nn.TransformerEncoderLayer(4, 2), 2),
    (nn.TransformerDecoderLayer(4, 2), 2), (snn.Direct(3), nn.Linear(2, 2), snn.Sum()),
]  # fmt: skip


def layer_classes() -> list[type[nn.Module]]:
    found: set[type[nn.Module]] = set()
    for package in (torch.nn.modules, snn):
        for part in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{part.name}")
            found |= {
                value for value in vars(module).values() if isinstance(value, type) and issubclass(value, nn.Module)
            }
    # Abstract bases, and lazy layers, which hold bound methods until they have seen data.
    return sorted(
        (c for c in found if not c.__name__.startswith(("_", "Lazy", "RNNBase", "RNNCellBase"))),
        key=lambda c: c.__name__,
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", layer_classes(), ids=lambda c: c.__name__)
def test_every_layer_of_torch_and_ours_loads(tmp_path: Path, layer: type[nn.Module]) -> None:
    for arguments in ARGUMENTS:
        try:
            model = layer(*arguments)
            break
        except (TypeError, ValueError, AssertionError, AttributeError, RuntimeError):
            continue
    else:
        pytest.fail(f"no arguments known that construct {layer.__name__}")
    loaded = load_model(saved(tmp_path / "m.pt", model)).module
    assert type(loaded) is layer
    assert repr(loaded) == repr(model.eval())
    for ours, theirs in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


ACTIVATIONS = ["relu", "gelu", F.silu, F.tanh, F.softplus, F.hardswish]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda named: getattr(named, "__name__", named))
def test_activation_functions_kept_by_transformers(tmp_path: Path, activation: Any) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, activation=activation)
    loaded = load_model(saved(tmp_path / "m.pt", layer)).module
    assert loaded.activation is layer.activation


def test_plain_values_kept_by_modules(tmp_path: Path) -> None:
    model = nn.Identity()
    values = {
        "a": torch.float16, "b": torch.device("cpu"), "c": torch.Size([2]), "d": slice(1, 3), "e": {1},
        "f": frozenset([2]), "g": range(4), "h": 1 + 2j, "i": b"\xff", "j": 10**30, "k": nn.ReLU,
        "m": [{"x": (1, None)}],
    }  # fmt: skip
    vars(model).update(values)
    loaded = load_model(saved(tmp_path / "m.pt", model)).module
    assert {name: getattr(loaded, name) for name in values} == values


def test_lazy_layers_load_once_they_have_seen_data(tmp_path: Path) -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    assert "lazy" in refusal(saved(tmp_path / "m.pt", model), "E0303")
    model(torch.zeros(1, 2))
    assert isinstance(load_model(saved(tmp_path / "m.pt", model)).module.get_submodule("0"), nn.Linear)


def test_what_the_process_admitted_before_stays_admitted(tmp_path: Path) -> None:
    torch.serialization.add_safe_globals([(nn.ReLU, "torch.nn.modules.activation.ReLU")])
    before = set(map(str, torch.serialization.get_safe_globals()))
    load_model(saved(tmp_path / "m.pt", nn.Sequential(nn.ReLU(), nn.Tanh())))
    assert set(map(str, torch.serialization.get_safe_globals())) == before


def test_a_named_package_stands_for_its_modules_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of a library lie in many modules: naming the package admits them, but not one that begins alike."""
    for package in ("spikes", "spikes_other"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "layers.py").write_text("from torch import nn\n\n\nclass Pass(nn.Identity):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("spikes", "spikes_other"):
        layers = importlib.import_module(f"{package}.layers")
        torch.save(torch.nn.Sequential(layers.Pass()), tmp_path / f"{package}.pt")
    assert type(load_model(tmp_path / "spikes.pt", modules=["spikes"]).module[0]).__name__ == "Pass"
    with pytest.raises(HsnnError) as error:
        load_model(tmp_path / "spikes_other.pt", modules=["spikes"])
    assert [finding.code for finding in error.value.findings] == ["E0302"]
