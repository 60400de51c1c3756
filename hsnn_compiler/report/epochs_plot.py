"""The epochs of a training as a picture: loss and accuracy, and beside them what else was measured."""

from __future__ import annotations

from pathlib import Path

from hsnn_compiler.report.sweep_plot import COLOURS, GRID, INK, MARKERS, require_matplotlib
from hsnn_compiler.training.history import History


def draw_epochs(history: History, title: str, path: Path) -> None:
    """Write a picture in the format that the file's suffix names; the same history gives the same bytes.

    Left: accuracy on the data trained on and on held-out data, and on another axis the losses. Right: what was logged
    after each epoch, such as the cosine of rates to activations, one line each. A vertical line is at the epoch whose
    state was kept; epoch 0 is before training.

    Raises:
        HsnnError: E0703 without matplotlib.
    """
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    epochs = history.epochs
    numbers = [epoch.number for epoch in epochs]
    with mpl.rc_context({"svg.hashsalt": "hsnn-compiler", "font.size": 10, "axes.edgecolor": INK}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        trained = epochs[1:]
        accuracies = [100 * (epoch.accuracy or 0) for epoch in trained]
        left.plot(numbers[1:], accuracies, MARKERS[0], ls="--", ms=3, color=COLOURS[0], label="accuracy, training")
        held = [100 * epoch.held_accuracy for epoch in epochs]
        left.plot(numbers, held, MARKERS[0], ls="-", ms=4, color=COLOURS[0], label="accuracy, held out")
        losses = left.twinx()
        # The training loss has the hybrids' losses in it; only the held-out one is the network's own.
        losses.plot(numbers, [epoch.held_loss for epoch in epochs], ls=":", color=COLOURS[1], label="loss, held out")
        losses.set(yscale="log", ylabel="loss")
        left.set(title=title, ylabel="% of samples")
        for number, name in enumerate(epochs[0].logged):
            values = [epoch.logged[name] for epoch in epochs]
            marker, colour = MARKERS[number % len(MARKERS)], COLOURS[number % len(COLOURS)]
            right.plot(numbers, values, marker, ls="-", ms=4, color=colour, label=name)
        right.set(title="similarity to the network before conversion")
        for axes in (left, right):
            axes.axvline(history.best, color="#777777", lw=1, ls="-.")
            axes.set_xlabel("epoch")
            axes.grid(color=GRID, lw=0.8)
            axes.set_axisbelow(True)
            axes.spines["top"].set_visible(False)
        lines, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (left, losses)), strict=True))
        left.legend(lines, labels, frameon=False, loc="center right", fontsize=9)
        if epochs[0].logged:
            right.legend(frameon=False, loc="lower right", fontsize=9)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
