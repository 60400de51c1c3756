"""Real numbers on a time axis to Loihi's integers: raw graphs, quantised for the data at hand."""

from hsnn_compiler.passes.raw.payloads import Payloads
from hsnn_compiler.passes.raw.quantise_raw import Integers, quantise_raw

__all__ = ["Integers", "Payloads", "quantise_raw"]
