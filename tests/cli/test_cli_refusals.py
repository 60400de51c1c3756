"""What the command line does with files it must not run, models it cannot compile, and folders that are not its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
CALIB = str(DIGITS / "digits_calib.npz")
CODE = "from hsnn_compiler.cli.main import main; main()"
COMMAND = [sys.executable, "-c", CODE]

MODELS = """\
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.rint(x.numpy()))  # line 10

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(256, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        if x.sum() > 0:  # line 26
            x = x + 1
        y = x.flatten(1, 2)
        y = self.attention(y, y, y)[0]
        return self.fc(Round.apply(y).flatten(1))


def build():
    return Net()
"""


def hsnn(*words, cwd, **env):
    return subprocess.run(
        [*COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, **env}
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_models.py").write_text(MODELS)
    save = "torch.save(m, 'whole.pt'); torch.save(m.state_dict(), 'state.pt')"
    code = f"import torch, my_models; m = my_models.build(); {save}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    return tmp_path


def test_three_unsupported_things_are_found_in_one_go(folder):
    for words in (("whole.pt", "--module", "my_models"), ("state.pt", "--model", "my_models:build")):
        done = hsnn(*words, "--input-shape", "1,8,8", cwd=folder)
        assert done.returncode == 4
        branch, function = ("E0403", "my_models.py:26"), ("E0403", "(Round.forward)", "my_models.py:10", "numpy")
        for said in (*branch, *function, "W0436 attention", "multi_head_attention_forward", "try:"):
            assert said in done.stderr, said
        assert "Traceback" not in done.stderr
    assert not list(folder.glob("*.loihi2"))


def test_a_class_of_the_user_needs_its_module_named(folder):
    done = hsnn("whole.pt", "--input-shape", "1,8,8", cwd=folder)
    assert done.returncode == 3
    assert "--module my_models" in done.stderr


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    done = hsnn("evil.pt", "--input-shape", "3", cwd=tmp_path)
    assert done.returncode == 3
    assert "system" in done.stderr
    assert not (tmp_path / "pwned").exists()


def test_files_of_the_user_are_never_lost(tmp_path):
    words = (DIGITS / "digits_direct.pt", "--calib", CALIB, "-o", "out")
    assert hsnn(*words, cwd=tmp_path).returncode == 0
    assert hsnn(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "out" / "notes.txt").write_text("precious")
    done = hsnn(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "notes.txt" in done.stderr
    assert (tmp_path / "out" / "notes.txt").read_text() == "precious"


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_reader_that_goes_away_does_not_stop_the_work(tmp_path):
    words = f"{sys.executable} -c '{CODE}' {DIGITS / 'digits_direct.pt'} --calib {CALIB} -o out; echo status $? >&2"
    done = subprocess.run(f"({words}) | head -1", shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "status 0" in done.stderr, done.stderr
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-o", "a_file/sub"), "E0205"),
        (("--dump-ir", "a_file"), "E0207"),
        (("--layer", "conv2:bits=9"), "2 to 8"),
        (("--layer", "conv2:threshold=1"), "no effect"),
        (("--layer", "1:bits=4"), "no layer named '1'"),
    ],
)
def test_mistakes_of_the_user_are_not_internal_errors(tmp_path, words, said):
    (tmp_path / "a_file").write_text("")
    done = hsnn(DIGITS / "digits_cnn.pt", "--calib", CALIB, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_mistyped_verb_is_recognised(tmp_path):
    done = hsnn("simulat", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'simulate'" in done.stderr
