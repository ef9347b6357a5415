"""Models as commands get them: built by name with options, or read from a file, with the shape of their input."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .data import default_size, load_for_model, load_trained
from .defaults import DATA, IMAGES, MODELS, SHAPES
from .parser import add_data_root, add_device, count, extents

if TYPE_CHECKING:
    from ..nn import Module


def add_model_options(parser: argparse._ActionsContainer) -> None:
    """Declare the options of the fully connected models."""
    parser.add_argument("--hidden", type=extents, metavar="N,N…",
                        help="widths of the hidden layers of mlp, one_hidden or two_hidden")
    parser.add_argument("--activation", metavar="NAME",
                        help="after each hidden layer of mlp, one_hidden or two_hidden: relu, sigmoid, tanh, gelu …")


def build_model(name: str, classes: int, shape: tuple[int, ...], given: argparse.Namespace, seed: int = 0) -> Module:
    """The named model with the options of :func:`add_model_options`."""
    from .. import models
    options: dict[str, object] = {}
    if given.hidden is not None:
        options["hidden"] = given.hidden[0] if name == "one_hidden" and len(given.hidden) == 1 else given.hidden
    if given.activation is not None:
        options["activation"] = given.activation
    return models.build(name, classes, shape, seed=seed, **options)


def parameter_count(model: Module) -> int:
    """Numbers in all parameters."""
    return sum(parameter.array.size for parameter in model.parameters())


# -- looking at a model -------------------------------------------------------------------------------------------------

def add_subject(parser: argparse.ArgumentParser) -> None:
    """Declare MODEL and the options that say for which input, device and purpose it is compiled."""
    parser.add_argument("model", metavar="MODEL", help=f"{MODELS}; or a saved model file")
    add_purpose(parser)


def add_purpose(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say for which input, device and purpose a model is compiled."""
    group = parser.add_argument_group("what it is compiled for")
    group.add_argument("--data", metavar="NAME", help=f"take shape and classes from {DATA}")
    group.add_argument("--input", type=extents, metavar="C,H,W", help="shape of one image, such as 1,28,28")
    group.add_argument("--classes", type=count, metavar="N", help="number of classes (default: that of the data, or 10)")
    group.add_argument("--batch-size", type=count, default=64, metavar="N", help="images per step (default 64)")
    group.add_argument("--inference", action="store_true",
                       help="the forward pass only; otherwise a training step with momentum SGD")
    add_model_options(group)
    add_data_root(group)
    add_device(group)


@dataclass(frozen=True)
class Subject:
    """A model to look at: its name, and the shape of one input."""

    name: str
    model: Module
    sample: tuple[int, ...]
    classes: int

    @property
    def buffers(self) -> frozenset[int]:
        """The ids of its buffers, such as running statistics."""
        return frozenset(id(buffer) for buffer in self.model.buffers())

    def layers(self) -> list[str]:
        """The paths of all its modules, from input to output."""
        return [path for path, _ in self.model.named_modules() if path]


def open_subject(given: argparse.Namespace) -> Subject:
    """The model that the options of :func:`add_subject` describe.

    Raises:
        ArgumentError: for options that contradict each other, or an unknown model.
    """
    if given.data is not None and given.input is not None:
        raise ArgumentError("the shape of the input is given twice", where="--input", got=f"--data {given.data} and --input",
                            hint="leave one of them out")
    if Path(given.model).is_file() or given.model.endswith(".safetensors"):
        return _from_file(given)
    if given.data is not None:
        sample, classes = _shape_of(given.data, given.model, given.data_root)
    else:
        sample, classes = given.input or (IMAGES[given.model].sample if given.model in IMAGES else (3, 32, 32)), 10
    classes = given.classes or classes
    return Subject(given.model, build_model(given.model, classes, sample, given), sample, classes)


def _from_file(given: argparse.Namespace) -> Subject:
    fixed = {"--data": given.data, "--input": given.input, "--classes": given.classes, "--hidden": given.hidden,
             "--activation": given.activation}
    if said := [name for name, value in fixed.items() if value is not None]:
        raise ArgumentError("the model file says this already", where=given.model, got=", ".join(said), hint="leave it out")
    trained = load_trained(given.model, given.device)
    return Subject(given.model, trained.trainer.model, trained.sample_shape, len(trained.classes))


def _shape_of(data: str, model: str, root: str | None) -> tuple[tuple[int, ...], int]:
    """Shape of one image as the model gets it, and the number of classes."""
    if data.lower() in SHAPES:
        (channels, height, width), classes = SHAPES[data.lower()]
        size = default_size(model, data)
        return ((channels, size, size) if size else (channels, height, width)), classes
    found = load_for_model(data, model, root, "train")
    return tuple(found.sample_shape), found.num_classes


def compile_subject(subject: Subject, given: argparse.Namespace):
    """The compiled program of a subject: a :class:`clnn.step.Step`."""
    from ..compiler import compile
    return compile(*_purpose(subject, given), device=given.device)


def graph_of_subject(subject: Subject, given: argparse.Namespace, session):
    """The graph of a subject after all passes, without building anything."""
    from ..compiler import optimise, program
    graph, passes, _ = program(*_purpose(subject, given))
    return optimise(graph, session, passes)


def _purpose(subject: Subject, given: argparse.Namespace) -> tuple:
    """Model, shape, loss and optimizer, as :func:`clnn.compiler.compile` takes them."""
    from ..optim import SGD
    shape = (given.batch_size, *subject.sample)
    if given.inference:
        return subject.model.eval(), shape, None, None
    return subject.model.train(), shape, "cross_entropy", SGD(0.01, momentum=0.9)


def describe(subject: Subject, given: argparse.Namespace, step) -> list[tuple[str, object]]:
    """Names and values that head the output of the commands."""
    purpose = "inference" if given.inference else "a training step with momentum SGD"
    return [("device", step.session.device),
            ("model", f"{subject.name}: {parameter_count(subject.model):,} parameters, {subject.classes} classes"),
            ("program", f"{purpose}, {given.batch_size} images of {'x'.join(map(str, subject.sample))}")]
