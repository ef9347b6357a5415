"""How a convolution finds its pixels when images lie in zero-padded planes, one for each remainder of a place by the stride.

Split so, every tap of a filter reads neighbouring pixels for neighbouring results, whatever the stride, and a result that lies n
rows of a plane further reads all its pixels n rows further: results of several rows form one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Use(NamedTuple):
    """A filter element in one axis: which results it goes to, and where their pixels are."""

    result: int     # remainder of the result's place by ``out_step``
    tap: int
    plane: int      # remainder of the pixel's place by ``in_step``
    shift: int      # places in the plane from the step's own


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution, or backwards of its gradient in the image.

    Step i makes the results i · out_step … and has its own place i in each plane; place j of plane b holds pixel j · in_step + b.
    """

    pixels: int
    results: int
    size: int
    stride: int
    pad: int
    dilation: int
    backwards: bool = False

    @property
    def in_step(self) -> int:
        return 1 if self.backwards else self.stride

    @property
    def out_step(self) -> int:
        return self.stride if self.backwards else 1

    @property
    def steps(self) -> int:
        return -(-self.results // self.out_step)

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        found = []
        for result in range(min(self.out_step, self.results)):
            for tap in range(self.size):
                if self.backwards:
                    shift, rest = divmod(result + self.pad - tap * self.dilation, self.stride)
                    found += [] if rest else [Use(result, tap, 0, shift)]
                else:
                    shift, plane = divmod(tap * self.dilation - self.pad, self.stride)
                    found.append(Use(0, tap, plane, shift))
        return tuple(found)

    @cached_property
    def low(self) -> int:
        """The least shift; a plane in memory begins that far from the first step's place."""
        return min((use.shift for use in self.uses), default=0)

    @cached_property
    def reach(self) -> int:
        """Places of a plane beyond one per step."""
        return max((use.shift for use in self.uses), default=0) - self.low

    @cached_property
    def planes(self) -> tuple[int, ...]:
        """The remainders that some tap reads."""
        return tuple(sorted({use.plane for use in self.uses}))

    def inside(self, plane: int, places: int) -> tuple[int, int]:
        """From which to before which of a plane's first ``places`` places there are pixels."""
        first = -self.low
        last = (self.pixels - 1 - plane) // self.in_step + 1 - self.low
        return max(first, 0), max(min(last, places), max(first, 0))

    def made(self, result: int) -> int:
        """Results of one remainder."""
        return -(-(self.results - result) // self.out_step)
