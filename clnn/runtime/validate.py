"""CLNN_VALIDATE=1: each node is re-computed by its numpy reference and compared with what the device wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import NumericsError

if TYPE_CHECKING:
    from .executable import Executable

TOLERANCE = 2e-3
#: results that cancel to less than this share of the inputs are judged on the scale of the inputs: they are rounding noise
CANCELLED = 1e-2


def spread(reference: np.ndarray) -> float:
    """The scale on which errors of a tensor are judged: its largest magnitude."""
    finite = reference[np.isfinite(reference)] if reference.size else reference
    return float(np.max(np.abs(finite))) if finite.size else 0.0


def run_validated(executable: Executable) -> None:
    """Run node by node.

    Raises:
        NumericsError: names the first node whose output disagrees with its reference.
    """
    plan = executable.plan
    done = 0
    for node, first, last in plan.nodes:
        inputs = [executable.read(value) for value in node.inputs]
        executable.run_range(first, last)
        done = last
        expected = node.op.reference(*inputs)
        floor = max([CANCELLED * spread(array) for array in inputs if array.dtype.kind == "f"], default=0.0)
        for number, (value, reference) in enumerate(zip(node.outputs, expected, strict=True)):
            if value not in plan.locations:
                continue
            got = executable.read(value).astype(np.float64)
            reference = np.asarray(reference, dtype=np.float64)
            error = np.abs(got - reference)
            bad = ~(
                (error <= TOLERANCE * max(spread(reference), floor, 1e-6))
                | (np.isnan(got) & np.isnan(reference))
                | (got == reference)
            )
            if bad.any():
                at = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
                raise NumericsError(
                    "a kernel disagrees with its reference",
                    where=f"{node.path} {node.op.name}, output {number}, element {at}",
                    got=got[at],
                    expected=reference[at],
                    hint=f"lowering {node.lowering}; try another with CLNN_LOWERING and report the device and driver",
                )
    executable.run_range(done, len(plan.launches))
