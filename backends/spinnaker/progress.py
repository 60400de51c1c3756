"""What a child process says of its progress, in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hsnn_compiler.backends.spinnaker.execute import Progress


def watcher(path: Path, progress: Progress | None) -> Callable[[], None]:
    """What looks into the file, which holds [done, all], and calls `progress` when there is news."""
    shown: list[int] = []

    def look() -> None:
        if progress is None or not path.exists():
            return
        try:
            done, total = json.loads(path.read_text("utf-8"))
        except ValueError:  # just being written
            return
        if shown != [done, total]:
            shown[:] = [done, total]
            progress(done, total)

    return look
