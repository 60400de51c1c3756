"""Programs for SpiNNaker 2: lowered to int8, run in its arithmetic, written as scripts for py-spinnaker2."""
