"""Training: epochs over a data set, checkpoints, evaluation and prediction."""

from .history import History
from .trainer import Trainer

__all__ = ["History", "Trainer"]
