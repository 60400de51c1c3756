"""Compile trained PyTorch networks (ANN, spiking, hybrid) to neuromorphic hardware.

import hsnn_compiler as hc
program = hc.compile(model, target="loihi2", calibration=x, timesteps=16)
program.save("compiled")
result = hc.load("compiled").simulate(x, backend="reference")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Program", "compile", "load"]

if TYPE_CHECKING:
    from hsnn_compiler.driver import compile, load  # noqa: A004
    from hsnn_compiler.program import Program


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used: ``import hsnn_compiler`` stays fast."""
    if name in ("compile", "load"):
        from hsnn_compiler import driver

        return getattr(driver, name)
    if name == "Program":
        from hsnn_compiler.program import Program

        return Program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
