"""Reference executors: the float one says what a graph means, the integer one what the chip computes."""
