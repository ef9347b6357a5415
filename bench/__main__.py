"""``python -m bench SUITE`` measures; ``python -m bench report FILES`` makes tables, plots and a page of what was measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    from bench.options import add_options
    from bench.report import add_arguments
    from bench.suites import SUITES
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure clnn against others; see bench/README.md.")
    commands = parser.add_subparsers(dest="command", metavar="SUITE", required=True)
    for name, text in {**SUITES, "all": "all suites, one after the other"}.items():
        add_options(commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}."))
    text = "tables, plots and a page from results"
    add_arguments(commands.add_parser("report", help=text, description=f"{text[0].upper()}{text[1:]}."))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after an error that has a message."""
    from clnn.errors import ClnnError
    given = make_parser().parse_args(arguments)
    try:
        if given.command == "report":
            from bench.report import run
            return run(given)
        from bench import suites
        from bench.options import read_options
        options = read_options(given)
        for name in suites.SUITES if given.command == "all" else [given.command]:
            suites.run(name, options)
        return 0
    except ClnnError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was measured is saved", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
