"""Random configurations of every public operator, beside what PyTorch calls the same; one module for each family."""

from . import activations, arithmetic, losses, moves, norms, pooling, products
from .draw import RECORDS, Case

__all__ = ["RECORDS", "Case", "activations", "arithmetic", "losses", "moves", "norms", "pooling", "products"]
