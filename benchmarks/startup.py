"""How long the command line takes to answer: medians, against an empty Python."""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import hsnn_compiler": [sys.executable, "-c", "import hsnn_compiler"],
    "hsnn-compile --help": [sys.executable, "-c", "from hsnn_compiler.cli.main import main; main()", "--help"],
}
ROUNDS = 9


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["python -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<24}{1000 * median:8.0f} ms   {median / base:5.1f} x an empty Python")


if __name__ == "__main__":
    main()
