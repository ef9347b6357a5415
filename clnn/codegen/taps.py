"""Which pixels a block of results of a depthwise convolution, or of pooling, looks at, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .channels import component


@dataclass(frozen=True)
class Taps:
    """Block b makes the ``block`` results from b · block on; its place among the pixels is b · advance.

    Forwards, result p looks at the pixels p · stride + r · dilation − pad. Backwards, result h looks at the pixels
    (h + pad − r · dilation) / stride, where that is whole; if a block is a multiple of ``stride`` results, this is the same for
    every block.
    """

    pixels: int
    results: int
    size: int
    stride: int
    pad: int
    dilation: int
    backwards: bool
    per_item: int = 1

    @property
    def block(self) -> int:
        """Results of a block."""
        return self.per_item * self.stride if self.backwards else self.per_item

    @property
    def blocks(self) -> int:
        return -(-self.results // self.block)

    @property
    def advance(self) -> int:
        """Pixels from one block to the next."""
        return self.per_item if self.backwards else self.per_item * self.stride

    @property
    def uses(self) -> tuple[tuple[int, int, int], ...]:
        """(result in the block, filter element, pixel from the block's place)."""
        found = []
        for i in range(self.block):
            for r in range(self.size):
                at = i + self.pad - r * self.dilation if self.backwards else i * self.stride + r * self.dilation - self.pad
                if not self.backwards:
                    found.append((i, r, at))
                elif at % self.stride == 0:
                    found.append((i, r, at // self.stride))
        return tuple(found)

    @property
    def needed(self) -> tuple[int, ...]:
        """The pixels that a block looks at."""
        return tuple(sorted({at for _, _, at in self.uses}))

    @property
    def ragged(self) -> bool:
        return self.results % self.block != 0

    def leaves(self, first: int, width: int = 1) -> bool:
        """Whether ``width`` pixels, from ``first`` on, lie partly outside for some block."""
        return first < 0 or (self.blocks - 1) * self.advance + first + width > self.pixels

    @property
    def interior(self) -> tuple[int, int]:
        """The blocks from the first to before the second lie wholly inside pixels and results."""
        low, high = min(self.needed, default=0), max(self.needed, default=0)
        first = max(0, -(low // self.advance))
        last = min((self.pixels - 1 - high) // self.advance + 1, self.results // self.block)
        return (min(first, self.blocks), max(last, min(first, self.blocks)))


@dataclass(frozen=True)
class Chunk:
    """Neighbouring pixels from ``first`` on, counted from a block's place, that are read at once: all on the image, or none."""

    first: int
    width: int


def chunks(taps: Taps, steps: tuple[int, ...]) -> tuple[Chunk, ...]:
    """The pixels that a block needs along the contiguous axis, as the widest aligned reads; ``steps`` are the other strides."""
    width = next(v for v in (4, 2, 1) if taps.advance % v == 0 and taps.pixels % v == 0 and all(step % v == 0 for step in steps))
    places = sorted({at // width for at in taps.needed})
    found = []
    for place in places:
        wanted = [at for at in taps.needed if at // width == place]
        found += [Chunk(place * width, width)] if len(wanted) > 1 else [Chunk(wanted[0], 1)]
    return tuple(found)


@dataclass(frozen=True)
class Patch:
    """What block (i, j) looks at in a plane whose rows are contiguous, as C text: every pixel is read once, by the widest reads.

    A pixel is named by the number of its row among those needed, and its column from the block's place.
    """

    down: Taps
    across: Taps

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        return chunks(self.across, (self.down.pixels * self.across.pixels, self.across.pixels))

    def checks(self) -> list[str]:
        """Declares on<row> and at<chunk>: whether a row, or a chunk, lies on the image; only of those that may not."""
        down, across = self.down, self.across
        rows = [f"const bool on{row} = (uint)(i * {down.advance} + {at}) < {down.pixels}u;"
                for row, at in enumerate(down.needed) if down.leaves(at)]
        return rows + [f"const bool at{self._name(chunk)} = (uint)(j * {across.advance} + {chunk.first}) < {across.pixels}u;"
                       for chunk in self.chunks if across.leaves(chunk.first, chunk.width)]

    def inside(self, row: int, col: int) -> str:
        """C text for whether a pixel is on the image; empty where it always is."""
        chunk = self._chunk(col)
        return " & ".join([f"on{row}"] * self.down.leaves(self.down.needed[row])
                          + [f"at{self._name(chunk)}"] * self.across.leaves(chunk.first, chunk.width))

    def loads(self, name: str, place: str, kind: str, outside: str) -> list[str]:
        """Declares the pixels of all rows; ``place`` is where the block's is, and ``outside`` what is not on the image."""
        lines = []
        for row, at in enumerate(self.down.needed):
            for chunk in self.chunks:
                vector = kind if chunk.width == 1 else f"{kind}{chunk.width}"
                value = f"*(__global const {vector}*)({place} + {at * self.across.pixels + chunk.first})"
                if guard := self.inside(row, chunk.first):
                    value = f"{guard} ? {value} : ({vector})({outside})"
                lines.append(f"const {vector} {name}{row}_{self._name(chunk)} = {value};")
        return lines

    def pixel(self, name: str, row: int, col: int) -> str:
        """C text for one of the pixels that were loaded."""
        chunk = self._chunk(col)
        return component(f"{name}{row}_{self._name(chunk)}", col - chunk.first, chunk.width)

    def _chunk(self, col: int) -> Chunk:
        return next(chunk for chunk in self.chunks if chunk.first <= col < chunk.first + chunk.width)

    def _name(self, chunk: Chunk) -> int:
        return chunk.first + self.across.pixels     # no sign
