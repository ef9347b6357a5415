"""The problem constants that convolution templates share, and the C text that takes an image index apart."""

from __future__ import annotations

from ..errors import LoweringError
from ..ir import TensorSpec

SHAPE = {
    "N": "images",
    "C": "input channels",
    "H": "input rows",
    "W": "input columns",
    "K": "output channels",
    "P": "output rows",
    "Q": "output columns",
    "R": "filter rows",
    "S": "filter columns",
    "stride": "(vertical, horizontal)",
    "padding": "(top, bottom, left, right)",
    "dilation": "(vertical, horizontal)",
    "groups": "independent groups of channels",
}

#: the same for templates that serve the gradient in the image, too
SIDES = {
    "N": "images",
    "groups": "independent groups of channels",
    "ins": "channels that a group reads",
    "outs": "channels that a group makes",
    "pixels": "(rows, columns) of what is read",
    "results": "(rows, columns) of the result",
    "window": "(rows, columns) of a filter",
    "stride": "(vertical, horizontal)",
    "padding": "(top, left)",
    "dilation": "(vertical, horizontal)",
    "backwards": "whether this is the gradient",
}
#: products that CPU kernels add up before their sum is added to others: long sums are made of short ones
LONGEST = 600


def sides(op, image: TensorSpec, result: TensorSpec, window: tuple[int, int], backwards: bool) -> dict[str, object]:
    """The values of :data:`SIDES` for a convolution that reads ``image``."""
    return {"N": image.shape[0], "groups": op.groups, "ins": image.shape[1] // op.groups, "outs": result.shape[1] // op.groups,
            "pixels": image.shape[2:], "results": result.shape[2:], "window": tuple(window), "stride": op.stride,
            "padding": (op.padding[0], op.padding[2]), "dilation": op.dilation, "backwards": backwards}


def turned_padding(op, window: tuple[int, int]) -> tuple[int, int]:
    """The (top, left) padding with which a convolution by the filters turned about is the gradient in the image.

    Raises:
        LoweringError: if it is none: with strides, or where more is padded than a filter covers.
    """
    if op.stride != (1, 1):
        raise LoweringError("the pixels of a stride are apart")
    padding = tuple((size - 1) * apart - pad for size, apart, pad in
                    zip(window, op.dilation, (op.padding[0], op.padding[2]), strict=True))
    if min(padding) < 0:
        raise LoweringError("pads more than a filter covers")
    return padding


def decode(dims: tuple[tuple[str, int], ...], index: str) -> str:
    """Statements that split a physical index into the letters n, c, h and w of ``dims``, given outermost first."""
    lines, rest = [], index
    for number, (letter, extent) in enumerate(reversed(dims)):
        last = number == len(dims) - 1
        lines.append(f"const int {letter} = {rest if last else f'{rest} % {extent}'};")
        if not last:
            lines.append(f"const index_t rest{number} = {rest} / {extent};")
            rest = f"rest{number}"
    return " ".join(lines)
