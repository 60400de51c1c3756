"""What the tests of loading share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.loading import load_model

SOURCE = """
import os
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, size=3):
        super().__init__()
        self.fc = nn.Linear(size, 2)
    def forward(self, x):
        return self.fc(x).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.scale = torch.full((2,), 2.0)
    def forward(self, x):
        return self.block(x) * self.scale

class Settings:
    pass

def helper(x):
    return x

def build():
    return Net()

def broken():
    raise KeyError("weights")

def list_of_layers():
    return [Net()]
"""


def refusal(path: Path, code: str, **options: Any) -> str:
    with pytest.raises(HsnnError) as caught:
        load_model(path, **options)
    assert caught.value.findings[0].code == code, caught.value
    assert caught.value.exit_code == 3
    return str(caught.value)


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path
