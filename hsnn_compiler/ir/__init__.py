"""The graph: NIR primitives and our extension ops, with exactly one meaning per node."""

from hsnn_compiler.ir.dynamics import Dynamics, StepCoefficients, discretize
from hsnn_compiler.ir.graph import Edge, Graph, Node
from hsnn_compiler.ir.types import Coding, Placement, TensorType

__all__ = [
    "Coding",
    "Dynamics",
    "Edge",
    "Graph",
    "Node",
    "Placement",
    "StepCoefficients",
    "TensorType",
    "discretize",
]
