"""What a compilation is asked for: the options of `compile` and of the command line, checked and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from hsnn_compiler.data import digest_of
from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.families import SPINNAKER
from hsnn_compiler.ir.payloads import MAX_SPIKES
from hsnn_compiler.passes.pipeline import default_pipeline
from hsnn_compiler.targets import load_target

FORCE_ZERO = "force-zero"
RESETS = ("subtract", "zero", FORCE_ZERO)
CODINGS = ("rate", "ttfs")
ENCODINGS = ("current", "host", "bitplane", "rate", "ttfs", "delta", "phase", "auto")

SAMPLES = ("pipelined", "serial")
OBJECTIVES = ("auto", "chip", "energy", "latency", "cores")
"""As much on the chip as can be, then with as little sent as can be (``auto`` lists alternatives only where host and
chip take turns); or the least energy or latency by an estimate; or as much on the chip as its cores hold."""


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        target: name of the target.
        timesteps: steps per sample; None keeps the model's own, or 16 for an ANN.
        pipeline: pipeline text; empty for the target's own.
        layers: ``{layer: {key: value}}``, see ``hsnn-compile passes`` for the keys.
        reset: reset of converted activations, ``subtract`` or ``zero`` (native on Loihi 2, and all there is on
            SpiNNaker 1); ``force-zero``, SpiNNaker 1 only: of the model's own neurons that subtract, too, which loses.
            Empty for the target's own choice: ``zero`` on SpiNNaker 1, else ``subtract``.
        coding: what spikes of converted activations mean: ``rate``, or ``ttfs``, one spike whose time counts.
        max_spikes: most spikes of one step of converted activations, 1 to 255; more than 1 go as one graded spike.
        encode: how an analog input reaches the chip: ``current``, a bias current (the first weight layer is on the
            host); ``host``, the first neurons are on the host too and send their spikes; events: ``bitplane``,
            ``rate``, ``ttfs``, ``delta``, ``phase``; ``auto`` measures them on the calibration data.
        accuracy_drop: None, or: `timesteps` is None and chosen, as few as lose at most so many percent points of
            accuracy, see `hsnn_compiler.choice`.
        samples: whether samples follow each other through the chip, ``pipelined``, or one is done before the next
            begins, ``serial``: the same results, later.
        objective: what decides where an op runs that can run on the chip and on the host, see `OBJECTIVES`.
        max_crossings: how often a way through the network may change between host and chip; None for no limit.
        seed: of what is random: the made-up calibration data.
        finetune_epochs: most epochs of each pass that trains; None leaves it to the passes.
        batch_size: samples per batch in calibration.
    """

    target: str = "loihi2"
    timesteps: int | None = None
    pipeline: str = ""
    layers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    reset: str = ""
    seed: int = 0
    coding: str = "rate"
    max_spikes: int = 1
    encode: str = "current"
    samples: str = "pipelined"
    objective: str = "auto"
    max_crossings: int | None = None
    accuracy_drop: float | None = None
    finetune_epochs: int | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        family = load_target(self.target).family
        own = {"pipeline": default_pipeline(family), "reset": "zero" if family == SPINNAKER else "subtract"}
        for name, value in own.items():
            object.__setattr__(self, name, getattr(self, name) or value)

    def problems(self) -> list[Finding]:
        """What is wrong with the values, whatever the model is (E0217)."""
        findings = []
        if self.timesteps is not None and (not isinstance(self.timesteps, int) or self.timesteps < 1):
            findings.append(Finding("E0217", f"{self.timesteps} time steps", supported="1 or more"))
        if self.accuracy_drop is not None and not 0 <= self.accuracy_drop <= 100:
            findings.append(Finding("E0217", f"accuracy_drop {self.accuracy_drop!r}", supported="0 to 100 points"))
        if self.accuracy_drop is not None and self.timesteps is not None:
            message = f"accuracy_drop with {self.timesteps} time steps"
            findings.append(Finding("E0217", message, supported='accuracy_drop with timesteps="auto"'))
        if self.max_crossings is not None and (not isinstance(self.max_crossings, int) or self.max_crossings < 1):
            findings.append(Finding("E0217", f"max_crossings {self.max_crossings!r}", supported="1 or more"))
        if self.finetune_epochs is not None and (not isinstance(self.finetune_epochs, int) or self.finetune_epochs < 1):
            findings.append(Finding("E0217", f"finetune_epochs {self.finetune_epochs!r}", supported="1 or more"))
        choices = (RESETS, CODINGS, ENCODINGS, SAMPLES, OBJECTIVES)
        for what, legal in zip(("reset", "coding", "encode", "samples", "objective"), choices, strict=True):
            if (chosen := getattr(self, what)) not in legal:
                findings.append(Finding("E0217", f"{what} {chosen!r}", supported=", ".join(legal)))
        if self.reset == FORCE_ZERO and load_target(self.target).family != SPINNAKER:
            findings.append(Finding("E0217", f"reset {self.reset!r} for {self.target}", supported="subtract, zero"))
        if not isinstance(self.max_spikes, int) or not 1 <= self.max_spikes <= MAX_SPIKES:
            findings.append(Finding("E0217", f"max_spikes {self.max_spikes!r}", supported=f"1 to {MAX_SPIKES}"))
        return findings

    def plain(
        self,
        pipeline: str,
        calibration: np.ndarray | None,
        training: tuple[np.ndarray, np.ndarray | None] | None = None,
    ) -> dict[str, Any]:
        """What was asked for, as the manifest keeps it.

        Args:
            pipeline: the passes that ran, as text.
            calibration: None where noise stood in for it.
            training: inputs and labels that passes were given to train on.
        """
        return {
            **{name: getattr(self, name) for name in KEPT},
            "pipeline": pipeline,
            "layers": {name: dict(settings) for name, settings in self.layers.items()},
            "calibration": "assumed: uniform noise" if calibration is None else "given",
            "calibration_sha256": None if calibration is None else digest_of(calibration),
            **({} if training is None else _trained_on(*training)),
        }

    @classmethod
    def from_plain(cls, target: str, known: Mapping[str, Any]) -> Options:
        """The options that `plain` kept; what an older version did not know has its default."""
        kept = {name: known[name] for name in (*KEPT, "pipeline", "layers") if name in known}
        return cls(target=target, **kept)


def _trained_on(x: np.ndarray, y: np.ndarray | None) -> dict[str, Any]:
    labels = None if y is None else digest_of(y)
    return {"finetune": f"{len(x)} samples", "finetune_sha256": digest_of(x), "finetune_labels_sha256": labels}


NOT_KEPT = ("target", "pipeline", "layers", "batch_size", "accuracy_drop")
KEPT = tuple(f.name for f in fields(Options) if f.name not in NOT_KEPT)
"""Options that the manifest keeps under their own names."""


def parse_layers(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read ``NAME:key=value`` options (several keys with commas). E0211 names all that are not understood."""
    layers: dict[str, dict[str, str]] = {}
    findings = []
    for text in texts:
        name, colon, settings = text.rpartition(":")
        pairs = [item.partition("=") for item in settings.split(",")]
        if not colon or not all(equals and key.strip() for key, equals, _ in pairs):
            findings.append(Finding("E0211", f"{text!r} not understood", supported="NAME:key=value"))
            continue
        layers.setdefault(name, {}).update({key.strip(): value.strip() for key, _, value in pairs})
    if findings:
        raise HsnnError(findings)
    return layers
