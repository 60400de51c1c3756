"""Analog input as spikes: what feeds what, codes in which the time of a spike counts, and what they change."""
