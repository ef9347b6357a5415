"""clnn: deep learning for image classification on any OpenCL device."""

from . import ops
from .compiler import compile, evaluate, vjp
from .errors import ClnnError
from .runtime import Device, devices
from .version import __version__

__all__ = ["ClnnError", "Device", "History", "Trainer", "__version__", "compile", "devices", "evaluate", "ops", "vjp"]


def __getattr__(name: str):
    """``Trainer`` and ``History``, imported when they are first used."""
    if name in ("History", "Trainer"):
        from . import train
        return getattr(train, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

