"""The training loop: its arithmetic, what it keeps, and that an interruption changes nothing."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.training.fit import History, Settings, Step, fit, split

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.1 * RNG.normal(size=50) > 0).astype(np.int64)


class Task:
    """Logistic regression with a generator-free loss."""

    def __init__(self) -> None:
        self.parameters = {"w": torch.zeros(2, 3, requires_grad=True), "b": torch.zeros(2, requires_grad=True)}
        self.buffers = {"seen": torch.zeros(1)}

    def step(self, x: Tensor, y: Tensor | None) -> Step:
        out = x @ self.parameters["w"].T + self.parameters["b"]
        if torch.is_grad_enabled():
            self.buffers["seen"] += len(x)
        return Step(torch.nn.functional.cross_entropy(out, y), int((out.argmax(1) == y).sum()))

    def fit(self, settings: Settings, **more: object) -> History:
        train, held = split(50, 0.2, 0)
        return fit(
            self.step, self.parameters, (X[train], Y[train]), (X[held], Y[held]), settings, buffers=self.buffers, **more
        )

    def state(self) -> list[np.ndarray]:
        return [tensor.detach().numpy().copy() for tensor in (*self.parameters.values(), *self.buffers.values())]


def test_steps_are_nesterov_with_a_cosine() -> None:
    """p <- p - lr_i (g + .9 m), m <- .9 m + g, lr_i = rate/2 (1 + cos(pi i / n)), written out."""
    task, settings = Task(), Settings(epochs=2, batch=16, rate=0.5, clip=0)
    train, _ = split(50, 0.2, 0)
    generator = torch.Generator().manual_seed(0)
    w, m, losses = np.zeros((2, 4)), np.zeros((2, 4)), []
    for epoch in range(2):
        order = torch.randperm(40, generator=generator).numpy()
        for index in range(3):
            rows = train[order[index * 16 : index * 16 + 16]]
            x = np.concatenate([X[rows], np.ones((len(rows), 1))], 1).astype(np.float64)
            z = x @ w.T
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            g = (p - np.eye(2)[Y[rows]]).T @ x / len(rows)
            rate = 0.25 * (1 + math.cos(math.pi * (epoch * 3 + index) / 6))
            m = 0.9 * m + g if epoch or index else g
            w = w - rate * (g + 0.9 * m)
    history = task.fit(settings, after_epoch=lambda: losses.append(task.state()) or {"mine": float(len(losses))})
    np.testing.assert_allclose(np.concatenate([losses[-1][0], losses[-1][1][:, None]], 1), w, atol=1e-5)
    assert [epoch.number for epoch in history.epochs] == [0, 1, 2]
    assert [epoch.logged["mine"] for epoch in history.epochs] == [1, 2, 3]
    assert history.epochs[1].loss is not None
    assert Settings(batch=128).first_rate == pytest.approx(0.05)
    assert Settings(optimiser="adam").first_rate == 1e-3


def test_the_best_state_wins() -> None:
    task, states = Task(), []
    wrong = np.where(np.arange(50) % 4, Y, 1 - Y)  # the surer the predictions, the larger the loss
    history = fit(
        task.step,
        task.parameters,
        (X, Y),
        (X, wrong),
        Settings(epochs=12, rate=3.0, clip=0),
        buffers=task.buffers,
        after_epoch=lambda: states.append(task.state()) or {},
    )
    scores = [(epoch.held_accuracy, -epoch.held_loss) for epoch in history.epochs]
    assert history.best == scores.index(max(scores))
    assert history.kept.held_accuracy >= history.start.held_accuracy
    for ours, theirs in zip(task.state(), states[history.best], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert 0 < history.best < 12, "the first or the last is the best: nothing is shown"


def test_a_loss_that_is_no_number_ends_it_and_the_start_stays() -> None:
    task = Task()
    history = fit(
        lambda x, y: Step(task.parameters["w"].sum() * float("nan"), 0), task.parameters, (X, Y), (X, Y), Settings()
    )
    assert (history.ended, history.best, len(history.epochs)) == ("diverged", 0, 1)
    assert not any(array.any() for array in task.state())


def test_patience_ends_it() -> None:
    task = Task()
    history = task.fit(Settings(epochs=50, rate=1e-12, patience=3))
    assert history.ended == "patience"
    assert len(history.epochs) - 1 == history.best + 3 < 50


def test_seeds_decide_and_nothing_global_does() -> None:
    found = []
    for seed, other in ((1, 5), (1, 6), (2, 5)):
        torch.manual_seed(other)
        before = torch.random.get_rng_state()
        task = Task()
        task.fit(Settings(epochs=3, batch=8, rate=0.1, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), before)
        found.append(task.state()[0])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, optimiser: str) -> None:
    settings = Settings(epochs=8, batch=8, optimiser=optimiser, rate=0.3)
    whole = Task()
    expected = whole.fit(settings, checkpoint=tmp_path / "whole.pt")

    class StopError(Exception):
        pass

    def until(limit: int, done: int) -> None:
        if done >= limit:
            raise StopError

    for limit in (7, 23, 24):  # in the second epoch, in the fifth, and as it ends
        part = Task()
        with pytest.raises(StopError):
            part.fit(settings, checkpoint=tmp_path / "part.pt", progress=lambda w, d, t, limit=limit: until(limit, d))
    part = Task()
    history = part.fit(settings, checkpoint=tmp_path / "part.pt")
    for ours, theirs in zip(part.state(), whole.state(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    strip = [(e.number, e.loss, e.accuracy, e.held_loss, e.held_accuracy) for e in history.epochs]
    assert strip == [(e.number, e.loss, e.accuracy, e.held_loss, e.held_accuracy) for e in expected.epochs]
    again = Task()
    assert len(again.fit(settings, checkpoint=tmp_path / "part.pt").epochs) == 9, "what is done is not done again"
    np.testing.assert_array_equal(again.state()[0], whole.state()[0])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from test_fit import Settings, Task
task = Task()
slow = float(sys.argv[3])
task.fit(Settings(epochs=6, batch=4, rate=.3), checkpoint=Path(sys.argv[2]), progress=lambda w, d, t: time.sleep(slow))
np.savez(sys.argv[2] + ".npz", *task.state())
"""


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    words = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(path)]
    child = subprocess.Popen([*words, "0.02"])
    try:
        end = time.monotonic() + 60
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.25)  # into an epoch
        assert child.poll() is None
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not Path(f"{path}.npz").exists()
    subprocess.run([*words, "0"], check=True, timeout=120)
    whole = Task()
    whole.fit(Settings(epochs=6, batch=4, rate=0.3))
    with np.load(f"{path}.npz") as arrays:
        for name, expected in zip(arrays.files, whole.state(), strict=True):
            np.testing.assert_array_equal(arrays[name], expected)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    path, settings = tmp_path / "run.pt", Settings(epochs=2, rate=0.3)
    Task().fit(settings, checkpoint=path)
    others: list[tuple[Settings, dict[str, object]]] = [
        (Settings(epochs=3, rate=0.3), {}),
        (settings, {"identity": "another loss"}),
    ]
    for other, more in others:
        with pytest.raises(HsnnError, match="E0552"):
            Task().fit(other, checkpoint=path, **more)
    moved = Task()
    with torch.no_grad():
        moved.parameters["w"] += 1
    with pytest.raises(HsnnError, match="E0552"):
        moved.fit(settings, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(HsnnError, match="E0552"):
        Task().fit(settings, checkpoint=path)
    (tmp_path / "file").write_text("")
    with pytest.raises(HsnnError, match="E0552"):
        Task().fit(settings, checkpoint=tmp_path / "file" / "run.pt")


def test_settings_are_refused_together() -> None:
    wrong = Settings(epochs=-1, batch=0, optimiser="lbfgs", rate=math.nan, patience=-2)
    with pytest.raises(HsnnError) as caught:
        Task().fit(wrong)
    assert [finding.code for finding in caught.value.findings] == ["E0212"] * 5
    if not torch.cuda.is_available():
        with pytest.raises(HsnnError, match="no GPU"):
            Task().fit(Settings(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")
def test_a_gpu_trains_as_the_cpu_does() -> None:
    found = []
    for device in ("cpu", "cuda"):
        task = Task()
        task.parameters = {n: t.detach().to(device).requires_grad_() for n, t in task.parameters.items()}
        task.buffers = {n: t.to(device) for n, t in task.buffers.items()}
        task.fit(Settings(epochs=5, batch=8, rate=0.1, device=device))
        found.append(task.parameters["w"].detach().cpu().numpy())
    np.testing.assert_allclose(*found, atol=1e-5)


def test_samples_are_split_once_and_for_all() -> None:
    train, held = split(100, 0.1, 3)
    assert (len(train), len(held)) == (90, 10)
    assert sorted([*train, *held]) == list(range(100))
    np.testing.assert_array_equal(held, split(100, 0.1, 3)[1])
    assert [len(part) for part in split(2, 0.01, 0)] == [1, 1]
