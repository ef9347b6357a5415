"""What a program is: tensor types, graphs, the operator base class. Imports numpy only."""

from .graph import Graph, Node, Value
from .layout import NHWC, ROW, Layout, blocked
from .op import Op, Sample
from .printer import format_graph
from .spec import TensorSpec
from .variable import Variable
from .verifier import verify

__all__ = ["NHWC", "ROW", "Graph", "Layout", "Node", "Op", "Sample", "TensorSpec", "Value", "Variable", "blocked",
           "format_graph", "verify"]
