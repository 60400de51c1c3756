"""The main job on real images: two trained models become Loihi 2 programs that run on Lava.

Loads the shipped models, compiles them, runs the whole test set on the integer reference and
some of it on Lava's CPU backend, and compares every spike, current and membrane potential of
every layer. Trains nothing. Writes the bundles to demo-out/.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

import hsnn_compiler as hc
from hsnn_compiler.cli.show import progress
from hsnn_compiler.data import Data, load_arrays
from hsnn_compiler.loading import load_model
from hsnn_compiler.verify.traces import compare

HERE = Path(__file__).parent
MODELS = ("digits_cnn", "digits_direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lava-images", type=int, default=20)
    parser.add_argument("--svg", type=Path, help="also write the table as a picture")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options = parser.parse_args()
    table = Table(title="Accuracy on scikit-learn's digits", title_justify="left", box=box.SIMPLE)
    for column in ("", *MODELS):
        table.add_column(column, justify="left" if not column else "right")
    columns = [run_model(name, options.lava_images, options.out) for name in MODELS]
    for row in columns[0]:
        table.add_row(row, *(column[row] for column in columns))
    out = Console(record=options.svg is not None, width=90 if options.svg else None)
    out.print(table)
    if options.svg:
        out.save_svg(str(options.svg), title="make demo")
    python = os.path.relpath(sys.executable)
    print(f"bundles in {options.out}/; one of them by hand: {python} {options.out}/digits_cnn.loihi2/network.py")


def run_model(name: str, lava_images: int, out: Path) -> dict[str, str]:
    test, calib = load_arrays(HERE / "digits_test.npz"), load_arrays(HERE / "digits_calib.npz")
    model = load_model(HERE / f"{name}.pt").module
    start = time.perf_counter()
    program = hc.compile(model, target="loihi2", calibration=calib.x, name=name)
    program.save(out / f"{name}.loihi2")
    compiled = time.perf_counter() - start
    with progress() as bar:
        floating = program.simulate(test.x, "float", progress=lambda d, n: bar("float SNN", d, n))
        start = time.perf_counter()
        integer = program.simulate(test.x, "reference", progress=lambda d, n: bar("integer reference", d, n))
        seconds = time.perf_counter() - start
        signals = [(population, variable) for population in program.populations for variable in "suv"]
        some = Data(test.x[:lava_images], None if test.y is None else test.y[:lava_images])
        reference = program.simulate(some.x, "reference", signals)
        lava = program.simulate(some.x, "lava", signals, progress=lambda d, n: bar("Lava", d, n))
    spikes = sum(lava.spikes.values())
    differences = dict.fromkeys("suv", 0)
    for difference in compare(lava, reference):
        differences[difference.signal[1]] += difference.different
    images = f"first {lava_images} images"
    return {
        "compiled in": f"{compiled:.1f} s",
        "time steps per image": str(program.timesteps),
        f"PyTorch, {len(test.x)} images": percent(accuracy_of(model, test)),
        "float SNN": percent(floating.accuracy(test.y)),
        "integer program": percent(integer.accuracy(test.y)),
        "  run time": f"{seconds:.1f} s",
        f"integer program, {images}": percent(reference.accuracy(some.y)),
        f"Lava, {images}": percent(lava.accuracy(some.y)),
        "spikes identical to Lava": yes(differences["s"]),
        "  spikes fired, all layers": f"{spikes:,}",
        "u and v identical to Lava": yes(differences["u"] + differences["v"]),
    }


def accuracy_of(model: torch.nn.Module, data: Data) -> float:
    with torch.no_grad():
        return float((model(torch.from_numpy(data.x)).argmax(1).numpy() == np.asarray(data.y)).mean())


def percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def yes(different: int) -> str:
    return "yes" if different == 0 else f"no: {different:,} differ"


if __name__ == "__main__":
    main()
