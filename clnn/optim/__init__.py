"""Optimisers and learning-rate schedules."""

from . import schedules
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .schedules import Schedule
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "Schedule", "schedules"]
