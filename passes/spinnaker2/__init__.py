"""Passes that only SpiNNaker 2 has."""
