"""Block-wise distillation on digits: which hybrids pay, against plain fine-tuning, by how the network was converted.

    python benchmarks/finetune_blocks.py [--network six] [--seeds 3] [--timesteps 2,4] [--conversions max,auto]
                                         [--epochs 6] [--samples 0] [--models DIR] [--json FILE]

The six-convolution network of `conversion_nets.py` is converted with thresholds at the largest activation (``max``, the
plain conversion of 2015, which leaves much to win back) or as the compiler does by default (``auto``), and trained with
each of `WAYS` on the training images (``--samples``: on so many of them). A tenth of these are held out to choose the
epoch. Tested on the 360 test images and nine turned and moved copies of each: 3,600, none of which was trained on.
Cosine: of the rates at the end of a block and the activations that they stand for, on held-out images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from conversion_nets import Data, data, moved, trained

from hsnn_compiler.driver import capture_model
from hsnn_compiler.finetune import Finetune
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.distill import Distill
from hsnn_compiler.passes.pipeline import parse_pipeline, run_pipeline
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.report.table import Table

CALIBRATION, COPIES = 256, 9
BEFORE_TRAINING = (
    "remove-noops,lower-spike-logic,fold-batchnorm,split-leaky-relu,lower-max-pooling,partition,convert-activations"
)
CONVERSIONS = {"max": "calibrate-thresholds{method=max,correct=none,mixtures=false}", "auto": "calibrate-thresholds"}
WAYS = {
    "labels alone": Distill(alpha=0.0, branches="none", similarity=0.0),
    "no hybrids": Distill(branches="none", similarity=0.0),
    "last hybrid": Distill(branches="last", similarity=0.0),
    "all hybrids": Distill(branches="all", similarity=0.0),
    "all hybrids, rate engine": Distill(branches="all", similarity=0.0, engine="rate"),
    "all hybrids, similar rates": Distill(),
}


@dataclass(frozen=True)
class Run:
    """One training: accuracies in percent, cosines by block, seconds."""

    way: str
    conversion: str
    timesteps: int
    seed: int
    source: float
    before: float
    after: float
    cosine_before: dict[str, float]
    cosine_after: dict[str, float]
    kept: int
    seconds: float


def accuracy(graph: Graph, images: Data) -> float:
    return 100 * FloatExecutor(graph, method="auto").run(images.x_test).accuracy(images.y_test)


def runs(network: str, seed: int, steps: int, conversion: str, options: argparse.Namespace) -> Iterator[Run]:
    plain = data(network)
    images = moved(plain, COPIES)
    model = trained(network, seed, plain, options.models)
    graph, _ = capture_model(model, plain.x_train[:CALIBRATION], network)
    chosen = np.random.default_rng(seed).permutation(len(plain.x_train))[: options.samples or None]
    given = Finetune((plain.x_train[chosen], plain.y_train[chosen]), epochs=options.epochs)
    context = PassContext(timesteps=steps, calibration=plain.x_train[:CALIBRATION], finetune=given)
    passes = parse_pipeline(f"{BEFORE_TRAINING},{CONVERSIONS[conversion]}")
    stages = [stage.result.graph for stage in run_pipeline(graph, passes, context)]
    teacher, converted = stages[-3], stages[-1]
    source, before = accuracy(teacher, images), accuracy(converted, images)
    context = replace(context, teacher=teacher)
    for way, item in WAYS.items():
        (stage,) = run_pipeline(converted, [replace(item, seed=seed)], context)
        kept = int(stage.result.tables[0].notes[0].split("epoch ")[1].split(" ")[0])
        first, best = (_cosines(stage.result.tables[0], number) for number in (0, kept))
        after = accuracy(stage.result.graph, images)
        yield Run(way, conversion, steps, seed, source, before, after, first, best, kept, stage.seconds)


def _cosines(table: Table, epoch: int) -> dict[str, float]:
    row = next(row for row in table.to_dicts()["rows"] if row["epoch"] == epoch)
    return {name.split(" ")[1]: value for name, value in row.items() if name.startswith("cosine ")}


def show(found: list[Run]) -> None:
    for conversion, steps in dict.fromkeys((run.conversion, run.timesteps) for run in found):
        here = [run for run in found if (run.conversion, run.timesteps) == (conversion, steps)]
        source, before = (statistics.mean(getattr(run, name) for run in here) for name in ("source", "before"))
        print(f"\n{conversion}, T = {steps}: before conversion {source:.2f} %, before training {before:.2f} %")
        for way in dict.fromkeys(run.way for run in here):
            part = [run for run in here if run.way == way]
            after = [run.after for run in part]
            cosines = ", ".join(
                f"{block} {_mean(part, 'cosine_before', block):.3f} -> {_mean(part, 'cosine_after', block):.3f}"
                for block in part[0].cosine_before
            )
            seconds = statistics.mean(run.seconds for run in part)
            each = ", ".join(f"{value:.2f}" for value in after)
            print(f"  {way:26} {statistics.mean(after):6.2f} % ({each})  {seconds:5.1f} s  cosine {cosines}")


def _mean(part: list[Run], name: str, block: str) -> float:
    return statistics.mean(getattr(run, name)[block] for run in part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="six")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", default="2,4")
    parser.add_argument("--conversions", default="max,auto")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=0, help="training images; 0 for all 1,437")
    parser.add_argument("--models", type=Path, help="folder that keeps the trained networks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.models = options.models or Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    found: list[Run] = []
    for conversion in options.conversions.split(","):
        for steps in map(int, options.timesteps.split(",")):
            for seed in range(options.seeds):
                for run in runs(options.network, seed, steps, conversion, options):
                    found.append(run)
                    print(f"{conversion} T={steps} seed {seed} {run.way}: {run.before:.2f} -> {run.after:.2f} %"
                          f" of {run.source:.2f} %, {run.seconds:.1f} s", flush=True)  # fmt: skip
                    if options.json:
                        options.json.write_text(json.dumps([vars(run) for run in found], indent=1))
    show(found)


if __name__ == "__main__":
    main()
