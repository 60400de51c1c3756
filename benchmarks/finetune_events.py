"""From direct coding to events, with and without training: the digits network of examples/digits on TTFS events.

    python benchmarks/finetune_events.py [--seeds 3] [--epochs 10] [--timesteps 8] [--samples 0] [--batch 64] [--rate 0]

`digits_direct.pt` was trained on its input as a constant current. Here that input comes as one spike per pixel and
window, and the first layer's neurons see it as it comes: as they are (``naive``) or after each layer was mapped to the
new statistics (``mapped``), then trained on the 1,437 training images (``--samples``: on so many of them), plainly or
with the network under direct coding as teacher. A tenth choose the epoch. Accuracy on the 360 test images, of which
none was trained on or calibrated with.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from conversion_nets import data
from finetune_blocks import BEFORE_TRAINING, accuracy

from hsnn_compiler.driver import capture_model
from hsnn_compiler.finetune import Finetune
from hsnn_compiler.loading import load_model
from hsnn_compiler.passes.base import PassContext
from hsnn_compiler.passes.finetune_events import FinetuneEvents
from hsnn_compiler.passes.pipeline import parse_pipeline, run_pipeline

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_direct.pt"
CALIBRATION = 256
MAPPINGS = {"naive": "none", "mapped": "statistics"}
WAYS = {
    "plain fine-tuning": FinetuneEvents(alpha=1.0),
    "self-distillation": FinetuneEvents(),
    "self-distillation, rates": FinetuneEvents(engine="rate"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--samples", type=int, default=0, help="of the training images; 0 for all")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0, help="learning rate; 0 for the one that goes with the batch")
    options = parser.parse_args()
    images = data("six")
    graph, _ = capture_model(load_model(MODEL).module, images.x_train[:CALIBRATION], "digits")
    print(f"under direct coding {accuracy(graph, images):.2f} %")
    for mapping, setting in MAPPINGS.items():
        context = PassContext(timesteps=options.timesteps, calibration=images.x_train[:CALIBRATION], encode="ttfs")
        passes = parse_pipeline(f"{BEFORE_TRAINING},calibrate-thresholds,map-surrogate-to-events{{mapping={setting}}}")
        stages = [stage.result.graph for stage in run_pipeline(graph, passes, context)]
        teacher, start = stages[-4], stages[-1]
        print(f"{mapping}: {accuracy(start, images):.2f} %", flush=True)
        for way, item in WAYS.items():
            found = []
            for seed in range(options.seeds):
                chosen = np.random.default_rng(seed).permutation(len(images.x_train))[: options.samples or None]
                given = Finetune((images.x_train[chosen], images.y_train[chosen]), epochs=options.epochs)
                here = replace(context, finetune=given, teacher=teacher)
                train = replace(item, seed=seed, batch=options.batch, rate=options.rate)
                (stage,) = run_pipeline(start, [train], here)
                found.append(accuracy(stage.result.graph, images))
            each = ", ".join(f"{one:.2f}" for one in found)
            print(f"  {way:26} {statistics.mean(found):6.2f} % ({each})", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
