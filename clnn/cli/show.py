"""``clnn show``: the generated OpenCL source of a layer's kernels."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from . import console
from .directions import BACKWARD, FORWARD, direction, forward_nodes
from .model import Subject, add_subject, compile_subject, open_subject
from .parser import nearest

if TYPE_CHECKING:
    from ..plan.plan import PlannedLaunch
    from ..step import Step


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("show", help="the generated OpenCL source of a layer's kernels",
                                 description="Print the OpenCL C text that is generated for a layer of a model. Piped into a "
                                             "file it is a source that OpenCL compilers take.")
    add_subject(parser)
    parser.add_argument("layer", metavar="LAYER",
                        help="path of a layer, such as conv1, features.0 or layer1.0.conv1; of a group of layers, such as "
                             "features; or - for what belongs to no layer, such as the loss")
    parser.add_argument("--direction", choices=(FORWARD, BACKWARD, "all"), default="all",
                        help="kernels of the forward pass, of the backward pass with the updates, or all (default)")
    return parser


def run(given: argparse.Namespace) -> int:
    """Show one layer."""
    subject = open_subject(given)
    layers = subject.layers()
    if given.layer != "-" and given.layer not in layers:
        near = nearest(given.layer, layers)
        raise ArgumentError("the model has no such layer", where=subject.name, got=given.layer,
                            expected=", ".join([*layers, "-"]), hint=f"did you mean {near}?" if near else None)
    step = compile_subject(subject, given)
    found = _launches(step, subject, given)
    if not found:
        raise ArgumentError(_absence(step, given), where=given.layer, expected=", ".join(_with_kernels(step, layers)))
    from ..codegen.template import render
    seen: set[str] = set()
    for launch, way in found:
        name, text = render(launch.kernel)
        if name not in seen:
            seen.add(name)
            _print(_title(launch, way), text)
    return 0


def _belongs(path: str, layer: str) -> bool:
    """Whether a node lies in a layer, or in a layer or parameter below it."""
    return path == layer or path.startswith(f"{layer}.") if layer != "-" else not path


def _launches(step: Step, subject: Subject, given: argparse.Namespace) -> list[tuple[PlannedLaunch, str]]:
    forward = forward_nodes(step.graph, subject.buffers)
    ways = [(launch, direction(launch.node, forward, given.inference)) for launch in step.plan.launches]
    return [(launch, way) for launch, way in ways if _belongs(launch.node.path, given.layer) and given.direction in (way, "all")]


def _absence(step: Step, given: argparse.Namespace) -> str:
    if any(_belongs(launch.node.path, given.layer) for launch in step.plan.launches):
        return f"the layer has no kernel in the {given.direction} pass"
    return "the layer has no kernel of its own: it is fused into a neighbour, or moves no data"


def _with_kernels(step: Step, layers: list[str]) -> list[str]:
    return [layer for layer in layers if any(_belongs(launch.node.path, layer) for launch in step.plan.launches)]


def _title(launch: PlannedLaunch, way: str) -> str:
    kernel = launch.kernel
    sizes = [" x ".join(map(str, extent)) for extent in (kernel.global_size, kernel.local_size)]
    return f"// {launch.name}, {way}: {kernel.label}; global size {sizes[0]}, local size {sizes[1]}"


def _print(title: str, text: str) -> None:
    if sys.stdout.isatty():
        from rich.syntax import Syntax
        console.output().print(f"\n{title}", style="bold")
        console.output().print(Syntax(text, "c", background_color="default", word_wrap=True), soft_wrap=False)
    else:
        print(f"{title}\n{text}\n")
