"""clnn: deep learning for image classification on any OpenCL device."""

from . import ops
from .compiler import compile, evaluate, vjp
from .errors import ClnnError
from .runtime import Device, devices
from .version import __version__


__all__ = ["ClnnError", "__version__", "Device", "compile", "devices", "evaluate", "ops", "vjp"]
