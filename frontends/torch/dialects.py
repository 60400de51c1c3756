"""Libraries of spiking neurons, each with a frontend of its own that is loaded when a model uses it.

A frontend is a module that registers leaf classes (`registry.module`) and how their neurons forget
(`stateful.resets`). Other packages add theirs as entry points of the group ``hsnn_compiler.frontends``,
named after the library's top-level module.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points

GROUP = "hsnn_compiler.frontends"
_loaded: set[str] = set()


def load_dialects() -> None:
    """Load the frontends of all libraries that have been imported."""
    for entry in entry_points(group=GROUP):
        if entry.name in sys.modules and entry.name not in _loaded:
            _loaded.add(entry.name)
            importlib.import_module(entry.value)
