"""Lines and arrays of a generated module, whatever network it builds."""

from __future__ import annotations

import keyword
import re
from typing import Any

import numpy as np

IMPORTS = {
    "ActivationMode": "from lava.proc.sdn.process import ActivationMode",
    "Conv": "from lava.proc.conv.process import Conv",
    "Delta": "from lava.proc.sdn.process import Delta",
    "Dense": "from lava.proc.dense.process import Dense",
    "LIF": "from lava.proc.lif.process import LIF",
    "LIFReset": "from lava.proc.lif.process import LIFReset",
    "RingBuffer": "from lava.proc.io.source import RingBuffer",
    "SigmaDelta": "from lava.proc.sdn.process import SigmaDelta",
    "Sparse": "from lava.proc.sparse.process import Sparse",
    "csr_matrix": "from scipy.sparse import csr_matrix",
}
OURS = {
    "AxonDelay", "Bias", "Collector", "FirstSpike", "OwnDecaysLIF", "Place", "Potential", "SampleBias", "SoftResetLIF",
    "Window", "host_stage",
}  # fmt: skip
_RESERVED = {"neurons", "steps"}


class Code:
    """A piece of source code among arguments that are printed with repr."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __repr__(self) -> str:
        return self.code


class Writer:
    """Collects what a module is made of.

    Attributes:
        lines: of the constructor's body.
        arrays: what goes into the file of arrays.
        used: names of the classes that have to be imported.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.used: set[str] = set()
        self._names: dict[str, str] = {}

    def process(self, kind: str, name: str, arguments: dict[str, Any]) -> str:
        """Construct a process; returns the expression that stands for it."""
        self.used.add(kind)
        variable = f"self.{self.identifier(name)}"
        self.lines.append(f"{variable} = {kind}(")
        self.lines += [f"    {key}={value!r}," for key, value in arguments.items()]
        self.lines.append(")")
        return variable

    def array(self, name: str, array: np.ndarray) -> Code:
        """The expression that stands for an array in the file."""
        self.arrays[name] = array
        return Code(f"arrays[{name!r}]")

    def identifier(self, name: str) -> str:
        """A Python name for a node, the same one each time."""
        if name not in self._names:
            text = re.sub(r"\W", "_", name)
            text = f"_{text}" if text[0].isdigit() or keyword.iskeyword(text) or text in _RESERVED else text
            taken = set(self._names.values())
            while text in taken:
                text += "_"
            self._names[name] = text
        return self._names[name]

    def body(self) -> str:
        """The constructor's lines, indented."""
        return "\n".join(f"        {line}" if line else "" for line in self.lines)

    def imports(self) -> str:
        """Import lines of everything from elsewhere that is used."""
        return "\n".join(IMPORTS[name] for name in sorted(self.used & IMPORTS.keys()))

    def ours(self, *more: str) -> str:
        """Names of our own that are used, and `more`."""
        return ", ".join(sorted({*(self.used & OURS), *more}))
