"""See whether the network fits, and put its populations on chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hsnn_compiler.diagnostics import Finding
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.passes.base import BOUNDED, Pass, PassContext, PassResult, listing
from hsnn_compiler.passes.chips import Layout, lay_out
from hsnn_compiler.passes.usage import Usage, totals, usages
from hsnn_compiler.targets import Target, relatives

SMALLER = "fewer channels, more pooling, or pin layers to the host: --layer NAME:place=host"
NOTED_CHIPS = 8


@dataclass(frozen=True)
class Place(Pass):
    """Estimate neuron cores per layer, and put the layers on the target's chips, within each chip's limits.

    An estimate: neurons per core, synapse memory per core and input axons per core each give a lower
    bound, the largest of which is used. On a board, the layers go on its chips in their order, on as few
    chips as that allows and then with as few axons between chips as that allows; a layer may be split
    (`chips.lay_out`). Steps of all chips are the same steps, so that the result does not depend on the cut.
    Constants and their sources: ``hsnn-compile targets NAME``.
    """

    name: ClassVar[str] = "place"
    contract: ClassVar[str] = BOUNDED
    requires: ClassVar[tuple[str, ...]] = ("scheduled",)

    def run(self, graph: Graph, context: PassContext) -> PassResult:
        """See the class."""
        target = context.target
        used = usages(graph, target)
        layout, excess = fit(graph, used, target)
        if layout is None:
            return PassResult(graph, False, (), _too_large(graph, target, excess))
        return PassResult(graph, False, tuple(_notes(used, layout, target)))


def fit(graph: Graph, used: list[Usage], target: Target) -> tuple[Layout | None, list[str]]:
    """The layout on the target's chips; where it does not fit, None, and in words what there is too much of."""
    whose = "the chip has" if target.chips == 1 else f"{target.chips:,} chips have"
    excess = [f"{n} {what}, {whose} {limit}" for what, n, limit in totals(used, target) if n > limit]
    if excess:
        return None, excess
    layout = lay_out(graph, used, target)
    if layout is None:
        return None, ["a single core with more neurons or synapses than a chip"]
    if len(layout.chips) > target.chips:
        return None, [f"{len(layout.chips)} chips are needed, none of them overfull: the target has {target.chips}"]
    return layout, []


def _too_large(graph: Graph, target: Target, excess: list[str]) -> tuple[Finding, ...]:
    """One finding per limit, each with the smallest board that holds the network."""
    way_out = SMALLER
    for other in relatives(target):
        layout = None if other.name == target.name else fit(graph, usages(graph, other), other)[0]
        if layout is not None:
            way_out = f"--target {other.name}: fits on {len(layout.chips)} of its {other.chips:,} chips; or {SMALLER}"
            break
    return tuple(Finding("E0501", what, supported=f"one {target.title}", suggestion=way_out) for what in excess)


def _notes(used: list[Usage], layout: Layout, target: Target) -> list[str]:
    cores = sum(item.cores for item in used)
    if target.chips == 1:
        return [f"about {cores} of {target['chip.neuron_cores']} cores"]
    notes = [
        f"about {cores:,} of {target.chips * target['chip.neuron_cores']:,} cores, on {len(layout.chips)} of"
        f" {target.chips:,} chips; estimate: {layout.axons:,} axons cross between chips"
    ]
    for number, parts in enumerate(layout.chips[:NOTED_CHIPS]):
        notes.append(f"chip {number}, {sum(part.cores for part in parts)} cores: {listing(map(str, parts))}")
    if len(layout.chips) > NOTED_CHIPS:
        notes.append(f"{len(layout.chips) - NOTED_CHIPS} more chips: see the report")
    return notes
