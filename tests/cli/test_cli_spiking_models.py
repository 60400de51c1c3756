"""Models of snnTorch from file to Lava, as their users write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("snntorch", reason="snnTorch is not installed")
import torch

MODELS = '''
import snntorch as snn
import torch
from torch import nn


class Net(nn.Module):
    """Tutorial 5."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.fc1 = nn.Linear(16, 40)
        self.lif1 = snn.Leaky(beta=0.9)
        self.fc2 = nn.Linear(40, 10)
        self.lif2 = snn.Leaky(beta=0.9)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for step in range(25):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


def one_step():
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Linear(6, 20), nn.BatchNorm1d(20), snn.Leaky(beta=0.8, init_hidden=True),
        nn.Linear(20, 5), snn.Leaky(beta=0.8, init_hidden=True),
    )
    with torch.no_grad():
        net[0].weight.mul_(3)
        net[3].weight.mul_(3)
    return net
'''


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """State of the tutorial's network, images for it, and the module that builds it."""
    (tmp_path / "tutorial.py").write_text(MODELS)
    sys.path.insert(0, str(tmp_path))
    try:
        import tutorial
    finally:
        sys.path.remove(str(tmp_path))
    model = tutorial.Net()
    x = (3 * np.random.default_rng(0).random((40, 16))).astype(np.float32)
    with torch.no_grad():
        spikes = model(torch.from_numpy(x))[0].transpose(0, 1).numpy()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    torch.save(tutorial.one_step().state_dict(), tmp_path / "step.pt")
    np.savez(tmp_path / "x.npz", x=x)
    np.save(tmp_path / "spikes.npy", spikes)
    events = np.random.default_rng(1).random((3, 30, 6)) < 0.4
    np.savez(tmp_path / "events.npz", x=events.astype(np.float32))
    yield tmp_path / "net.pt"
    del sys.modules["tutorial"]


NET = ("--model", "tutorial:Net")
STEP = ("--model", "tutorial:one_step", "--axes", "TB")


def trace(cli, *words):
    """What a simulation puts out, and what it prints."""
    status, out, err = cli("simulate", *words, "--out", "trace.npz")
    assert status == 0, err
    with np.load("trace.npz") as arrays:
        return arrays["output.output"], out + err


def test_captured_as_it_is(cli, net):
    spikes, said = trace(cli, "net.pt", *NET, "--data", "x.npz")
    np.testing.assert_array_equal(spikes, np.load("spikes.npy"))
    assert "W0466" in said


def test_late_reset_survives_the_compilation(cli, net):
    """snnTorch subtracts the threshold one step later: beta v - theta, not beta (v - theta)."""
    status, _, err = cli("net.pt", *NET, "--calib", "x.npz", "-o", "bundle")
    assert status == 0, err
    integers, _ = trace(cli, "bundle", "--data", "x.npz")
    spikes = np.load("spikes.npy")
    assert spikes.sum() > 500
    # Weights of 8 bits move a few spikes; the wrong reset would give some percent more of them.
    assert abs(integers.sum() - spikes.sum()) <= 0.01 * spikes.sum()
    assert (integers != spikes).mean() < 0.01


def test_same_on_lava(cli, net, lava):
    assert cli("net.pt", *NET, "--calib", "x.npz", "-o", "bundle")[0] == 0
    status, out, err = cli("simulate", "bundle", "--data", "x.npz", "--backend", "lava", "--limit", "2", "--compare")
    assert status == 0, err
    assert "identical to the reference: yes" in out


def test_events_run_on_the_chips_integers_without_a_bundle(cli, net):
    real, _ = trace(cli, "step.pt", *STEP, "--data", "events.npz")
    integers, said = trace(cli, "step.pt", *STEP, "--data", "events.npz", "--backend", "reference")
    assert real.shape == (3, 30, 5)
    assert real.sum() > 5
    assert (real != integers).mean() < 0.05
    assert "I0457" in said
    assert "Against --backend float" in said


def test_events_on_lava(cli, net, lava):
    words = ("step.pt", *STEP, "--data", "events.npz", "--backend", "lava", "--limit", "1", "--compare")
    status, out, err = cli("simulate", *words)
    assert status == 0, err
    assert "identical to the reference: yes" in out


def test_events_have_no_bundle_yet(cli, net):
    status, out, _ = cli("check", "step.pt", *STEP, "--calib", "events.npz", "--json")
    assert status == 4
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["E0437"]


def test_steps_have_to_be_said(cli, net):
    np.savez("one.npz", x=np.random.default_rng(0).random((8, 6), np.float32))
    status, _, err = cli("inspect", "step.pt", "--model", "tutorial:one_step", "--calib", "one.npz")
    assert status == 4
    assert "E0414" in err
    status, out, _ = cli("inspect", "step.pt", "--model", "tutorial:one_step", "--calib", "one.npz", "--timesteps", "9")
    assert status == 0
    assert "T = 9" in out


@pytest.mark.parametrize("words", [("--dt", "0.1"), ("--dynamics", "preset=norse")])
def test_a_model_says_what_a_step_is(cli, net, words):
    status, _, err = cli("simulate", "net.pt", *NET, "--data", "x.npz", *words)
    assert status == 2
    assert "E0225" in err
