"""The entry point: reads the command line, runs the command, turns errors into messages and exit statuses."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from ..config import config
from ..errors import ClnnError
from ..version import __version__
from . import bench, devices, evaluate, explain, predict, profile, show, train, tune
from .console import errors
from .parser import Parser

COMMANDS = (devices, train, evaluate, predict, explain, show, profile, tune, bench)

OK, FAILED, INTERRUPTED = 0, 1, 130


def make_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="clnn", description="Train and run image classifiers on any OpenCL device.",
                    epilog="`clnn COMMAND --help` explains a command. CLNN_DEBUG=1 … 5 shows more of what happens inside.")
    parser.add_argument("--version", action="version", version=f"clnn {__version__}", help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for command in COMMANDS:
        sub = command.add(commands)
        sub.set_defaults(run=command.run, parser=sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 after an error, 130 when interrupted. Mistakes in the command line itself exit with 2.
    """
    parser = make_parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return OK
    try:
        status = given.run(given)
        sys.stdout.flush()
        return status
    except ClnnError as error:
        if _debugging():
            traceback.print_exc()
        else:
            errors().print(str(error), style="red")
        return FAILED
    except KeyboardInterrupt:
        errors().print("interrupted", style="yellow")
        return INTERRUPTED
    except BrokenPipeError:                 # the reader, such as `head`, has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _debugging() -> bool:
    try:
        return config.debug >= 1
    except ClnnError:                       # CLNN_DEBUG itself cannot be read
        return False
