"""Fine-tuning on digits: accuracy, time and memory of each method, and memory by the number of time steps.

    python benchmarks/finetune.py [--network cnn] [--seeds 3] [--timesteps 2,4] [--epochs 6] [--conversion max]
                                  [--memory 2,8,32] [--batch 256] [--models DIR] [--json FILE]

A network trained on scikit-learn's digits (``cnn``, that of examples/digits, or one of `conversion_nets.py`) is
converted, with thresholds at the largest activation (``max``, which leaves much to win back) or as the compiler does
by default (``auto``), and trained with each of `WAYS` on the training images; a tenth of them choose the epoch.
Accuracy on the 360 test images and nine turned and moved copies of each, none of which was trained on.

Every number comes from a process of its own, with one thread. Peak memory is what the process had at most while it
trained (VmHWM, reset as training begins), less what it had just before; freed memory is given back at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from conversion_nets import NETWORKS, data, moved, trained
from finetune_blocks import BEFORE_TRAINING, CALIBRATION, CONVERSIONS, COPIES, accuracy
from train import cnn

from hsnn_compiler.driver import capture_model
from hsnn_compiler.finetune import Finetune
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.distill import Distill
from hsnn_compiler.passes.pipeline import parse_pipeline, run_pipeline
from hsnn_compiler.passes.training import engine
from hsnn_compiler.training.fit import fit, split
from hsnn_compiler.training.history import Settings, Step

WAYS = {
    "through time": Distill(branches="none", similarity=0.0),
    "rates": Distill(branches="none", similarity=0.0, engine="rate"),
    "by blocks, through time": Distill(),
    "by blocks, rates": Distill(engine="rate"),
}
ENGINES = {"through time": "bptt", "rates": "rate"}
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives memory back as it is freed, so that what a process has is what it uses."""
NETWORKS.setdefault("cnn", (cnn, 1))


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


class Peak:
    """Memory above what there was at first, and time. What optimisers import is loaded before."""

    def __init__(self) -> None:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()
        Path("/proc/self/clear_refs").write_text("5")
        self.first, self.start = status("VmRSS"), time.perf_counter()

    def read(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self.start, "memory": status("VmHWM") - self.first}


def converted(task: dict[str, Any]) -> tuple[list[Graph], PassContext]:
    """The graphs after each pass before training."""
    plain = data(task["network"])
    model = trained(task["network"], task["seed"], plain, Path(task["models"]))
    graph, _ = capture_model(model, plain.x_train[:CALIBRATION], task["network"])
    given = Finetune((plain.x_train, plain.y_train), epochs=task["epochs"])
    context = PassContext(timesteps=task["timesteps"], calibration=plain.x_train[:CALIBRATION], finetune=given)
    passes = parse_pipeline(f"{BEFORE_TRAINING},{CONVERSIONS[task['conversion']]}")
    return [stage.result.graph for stage in run_pipeline(graph, passes, context)], context


def train_once(task: dict[str, Any]) -> dict[str, float]:
    """One training of one method: accuracies in percent, seconds, MB."""
    stages, context = converted(task)
    images = moved(data(task["network"]), COPIES)
    teacher, graph = stages[-3], stages[-1]
    found = {"source": accuracy(teacher, images), "before": accuracy(graph, images)}
    item = replace(WAYS[task["way"]], seed=task["seed"])
    peak = Peak()
    (stage,) = run_pipeline(graph, [item], replace(context, teacher=teacher))
    return {**found, **peak.read(), "after": accuracy(stage.result.graph, images)}


def measure_memory(task: dict[str, Any]) -> dict[str, float]:
    """Cross-entropy alone, as many epochs as asked for: seconds of an epoch after the first one, MB."""
    stages, _ = converted(task)
    plain = data(task["network"])
    student = engine(ENGINES[task["way"]])(stages[-1])

    def step(x: torch.Tensor, y: torch.Tensor) -> Step:
        outputs = student(x)
        return Step(F.cross_entropy(outputs, y), int((outputs.argmax(1) == y).sum()))

    two = (torch.from_numpy(array[:2]) for array in (plain.x_train, plain.y_train))
    step(*two).loss.backward()  # loads code and libraries
    for parameter in student.parameters.values():
        parameter.grad = None
    rows, held = split(len(plain.x_train), 0.1, task["seed"])
    settings = Settings(epochs=task["epochs"], batch=task["batch"], optimiser="adam", seed=task["seed"])
    arrays = (plain.x_train, plain.y_train)
    peak = Peak()
    chosen = [tuple(array[index] for array in arrays) for index in (rows, held)]
    history = fit(step, student.parameters, chosen[0], chosen[1], settings)
    seconds = min(epoch.seconds for epoch in history.epochs[1:])
    return {**peak.read(), "seconds": seconds}


def child(task: dict[str, Any]) -> dict[str, Any]:
    """Do a task in a process of its own; the task and what was measured."""
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **GIVE_BACK})
    if done.returncode:
        raise SystemExit(f"{task}\n{done.stderr}")
    found: dict[str, Any] = {**task, **json.loads(done.stdout.splitlines()[-1])}
    return found


def show(found: list[dict[str, Any]]) -> None:
    """Both tables."""
    runs = [run for run in found if run["task"] == "train"]
    for steps in dict.fromkeys(run["timesteps"] for run in runs):
        here = [run for run in runs if run["timesteps"] == steps]
        source, before = _mean(here, "source"), _mean(here, "before")
        print(f"\nT = {steps}: before conversion {source:.2f} %, before training {before:.2f} %")
        for way in dict.fromkeys(run["way"] for run in here):
            part = [run for run in here if run["way"] == way]
            each = ", ".join(f"{run['after']:.2f}" for run in part)
            cost = f"{_mean(part, 'seconds'):6.1f} s {_mean(part, 'memory'):7.1f} MB"
            print(f"  {way:26} {_mean(part, 'after'):6.2f} % ({each}) {cost}")
    runs = [run for run in found if run["task"] == "memory"]
    if runs:
        print("\nMemory (MB above the start) and seconds per epoch")
    for way in dict.fromkeys(run["way"] for run in runs):
        part = [run for run in runs if run["way"] == way]
        cells = [f"T={run['timesteps']}: {run['memory']:7.1f} MB {run['seconds']:6.2f} s" for run in part]
        most, least = (pick(run["memory"] for run in part) for pick in (max, min))
        print(f"  {way:14} {'   '.join(cells)}   largest/smallest {most / least:.2f}")


def _mean(part: list[dict[str, Any]], name: str) -> float:
    return statistics.mean(run[name] for run in part)


def tasks(options: argparse.Namespace) -> list[dict[str, Any]]:
    same = {"network": options.network, "conversion": options.conversion, "models": str(options.models)}
    memory = [
        {**same, "task": "memory", "way": way, "timesteps": steps, "seed": 0, "epochs": 2, "batch": options.batch}
        for way in ENGINES
        for steps in options.memory
    ]
    training = [
        {**same, "task": "train", "way": way, "timesteps": steps, "seed": seed, "epochs": options.epochs}
        for steps in options.timesteps
        for way in WAYS
        for seed in range(options.seeds)
    ]
    return memory + training


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cnn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", type=numbers, default=[2, 4])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--conversion", default="max", choices=CONVERSIONS)
    parser.add_argument("--memory", type=numbers, default=[2, 8, 32], help="numbers of time steps")
    parser.add_argument("--batch", type=int, default=256, help="for --memory")
    parser.add_argument("--models", type=Path, help="folder that keeps the trained networks")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        task = json.loads(options.child)
        print(json.dumps({"train": train_once, "memory": measure_memory}[task["task"]](task)))
        return
    options.models = options.models or Path(tempfile.mkdtemp())
    plain = data(options.network)
    for seed in range(options.seeds):
        trained(options.network, seed, plain, options.models)
    found: list[dict[str, Any]] = []
    for task in tasks(options):
        found.append(child(task))
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in found[-1].items()
               if key not in ("models", "network", "conversion")}, flush=True)  # fmt: skip
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
