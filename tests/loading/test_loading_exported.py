"""Programs of ``torch.export``: read without unpickling, captured as what PyTorch computes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loading_cases import refusal
from torch import nn

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.exported import TABLE
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.loading import load_model
from hsnn_compiler.reference.float_executor import FloatExecutor

pytestmark = pytest.mark.filterwarnings("ignore")


class Everything(nn.Module):
    """Convolutions in place, attention, a recurrent layer, a constant and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.up, self.group = nn.ConvTranspose2d(4, 4, 2, 2), nn.GroupNorm(2, 4)
        self.rnn, self.layer_norm = nn.LSTM(8, 8, batch_first=True), nn.LayerNorm(8)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 5))
        self.register_buffer("offset", torch.rand(8), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.act(self.norm(self.conv(x)))
        x = F.max_pool2d(self.group(self.up(x)), 2)
        x = F.hardswish(x, inplace=True).flatten(2).transpose(1, 2)[:, 1:, :] * torch.tensor([1.0, 2.0, 3.0, 4.0])
        q, k, v = torch.cat([x, x, x], -1).chunk(3, dim=-1)
        x = F.scaled_dot_product_attention(q, k, v).repeat(1, 1, 2)
        x = self.layer_norm(self.rnn(x + self.offset)[0])
        return self.last(x.mean(1)), F.softmax(x[:, -1], dim=-1)


def exported(path: Path, model: nn.Module, x: torch.Tensor) -> Path:
    program = torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return path


def changed(path: Path, suffix: str, change: object) -> Path:
    """The archive with one of its JSON files changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path.with_suffix(".new"), "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(suffix):
                data = json.dumps(change(json.loads(data))).encode()  # type: ignore[operator]
            new.writestr(name, data)
    return path.with_suffix(".new")


def unsupported(path: Path) -> list[str]:
    with pytest.raises(HsnnError) as error:
        load_model(path)
    assert {finding.code for finding in error.value.findings} == {"E0402"}
    return [finding.message for finding in error.value.findings]


def test_a_program_is_captured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Everything(), torch.rand(3, 3, 4, 4)
    loaded = load_model(exported(tmp_path / "m.pt2", model, x))
    assert loaded.kind == "module"
    graph = capture(loaded.module, x[:1])
    with torch.no_grad():
        expected = model(x)
    for output, tensor in zip(FloatExecutor(graph).run(x.numpy()).outputs.values(), expected, strict=True):
        np.testing.assert_allclose(output, tensor.numpy(), rtol=1e-5, atol=1e-5)


def test_what_is_not_understood_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.lgamma(x) + torch.digamma(x)

    messages = unsupported(exported(tmp_path / "odd.pt2", Odd(), torch.rand(2, 3)))
    assert ["digamma" in messages[0], "lgamma" in messages[1]] == [True, True]
    path = exported(tmp_path / "m.pt2", nn.Linear(2, 2), torch.rand(2, 2))

    def named(target: str) -> object:
        def change(program: dict) -> dict:
            program["graph_module"]["graph"]["nodes"][0]["target"] = target
            return program

        return change

    for target in ("os.system", "torch.ops.aten.__class__.default", "torch.ops.other.linear.default", "builtins.eval"):
        assert target in unsupported(changed(path, "model.json", named(target)))[0]

    def pickled(config: dict) -> dict:
        config["config"]["weight"]["use_pickle"] = True
        return config

    def outside(config: dict) -> dict:
        config["config"]["weight"]["tensor_meta"]["strides"][0]["as_int"] = 10**9
        return config

    refusal(changed(path, "weights_config.json", pickled), "E0307")
    refusal(changed(path, "weights_config.json", outside), "E0309")
    refusal(changed(path, "weights_config.json", lambda config: {}), "E0309")
    refusal(changed(path, "model.json", lambda program: []), "E0309")


def test_the_table_holds_functions() -> None:
    assert all(callable(function) for function in TABLE.values())
