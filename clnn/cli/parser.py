"""The argument parser: suggests what was meant, and knows the kinds of values that several commands take."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known word that is most like ``word``, if any is."""
    found = difflib.get_close_matches(word, list(known), 1, cutoff)
    return found[0] if found else None


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that suggests the nearest command, option or choice for one that it does not know."""

    def __init__(self, *args, **options):
        options.setdefault("formatter_class", lambda prog: argparse.HelpFormatter(prog, max_help_position=30))
        super().__init__(*args, **options)

    def parse_args(self, args=None, namespace=None):
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self._refuse(getattr(found, "parser", None) or self, rest)
        return found

    @staticmethod
    def _refuse(parser: argparse.ArgumentParser, rest: Sequence[str]) -> NoReturn:
        option = next((word.split("=")[0] for word in rest if word.startswith("--")), None)
        near = nearest(option, parser._option_string_actions, 0.6) if option else None
        parser.error(f"unrecognized arguments: {' '.join(rest)}" + (f"; did you mean {near}?" if near else ""))

    def _check_value(self, action: argparse.Action, value) -> None:
        if action.choices is not None and value not in action.choices:
            kind = "command" if isinstance(action, argparse._SubParsersAction) else "choice"
            near = nearest(str(value), map(str, action.choices))
            raise argparse.ArgumentError(
                None if kind == "command" else action,
                f"unknown {kind} {value!r}; " + (f"did you mean {near!r}? " if near else "")
                + f"There are {', '.join(map(str, action.choices))}")


# -- kinds of values ----------------------------------------------------------------------------------------------------

def number(lowest: float, highest: float = float("inf"), whole: bool = False) -> Callable[[str], float]:
    """A type for argparse: a number from ``lowest`` to ``highest``."""
    def parse(text: str) -> float:
        kind = "a whole number" if whole else "a number"
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind}") from None
        if not lowest <= value <= highest:
            limits = f"at least {lowest:g}" if highest == float("inf") else f"from {lowest:g} to {highest:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {kind} {limits}")
        return value
    return parse


count = number(1, whole=True)
natural = number(0, whole=True)
positive = number(0)


def fraction(text: str) -> float:
    """A part of a whole: at least 0, below 1."""
    value = number(0, 1)(text)
    if value == 1:
        raise argparse.ArgumentTypeError("1 leaves nothing; give a number below 1")
    return value


def extents(text: str) -> tuple[int, ...]:
    """A shape such as ``1,28,28`` or ``1x28x28``."""
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape; give whole numbers with commas, such as 1,28,28")
    return shape


# -- options that several commands share --------------------------------------------------------------------------------

def add_device(parser: argparse._ActionsContainer) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", metavar="NAME",
                        help="OpenCL device: a part of its name, platform:device as `clnn devices` shows it, or auto, which "
                             "takes CLNN_DEVICE, else the best one (default)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")


def add_data_root(parser: argparse._ActionsContainer) -> None:
    """``--data-root``."""
    parser.add_argument("--data-root", metavar="FOLDER",
                        help="where to look for data sets first, before CLNN_DATA and the download cache")
