"""snnTorch 1.0: what its neurons do in a step.

Read in ``snntorch/_neurons``. What they share: whether the potential of the step before lies above the
threshold decides the reset (``reset_delay``): by subtraction from what this step has integrated, or to zero,
before integrating (Leaky) or after (all others). Spikes are tested with ``U > threshold``.
"""

from hsnn_compiler.frontends.snntorch import alpha, neurons

__all__ = ["alpha", "neurons"]
