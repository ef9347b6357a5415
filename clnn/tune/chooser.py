"""Puts what was measured into a graph whose lowerings are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..codegen.lowering import Offer
from ..errors import ArgumentError, ClnnError, FileError, LoweringError
from ..ir import Graph, Node
from ..runtime import Session
from .lookup import Found, find, known_at_all, times
from .problem import Problem, distinct_problems, problem_of
from .space import forced
from .store import open_store, store_path

if TYPE_CHECKING:
    from .tuner import Status

MODES = ("off", "lookup", "search")
#: seconds per problem that a search while compiling may take
SEARCH_SECONDS = 10.0


def apply_choices(graph: Graph, session: Session, mode: str, progress: Callable[[Status], None] | None = None) -> None:
    """Set lowering and offer of the nodes by tuning results; ``node.note`` says on what grounds.

    What was not measured, or does not apply any more, keeps the choice of the passes. Nodes whose lowering the user forces are
    left alone.

    Args:
        mode: ``off``; ``lookup``: take what is stored; ``search``: first measure the problems that are not.
        progress: called after each few trials of a search.

    Raises:
        ArgumentError: for an unknown mode.
        FileError: if a search cannot store what it found.
    """
    if mode not in MODES:
        raise ArgumentError("unknown tuning mode", where="tune", got=mode, expected=", ".join(MODES))
    if mode == "off" or (mode == "lookup" and not known_at_all()):
        return
    for problem, nodes in distinct_problems(graph).values():
        if forced(problem):
            continue
        found = find(problem, session.target)
        if mode == "search" and not (found and found.exact):
            from .tuner import tune_problem  # not above: it takes a tenth of the import of clnn, and is rarely used

            try:
                tune_problem(problem, session, open_store(store_path()), seconds=SEARCH_SECONDS,
                             report=progress or (lambda status: None))
            except FileError:
                raise
            except ClnnError as error:
                _note(nodes, f"not tuned: {error.what}")
                continue
            found = find(problem, session.target)
        if found is not None:
            offers: dict[Problem, Offer] = {}
            for node in nodes:
                _take(node, found, session, offers)


def _take(node: Node, found: Found, session: Session, offers: dict[Problem, Offer]) -> None:
    """Give a node the choice that was found, if it can still be made.

    Nodes that pose one problem may differ in the expressions of their tails, so each gets launches of its own operator;
    ``offers`` keeps those that are made.
    """
    if found.default and node.lowering == found.lowering:
        node.note = found.why
        return
    if not found.met(node.lowering):        # what is chosen unmeasured was not there, or not so fast
        node.refusals.append((f"{found.lowering} as tuned", "was measured when kernels were others"))
        return
    problem = problem_of(node)
    try:
        if problem not in offers:
            offers[problem] = offer_of(problem, found, session)
    except LoweringError as error:
        node.refusals.append((f"{found.lowering} as tuned", error.what))
        return
    if node.lowering != found.lowering:
        node.refusals = [refusal for refusal in node.refusals if refusal[0] != found.lowering]
        node.refusals.append((str(node.lowering), f"slower: {times(found.seconds, found.default_seconds)}"))
    node.lowering, node.offer, node.note = found.lowering, offers[problem], found.why


def offer_of(problem: Problem, found: Found, session: Session) -> Offer:
    """The launches of a choice.

    Raises:
        LoweringError: why it cannot be made here.
    """
    lowering = next((lowering for lowering in problem.op.lowerings if lowering.name == found.lowering), None)
    if lowering is None:
        raise LoweringError("there is no such lowering any more", where=problem, got=found.lowering)
    return lowering.offer(problem.op, problem.inputs, problem.outputs, session.target, config=found.config)


def _note(nodes: list[Node], text: str) -> None:
    for node in nodes:
        node.note = text
