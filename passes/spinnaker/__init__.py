"""What SpiNNaker needs instead of integers: neurons as its stock models have them, turns, read-outs on the host."""
