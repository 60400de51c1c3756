"""Read what a pickle names and calls, without running any of it.

A pickle is a program for a small stack machine: GLOBAL pushes a class or function by
name, REDUCE calls what lies on the stack. `scan_pickle` walks the opcodes with the
standard library's ``pickletools`` and keeps a stack on which only names and strings
are known, which is enough to tell which globals the program mentions and which of
them it calls.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass(frozen=True)
class Global:
    """A class or function that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Scan:
    """What one or several pickles name.

    Attributes:
        named: every class or function, in order of appearance.
        called: those that the pickle calls with arguments of its own choice. Objects
            made by bare ``__new__`` and then filled, as modules are, do not count.
        protocol: the highest pickle protocol declared.
        stores_source: whether layer classes come with their source code, as torch's
            legacy format writes them (persistent ids ``("module", class, file, source)``).
    """

    named: list[Global] = field(default_factory=list)
    called: set[Global] = field(default_factory=set)
    protocol: int = 0
    stores_source: bool = False

    def add(self, found: Global) -> Global:
        """Note a global and return it."""
        if found not in self.named:
            self.named.append(found)
        return found


# The abstract stack holds a Global, a string, a tuple of these, the mark, or None for the rest.
_MARK = object()


def _global(module: str, name: str) -> Global:
    """A global under its Python 3 name (protocol 2 writes ``__builtin__ eval``)."""
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    elif module in IMPORT_MAPPING:
        module = IMPORT_MAPPING[module]
    return Global(module, name)


def scan_pickle(stream: IO[bytes], scan: Scan) -> None:
    """Add to ``scan`` what the next pickle of ``stream`` names; stop behind it.

    Raises:
        ValueError: the bytes are no complete pickle.
    """
    try:
        _walk(stream, scan)
    except (IndexError, KeyError, UnicodeError, OverflowError, MemoryError) as error:
        raise ValueError(f"not a valid pickle: {error!r}") from error


def _walk(stream: IO[bytes], scan: Scan) -> None:
    stack: list[object] = []
    memo: dict[int, object] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "PROTO":
            scan.protocol = max(scan.protocol, argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "BUILD":
            stack.pop()  # the state; the object it went into stays
        elif name == "GLOBAL":
            stack.append(scan.add(_global(*argument.split(" ", 1))))
        else:
            taken = _take(stack, opcode)
            stack.extend(_push(scan, opcode, argument, taken))


def _take(stack: list[object], opcode: pickletools.OpcodeInfo) -> list[object]:
    """Pop what an opcode consumes, in stack order and without the mark."""
    before = opcode.stack_before
    taken: list[object] = []
    if pickletools.markobject in before:
        while (value := stack.pop()) is not _MARK:
            taken.insert(0, value)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.insert(0, stack.pop())
    return taken


def _push(scan: Scan, opcode: pickletools.OpcodeInfo, argument: object, taken: list[object]) -> list[object]:
    """What an opcode leaves on the stack; notes the calls it makes."""
    if opcode.name == "STACK_GLOBAL":
        module, name = taken
        return [scan.add(_global(str(module), str(name)))]
    if opcode.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
        return [tuple(taken)]
    if opcode.name == "BINPERSID":
        identity = taken[0]
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            scan.stores_source = True
            return [identity[1]]
    if opcode.name == "INST":
        scan.called.add(scan.add(_global(*str(argument).split(" ", 1))))
    elif opcode.name in ("REDUCE", "OBJ") and isinstance(taken[0], Global):
        scan.called.add(taken[0])
    elif isinstance(argument, str) and len(opcode.stack_after) == 1:
        return [argument]
    return [None] * len(opcode.stack_after)
