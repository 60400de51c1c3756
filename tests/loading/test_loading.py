"""Loading models: what is accepted, and how the rest is refused."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from loading_cases import refusal, saved
from torch import nn

from hsnn_compiler.loading import load_model

# Classes of the user


def test_user_classes_need_their_module_named(tmp_path: Path, user: types.ModuleType) -> None:
    path = saved(tmp_path / "m.pt", user.Net())
    text = refusal(path, "E0302")
    for expected in (
        f"{user.__name__}.Net",
        f"{user.__name__}.Block",
        f"--module {user.__name__}",
        "state_dict",
    ):
        assert expected in text

    sys.modules.pop(user.__name__)  # it must be found beside the file
    before = list(sys.path)
    loaded = load_model(path, modules=(user.__name__,))
    assert type(loaded.module).__name__ == "Net"
    assert loaded.module(torch.ones(1, 3)).shape == (1, 2)
    assert sys.path == before


def test_class_saved_from_a_script(tmp_path: Path, user: types.ModuleType) -> None:
    script = (
        f"exec(open({str(tmp_path / (user.__name__ + '.py'))!r}).read())\n"
        f"torch.save(Net(), {str(tmp_path / 'm.pt')!r})\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    path = tmp_path / "m.pt"
    text = refusal(path, "E0302")
    assert "class Net was saved from a script" in text
    assert "class Block was saved from a script" in text

    loaded = load_model(path, modules=(user.__name__,))
    assert type(loaded.module) is user.Net
    assert [finding.code for finding in loaded.findings] == ["I0301", "I0301"]


def test_script_class_missing_from_the_named_module(
    tmp_path: Path, user: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type("Other", (nn.Module,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Other", other, raising=False)
    text = refusal(saved(tmp_path / "m.pt", other()), "E0302", modules=(user.__name__,))
    assert f"{user.__name__} defines no layer class Other" in text


@pytest.mark.parametrize("attribute", ["Settings", "helper"])
def test_only_layers_of_the_named_module(tmp_path: Path, user: types.ModuleType, attribute: str) -> None:
    model = user.Net()
    model.extra = getattr(user, attribute)
    text = refusal(saved(tmp_path / "m.pt", model), "E0303", modules=(user.__name__,))
    assert f"{user.__name__}.{attribute}, which is not a layer" in text


def test_all_foreign_names_at_once_and_unsafe_ones_first(tmp_path: Path, user: types.ModuleType) -> None:
    model = user.Net()
    model.a, model.b = types.SimpleNamespace(), Path
    text = refusal(saved(tmp_path / "m.pt", model), "E0303")
    for name in ("types.SimpleNamespace", "pathlib", ".Net", ".Block"):
        assert name in text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (None, "there is no module"),
        ("import no_such_library_at_all", "no_such_library_at_all"),
        ("x = (", "SyntaxError"),
        ("\nraise SystemExit(1)", "SystemExit"),
        ("\n\n1 / 0", "ZeroDivisionError"),
    ],
)
def test_user_module_that_cannot_be_imported(tmp_path: Path, source: str | None, text: str) -> None:
    if source is not None:
        (tmp_path / "failing_module.py").write_text(source)
    path = saved(tmp_path / "m.pt", nn.ReLU())
    assert text in refusal(path, "E0308", modules=("failing_module",))
    if source and source.startswith("\n"):
        line = source.count("\n") + 1
        assert f"failing_module.py:{line}" in refusal(path, "E0308", modules=("failing_module",))


# state_dicts and checkpoints


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_state_dict_with_a_factory(tmp_path: Path, user: types.ModuleType, key: str | None, zipped: bool) -> None:
    model = user.Net()
    state: Any = model.state_dict()
    content = state if key is None else {"epoch": 3, key: state, "optimizer": {}}
    path = saved(tmp_path / "m.pt", content, _use_new_zipfile_serialization=zipped)
    assert "--model my_models:build" in refusal(path, "E0305")
    loaded = load_model(path, factory=f"{user.__name__}:build")
    assert loaded.kind == "state_dict"
    assert torch.equal(loaded.module.get_parameter("block.fc.weight"), model.block.fc.weight)
    assert [str(f) for f in loaded.findings] == (
        [] if key is None else [f"I0302 took {key!r} of the checkpoint, left 'epoch', 'optimizer'"]
    )


def test_module_in_a_checkpoint_and_a_factory_too_many(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"model": nn.Linear(2, 2), "epoch": 1})
    loaded = load_model(path, factory="nowhere:build")
    assert loaded.kind == "module"
    assert [finding.code for finding in loaded.findings] == ["I0302", "I0303"]


def test_every_disagreement_is_listed(tmp_path: Path, user: types.ModuleType) -> None:
    path = saved(tmp_path / "m.pt", {"block.fc.weight": torch.zeros(2, 7), "head.bias": torch.zeros(2)})
    text = refusal(path, "E0306", factory=f"{user.__name__}:build")
    assert "block.fc.bias is in the model, but not in the file" in text
    assert "head.bias is in the file, but not in the model" in text
    assert "block.fc.weight is of shape [2, 3] in the model and [2, 7] in the file" in text


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_prefix_of_a_wrapper_is_recognised(tmp_path: Path, user: types.ModuleType, prefix: str) -> None:
    state = {prefix + name: value for name, value in user.Net().state_dict().items()}
    text = refusal(saved(tmp_path / "m.pt", state), "E0306", factory=f"{user.__name__}:build")
    assert f"removeprefix('{prefix}')" in text


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("build", "names no function"),
        ("{}:", "names no function"),
        ("{}:nothing", "has no function nothing"),
        ("{}:broken", "KeyError: 'weights'"),
        ("{}:list_of_layers", "returned list"),
        ("no_such_module_here:build", "there is no module"),
    ],
)
def test_factory_that_fails(tmp_path: Path, user: types.ModuleType, factory: str, text: str) -> None:
    path = saved(tmp_path / "m.pt", user.Net().state_dict())
    assert text in refusal(path, "E0308", factory=factory.format(user.__name__))


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(2), {"epoch": 1}, {"model": 3}, {1: torch.zeros(1)}], ids=str)
def test_files_that_hold_no_model(tmp_path: Path, content: object) -> None:
    assert type(content).__name__ in refusal(saved(tmp_path / "m.pt", content), "E0307")


# Values


def test_nan_and_inf_are_listed(tmp_path: Path) -> None:
    model: Any = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        model[0].weight[1, 2] = float("nan")
        model[0].weight[0, 1] = float("inf")
        model[1].running_mean[1] = float("-inf")
        model[1].running_mean[0] = 1.0
    text = refusal(saved(tmp_path / "m.pt", model), "E0304")
    assert "parameter 0.weight holds 1 NaN and 1 Inf among 6 values, the first at [0, 1]" in text
    assert "buffer 1.running_mean holds 0 NaN and 1 Inf among 2 values, the first at [1]" in text
    assert "bias" not in text


def test_attention_masks_may_hold_minus_infinity(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))
    assert load_model(saved(tmp_path / "m.pt", model)).kind == "module"


# The rest


def test_import_stays_light() -> None:
    script = "import sys, hsnn_compiler.loading; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_code_is_explained() -> None:
    import hsnn_compiler.codes

    folder = Path(hsnn_compiler.codes.__path__[0])
    for code in [f"E030{i}" for i in range(1, 10)] + [f"E031{i}" for i in range(6)] + ["I0301", "I0302", "I0303"]:
        text = (folder / f"{code}.md").read_text()
        assert text.startswith("# ")
        for section in ("## What happened", "## Why", "## What to do"):
            assert section in text, code
