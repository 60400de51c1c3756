"""Passes: one file each, a graph in and a graph out."""
