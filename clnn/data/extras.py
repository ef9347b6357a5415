"""Packages that only data sets need, imported when they are first used."""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import ClnnError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: the dotted module, ``"PIL.Image"``.
        package: the name under which it is installed, ``"Pillow"``.
        purpose: what it is needed for, as the end of a sentence: ``"to decode images"``.

    Raises:
        ClnnError: the package is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ClnnError(f"{package} is needed {purpose}, and is not installed",
                        hint=f"pip install 'clnn[data]', or pip install {package}") from error
