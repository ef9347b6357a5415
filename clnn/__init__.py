"""clnn: deep learning for image classification on any OpenCL device.

Parts are imported when they are first used, so that `import clnn` is quick, and `clnn.nn`, `clnn.data` … are there without
imports of their own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:       # for editors, which do not run __getattr__
    from . import data, models, nn, ops, optim
    from .compiler import compile, evaluate, vjp
    from .errors import ClnnError
    from .runtime import Device, devices
    from .train import History, Trainer

#: public name → the module that has it
_NAMES = {"ClnnError": "errors", "Device": "runtime", "History": "train", "Trainer": "train", "compile": "compiler",
          "devices": "runtime", "evaluate": "compiler", "vjp": "compiler"}
#: public modules
_MODULES = ("data", "models", "nn", "ops", "optim")

__all__ = ["__version__", *_NAMES, *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")      # which makes it an attribute
    if name in _NAMES:
        found = globals()[name] = getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
