"""Accuracy of converted networks by number of time steps, beside SpikingJelly's conversion, in one run.

    python benchmarks/conversion.py [--networks six,vgg] [--seeds 3] [--timesteps 1,2,4,8,16]
                                    [--moved 9] [--plot FILE] [--json FILE]

Networks trained on scikit-learn's digits (`conversion_nets.py`) are converted with 256 calibration images by our
pipeline in its default settings (`auto`), and in each of the settings that `auto` chooses from; and by SpikingJelly's
recipes in several settings with 1,200 images, of which the best at each T on the test images is shown. All take the
image as a constant current. Accuracy on 360 test images, mean over the seeds: one image of one seed is 0.09 points of
three, so that gaps of 0.3 points are noise; `--moved` makes more test images. `auto, 8-bit integers` is the whole
compilation: Loihi's arithmetic.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import conversion_peers
import numpy as np
import torch
from conversion_nets import NETWORKS, Data, data, moved, trained

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import capture_model, lower
from hsnn_compiler.options import Options
from hsnn_compiler.passes.calibration.thresholds import WAYS
from hsnn_compiler.reference.float_executor import FloatExecutor

CALIBRATION, FEW = 256, 64
PEER_CALIBRATION = 1200
AUTO, INTEGERS, PEER = "auto", "auto, 8-bit integers", "SpikingJelly, best of its settings"
MORE: dict[str, dict[str, object]] = {
    "ttfs": {"coding": "ttfs"},
    "graded spikes, up to 15": {"max_spikes": 15},
    "reset to zero": {"reset": "zero"},
}
"""Other ways to spike, each with `auto` calibration."""

Results = dict[str, dict[int, list[float]]]


@dataclass(frozen=True)
class Case:
    """One trained network and its images."""

    model: torch.nn.Module
    images: Data

    def accuracy(self, outputs: np.ndarray) -> float:
        return 100 * float((outputs.argmax(1) == self.images.y_test).mean())

    def source(self) -> float:
        with torch.no_grad():
            return self.accuracy(self.model(torch.from_numpy(self.images.x_test)).numpy())


def ours(
    case: Case, steps: int, calibrate: str = "", samples: int = CALIBRATION, **options: object
) -> tuple[float, float]:
    """Accuracy of the converted network in real numbers, and in the chip's integers."""
    calibration = case.images.x_train[:samples]
    graph, _ = capture_model(case.model, calibration, "benchmark")
    given = Options(timesteps=steps, target="loihi2-kapoho-point", **options)  # type: ignore[arg-type]
    pipeline = given.pipeline.replace("calibrate-thresholds", f"calibrate-thresholds{calibrate}")
    program = lower(graph, Options(**{**vars(given), "pipeline": pipeline}), calibration)
    x = case.images.x_test
    real = FloatExecutor(program.floating, method="auto").run(x).output
    return case.accuracy(real), case.accuracy(program.simulate(x).output)


def measure(case: Case, timesteps: list[int], others: bool) -> Iterator[tuple[str, int, float]]:
    """(setting, T, accuracy) of everything."""
    for steps in timesteps:
        real, integers = ours(case, steps)
        yield AUTO, steps, real
        yield INTEGERS, steps, integers
        if others:
            yield f"auto, {FEW} images", steps, ours(case, steps, samples=FEW)[0]
            yield "auto, no mixtures", steps, ours(case, steps, "{mixtures=false}")[0]
        for way in WAYS if others else ():
            yield str(way), steps, ours(case, steps, f"{{method={way.method},correct={way.correct}}}")[0]
        for name, options in MORE.items() if others else ():
            try:
                yield name, steps, ours(case, steps, **options)[0]
            except HsnnError as error:
                print(f"  {name}, T={steps}: {error.findings[0].code}")
    images = case.images
    for name, setting in conversion_peers.settings().items():
        found = conversion_peers.accuracies(
            setting, case.model, images.x_train[:PEER_CALIBRATION], images.x_test, images.y_test, timesteps
        )
        for steps, accuracy in found.items():
            yield f"SpikingJelly: {name}", steps, accuracy


def with_best_peer(results: Results) -> Results:
    """A row for the peer's best setting at each T, chosen by its mean on the test images."""
    peers = [by_step for name, by_step in results.items() if name.startswith("SpikingJelly")]
    if not peers:
        return results
    best = {steps: max((by_step[steps] for by_step in peers), key=statistics.mean) for steps in peers[0]}
    return {**results, PEER: best}


def show(network: str, source: list[float], results: Results, timesteps: list[int]) -> None:
    print(f"\n{network}: ANN {statistics.mean(source):.2f} %, mean of {len(source)}")
    print(f"  {'':44}" + "".join(f"T={steps:<7}" for steps in timesteps))
    for name, by_step in results.items():
        cells = [f"{statistics.mean(by_step[s]):<9.2f}" if s in by_step else f"{'-':<9}" for s in timesteps]
        print(f"  {name:44}" + "".join(cells))


def draw(found: dict[str, tuple[list[float], Results]], timesteps: list[int], path: Path) -> None:
    """Accuracy against T, one panel per network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(3.6 * len(found), 3.4), sharey=True, squeeze=False)
    styles = {
        AUTO: ("o-", "#0072b2"),
        INTEGERS: ("s--", "#56b4e9"),
        "mse": ("v:", "#999999"),
        "graded spikes, up to 15": ("^-", "#009e73"),
        PEER: ("D-", "#d55e00"),
    }
    for axis, (network, (source, results)) in zip(axes[0], found.items(), strict=True):
        axis.axhline(statistics.mean(source), color="grey", linestyle="--", linewidth=1, label="ANN")
        for name, (style, colour) in styles.items():
            if name in results:
                points = [
                    (steps, statistics.mean(results[name][steps])) for steps in timesteps if steps in results[name]
                ]
                axis.plot(*zip(*points, strict=True), style, color=colour, label=name, markersize=4, linewidth=1.3)
        axis.set(title=network, xlabel="time steps T", xscale="log", ylim=(88, 100.4))
        axis.set_xticks(timesteps, [str(steps) for steps in timesteps])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("test accuracy, %")
    axes[0][0].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", default="1,2,4,8,16")
    parser.add_argument("--moved", type=int, default=0, help="also test so many turned and moved copies of each image")
    parser.add_argument("--no-others", action="store_true", help="only auto and SpikingJelly")
    parser.add_argument("--models", type=Path, help="folder that keeps the trained networks")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    timesteps = [int(text) for text in arguments.timesteps.split(",")]
    models = arguments.models or Path(tempfile.mkdtemp())
    found = {}
    for network in arguments.networks.split(","):
        images = moved(data(network), arguments.moved)
        source: list[float] = []
        results: Results = defaultdict(lambda: defaultdict(list))
        for seed in range(arguments.seeds):
            case = Case(trained(network, seed, images, models), images)
            source.append(case.source())
            start = time.perf_counter()
            for name, steps, accuracy in measure(case, timesteps, not arguments.no_others):
                results[name][steps].append(accuracy)
            print(f"{network} {seed}: ANN {source[-1]:.2f} %, {time.perf_counter() - start:.0f} s", flush=True)
        found[network] = (source, with_best_peer(results))
        show(network, *found[network], timesteps)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))
    if arguments.plot:
        draw(found, timesteps, arguments.plot)


if __name__ == "__main__":
    main()
