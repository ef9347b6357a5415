"""The command ``clnn``. One file per command; each has ``add``, which declares its options, and ``run``, which does the work."""

from .entry import main

__all__ = ["main"]
