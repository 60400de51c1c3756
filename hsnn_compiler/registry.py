"""What exists by name: passes. Modules are imported only when their pass is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsnn_compiler.passes.base import Pass

PASSES: dict[str, str] = {
    "remove-noops": "noops:RemoveNoOps",
    "lower-spike-logic": "spike_logic:LowerSpikeLogic",
    "split-concats": "concats:SplitConcats",
    "fold-batchnorm": "batchnorm:FoldBatchNorm",
    "split-leaky-relu": "leaky:SplitLeakyReLU",
    "lower-max-pooling": "max_pooling:LowerMaxPooling",
    "partition": "partition:Partition",
    "convert-activations": "activations:ConvertActivations",
    "calibrate-thresholds": "calibration.thresholds:CalibrateThresholds",
    "distill": "distill:Distill",
    "map-surrogate-to-events": "events.mapping:MapSurrogateToEvents",
    "finetune-events": "finetune_events:FinetuneEvents",
    "map-direct-coding": "direct:MapDirectCoding",
    "merge-adds": "adds:MergeAdds",
    "fold-pooling": "pooling:FoldPooling",
    "fold-scales": "scales:FoldScales",
    "insert-readout": "readout:InsertReadout",
    "lower-connections": "connections:LowerConnections",
    "quantise": "quantise:Quantise",
    "schedule": "schedule:SchedulePass",
    "place": "place:Place",
}
"""Loihi 2's default pipeline, in its order: pass name to ``module:class`` under `hsnn_compiler.passes`."""

SPINNAKER_PASSES: dict[str, str] = {
    "read-on-host": "spinnaker.readout:ReadOnHost",
    "fit-neurons": "spinnaker.neurons:FitNeurons",
    "turn-values": "spinnaker.values:TurnValues",
    "schedule-turns": "spinnaker.schedule:ScheduleTurns",
    "fit-board": "spinnaker.board:FitBoard",
}
"""Passes that only SpiNNaker has."""

SPINNAKER2_PASSES: dict[str, str] = {
    "fit-lif": "spinnaker2.neurons:FitLif",
    "quantise-int8": "spinnaker2.int8:QuantiseInt8",
    "fit-chip": "spinnaker2.chip:FitChip",
}
"""Passes that only SpiNNaker 2 has."""

MORE_PASSES = {**SPINNAKER_PASSES, **SPINNAKER2_PASSES}
"""Passes that Loihi 2's pipeline has not."""

_SHARED = list(PASSES)[: list(PASSES).index("insert-readout")]
PIPELINES: dict[str, tuple[str, ...]] = {
    "loihi2": tuple(PASSES),
    "spinnaker": (
        *_SHARED, "read-on-host", "lower-connections", "turn-values", "fit-neurons", "schedule-turns", "fit-board",
    ),
    "spinnaker2": (
        *_SHARED, "read-on-host", "lower-connections", "turn-values", "fit-lif", "quantise-int8", "schedule-turns",
        "fit-chip",
    ),
}  # fmt: skip
"""The default pipeline of each family of targets."""


def load_pass(name: str) -> type[Pass]:
    """The class of a pass. KeyError if there is none of that name."""
    module, _, cls = {**PASSES, **MORE_PASSES}[name].partition(":")
    found: type[Pass] = getattr(importlib.import_module(f"hsnn_compiler.passes.{module}"), cls)
    return found
