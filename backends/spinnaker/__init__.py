"""SpiNNaker: netlists that PyNN builds, sPyNNaker maps, and NEST and our own emulation run."""
