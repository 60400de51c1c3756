"""A network as the Lava emitter writes it, by hand: two samples' pixels to four outputs.

Latency: the input spikes in the step its bias is there, every synapse adds one step and
the delay two. So layer L of sample k is reset at step k * T + 1 + (latency of L).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hsnn_lava import AxonDelay, SampleBias, SoftResetLIF
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset

T = 8  # steps per sample
WEIGHTS = np.load(Path(__file__).with_name("weights.npz"))  # conv: (out, x, y, in); fc: (out, in)


class Network:
    """Builds and connects all processes."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        x = inputs["x"]  # [samples, x, y, channels], integers
        pixels = SampleBias(data=x, interval=T, name="x")
        encode = SoftResetLIF(
            shape=(5, 5, 2), du=4095, dv=0, vth=100, bias_exp=6, v_init=3200,
            reset_interval=T, reset_offset=1, name="encode",
        )  # fmt: skip
        pixels.connect_var(encode.bias_mant)
        conv = Conv(weight=WEIGHTS["conv"], input_shape=(5, 5, 2), padding=(1, 1), name="conv")
        relu = LIFReset(shape=conv.output_shape, du=4095, dv=128, vth=30, reset_interval=T, reset_offset=2, name="relu")
        delay = AxonDelay(shape=(5, 5, 3), delay=2, name="delay")
        fc = Dense(weights=WEIGHTS["fc"], name="fc")
        out = SoftResetLIF(shape=(4,), du=4095, dv=0, vth=90, v_init=2880, reset_interval=T, reset_offset=5, name="out")
        encode.s_out.connect(conv.s_in)
        conv.a_out.connect(relu.a_in)
        relu.s_out.connect(delay.s_in)
        delay.s_out.flatten().connect(fc.s_in)
        fc.a_out.connect(out.a_in)
        self.neurons = {"encode": encode, "relu": relu, "out": out}
        self.steps = len(x) * T + 4
