"""Pipelines: lists of passes, as text and as something that runs and is checked.

remove-noops,fold-batchnorm,calibrate-thresholds{method=mse,percentile=99.9}
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types
from hsnn_compiler.ir.spec import verify
from hsnn_compiler.passes.base import Pass, PassContext, PassResult
from hsnn_compiler.passes.properties import PROPERTIES
from hsnn_compiler.registry import MORE_PASSES, PASSES, PIPELINES, load_pass

DEFAULT_PIPELINE = ",".join(PASSES)
"""Of Loihi 2."""
_ITEM = re.compile(r"\s*([a-z0-9-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")


@dataclass(frozen=True)
class Stage:
    """One executed pass: what ran (with the options that it chose), what came out, how long it took."""

    item: Pass
    result: PassResult
    seconds: float


def default_pipeline(family: str) -> str:
    """Pipeline text of a family of targets."""
    return ",".join(PIPELINES[family])


def parse_pipeline(text: str) -> list[Pass]:
    """Read pipeline text. Unknown passes and options are refused together (E0212)."""
    passes: list[Pass] = []
    findings: list[Finding] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise refuse(
                "E0212",
                f"pipeline text not understood at {text[position:]!r}",
                supported="name{option=value,...},name,...",
            )
        position = match.end()
        name, options = match.group(1), match.group(2) or ""
        if name not in PASSES and name not in MORE_PASSES:
            known = ", ".join((*PASSES, *MORE_PASSES))
            findings.append(Finding("E0212", f"no pass named {name!r}", supported=known))
            continue
        cls = load_pass(name)
        try:
            passes.append(cls(**_options(cls, options)))
        except HsnnError as error:
            findings += error.findings
    if findings:
        raise HsnnError(findings)
    return passes


def to_text(passes: Sequence[Pass]) -> str:
    """Print a pipeline; options that have their default value are left out."""
    return ",".join(_pass_text(item) for item in passes)


def run_pipeline(
    graph: Graph,
    passes: Sequence[Pass],
    context: PassContext,
    observe: Callable[[int, Stage], None] | None = None,
) -> Iterator[Stage]:
    """Run passes one after the other, checking properties and the legality table after each.

    Yields every stage as it ends, so that a caller can show and keep it. Findings that are
    errors end the run as an `HsnnError` with all findings of that pass.
    """
    for item in passes:
        if item.name == "convert-activations":
            context = dataclasses.replace(context, teacher=graph)
        _check(item.requires, graph, f"{item.name} was given a graph")
        start = time.perf_counter()
        result = item.run(graph, context)
        errors = [finding for finding in result.findings if finding.is_error]
        if errors:
            raise HsnnError(result.findings)
        graph = infer_types(result.graph)
        problems = verify(graph)
        if problems:
            raise HsnnError([dataclasses.replace(p, message=f"after {item.name}: {p.message}") for p in problems])
        _check(item.ensures, graph, f"{item.name} left a graph")
        ran = result.chosen or item
        yield Stage(ran, dataclasses.replace(result, graph=graph), time.perf_counter() - start)


def _check(properties: Sequence[str], graph: Graph, what: str) -> None:
    for name in properties:
        if not PROPERTIES[name](graph):
            raise refuse(
                "E0220",
                f"{what} that is not '{name}'",
                suggestion="run the default pipeline, or put the missing pass before this one",
            )


def _options(cls: type[Pass], text: str) -> dict[str, object]:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    options: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key not in fields:
            raise refuse("E0212", f"{cls.name} has no option {part!r}", supported=", ".join(fields) or "no options")
        default: Any = fields[key].default
        try:
            options[key] = _truth(value) if isinstance(default, bool) else type(default)(value.strip())
        except ValueError:
            raise refuse("E0212", f"{cls.name}: {key}={value!r} is not a {type(default).__name__}") from None
    return options


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError(text)
    return word in ("1", "true", "yes")


def _pass_text(item: Pass) -> str:
    changed = [
        f"{field.name}={getattr(item, field.name)}"
        for field in dataclasses.fields(item)
        if getattr(item, field.name) != field.default
    ]
    return item.name + (f"{{{','.join(changed)}}}" if changed else "")
