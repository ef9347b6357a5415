"""The problem constants that the direct convolution templates share, and the C text that takes an image index apart."""

from __future__ import annotations

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
