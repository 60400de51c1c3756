"""Calibration of converted networks on data: thresholds, then corrections of what spikes get wrong."""
