"""Copying named arrays into a module's variables, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..ir import Variable

_MOST_LISTED = 20


class LoadResult(NamedTuple):
    """What ``load_state_dict(strict=False)`` passed over; the names are torch's."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _converted(variable: Variable, value: object) -> tuple[np.ndarray | None, str]:
    """The value in the variable's type, or (None, why not)."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        return None, f"cannot be read as an array ({error})"
    if array.shape != variable.shape:
        return None, f"got shape {array.shape}, expected {variable.shape}"
    kinds = "iu" if variable.dtype.kind in "iu" else "f"
    if array.dtype.kind not in kinds:
        return None, f"got type {array.dtype}, expected {variable.dtype}"
    return array.astype(variable.dtype, copy=False), ""


def _listing(title: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    rest = [f"… and {len(entries) - _MOST_LISTED} more"] if len(entries) > _MOST_LISTED else []
    return [f"{title} ({len(entries)}): " + ", ".join(entries[:_MOST_LISTED] + rest)]


def load_state(kind: str, variables: Mapping[str, Variable], state: Mapping[str, object], strict: bool) -> LoadResult:
    """Write ``state`` into ``variables``; nothing is written unless everything fits.

    Raises:
        ArgumentError: lists the missing, the unexpected and the wrong-shaped entries, all at once. With ``strict=False`` only the
            last are an error.
    """
    missing = [name for name in variables if name not in state]
    unexpected = [name for name in state if name not in variables]
    arrays, wrong = {}, []
    for name in variables.keys() & state.keys():
        array, reason = _converted(variables[name], state[name])
        if array is None:
            wrong.append(f"{name}: {reason}")
        else:
            arrays[name] = array
    if wrong or (strict and (missing or unexpected)):
        lines = _listing("missing", missing) + _listing("unexpected", unexpected) if strict else []
        lines += _listing("wrong", sorted(wrong))
        raise ArgumentError("the state does not fit the model", where=f"{kind}.load_state_dict", got="\n            ".join(lines),
                            expected="the names and shapes of model.state_dict()",
                            hint="build the model with the options it was saved with" + (
                                ", or pass strict=False to load what fits by name" if strict and not wrong else ""))
    for name, array in arrays.items():
        variables[name].array[...] = array
    return LoadResult(missing, unexpected)
