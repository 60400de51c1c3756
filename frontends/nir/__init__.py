"""Graphs written by any NIR tool, old or odd, and what each platform makes of them."""

from hsnn_compiler.frontends.nir.comparing import compare
from hsnn_compiler.frontends.nir.contract import Contract
from hsnn_compiler.frontends.nir.data import read_data, write_data
from hsnn_compiler.frontends.nir.reading import read
from hsnn_compiler.frontends.nir.settling import settle

__all__ = ["Contract", "compare", "read", "read_data", "settle", "write_data"]
