"""The options of ``clnn train`` that say how to train, and the optimiser they describe."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .defaults import LEARNING_RATES, MOMENTUM, Settings, training_settings
from .parser import count, natural, positive

if TYPE_CHECKING:
    from ..optim import Optimizer, Schedule

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine", "one-cycle")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("training", "What is left out is chosen for the model and the data.")
    group.add_argument("--epochs", type=count, metavar="N", help="passes over the training images")
    group.add_argument("--batch-size", type=count, metavar="N", help="images per step")
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="how parameters follow their gradients")
    group.add_argument("--lr", type=positive, metavar="RATE", help="learning rate; the highest one, where a schedule changes it")
    group.add_argument("--momentum", type=positive, metavar="M",
                       help=f"share of the old direction that sgd keeps (default {MOMENTUM})")
    group.add_argument("--weight-decay", type=positive, metavar="W", help="pull of all parameters towards zero")
    group.add_argument("--schedule", choices=SCHEDULES,
                       help="learning rate over time: constant; step: a tenth after each third; cosine: down to 0 along half a "
                            "cosine; one-cycle: up and down again")
    group.add_argument("--warmup-epochs", type=positive, metavar="E",
                       help="epochs in which the learning rate rises; one-cycle rises for 0.3 of all by itself")
    group.add_argument("--augment", choices=("none", "crop-flip"),
                       help="crop-flip: shift each training image by up to 4 pixels and mirror half of them")
    group.add_argument("--seed", type=natural, default=0, metavar="N",
                       help="of initial values, order and augmentation (default 0)")


@dataclass(frozen=True)
class Chosen:
    """The table's settings with the user's choices put in, and what the table does not hold."""

    settings: Settings
    momentum: float

    def __str__(self) -> str:
        s = self.settings
        parts = [s.optimizer, f"lr {s.lr:g} {s.schedule}"]
        if s.optimizer == "sgd":
            parts.append(f"momentum {self.momentum:g}")
        if s.weight_decay:
            parts.append(f"weight decay {s.weight_decay:g}")
        parts += [f"batch {s.batch_size}", f"{s.epochs} epoch{'s' if s.epochs > 1 else ''}"]
        if s.warmup_epochs:
            parts.append(f"{s.warmup_epochs:g} of warm-up")
        if s.augment:
            parts.append(s.augment)
        return ", ".join(parts)


def choose(given: argparse.Namespace, model: str, data: str) -> Chosen:
    """The settings for a model and a data set, with what the user said put in.

    Raises:
        ArgumentError: for a momentum with an optimiser that has none, or a warm-up that never ends.
    """
    row = training_settings(model, data)
    if given.optimizer not in (None, row.optimizer):
        row = replace(row, optimizer=given.optimizer, lr=LEARNING_RATES[given.optimizer])
    said = {name: getattr(given, name) for name in ("epochs", "batch_size", "lr", "weight_decay", "schedule", "warmup_epochs")}
    row = replace(row, **{name: value for name, value in said.items() if value is not None})
    if given.augment is not None:
        row = replace(row, augment=None if given.augment == "none" else given.augment)
    if given.momentum is not None and row.optimizer != "sgd":
        raise ArgumentError("only sgd has a momentum", where="--momentum", got=f"--optimizer {row.optimizer}",
                            hint="add --optimizer sgd, or leave the momentum out")
    if row.warmup_epochs >= row.epochs:
        raise ArgumentError("the warm-up does not end within the training", where="--warmup-epochs",
                            got=f"{row.warmup_epochs:g}", expected=f"below {row.epochs}, the number of epochs")
    return Chosen(row, MOMENTUM if given.momentum is None else given.momentum)


def make_schedule(chosen: Chosen, steps_per_epoch: int) -> Schedule:
    """The learning rate as a function of the step."""
    from ..optim import schedules
    s = chosen.settings
    total = s.epochs * steps_per_epoch
    warmup = round(s.warmup_epochs * steps_per_epoch)
    if s.schedule == "one-cycle" and total >= 2:
        return schedules.OneCycle(s.lr, total, warmup / total) if warmup else schedules.OneCycle(s.lr, total)
    rest = max(total - warmup, 1)
    after = {"constant": lambda: schedules.Constant(s.lr), "step": lambda: schedules.Step(s.lr, -(-rest // 3)),
             "cosine": lambda: schedules.Cosine(s.lr, rest), "one-cycle": lambda: schedules.Constant(s.lr)}[s.schedule]()
    return schedules.Warmup(after, warmup) if warmup else after


def make_optimizer(chosen: Chosen, steps_per_epoch: int) -> Optimizer:
    """The optimiser with its schedule."""
    from .. import optim
    s, schedule = chosen.settings, make_schedule(chosen, steps_per_epoch)
    if s.optimizer == "sgd":
        return optim.SGD(schedule, momentum=chosen.momentum, weight_decay=s.weight_decay)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[s.optimizer](schedule, weight_decay=s.weight_decay)
