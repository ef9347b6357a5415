"""The trainer: fit, evaluate, predict, save and load."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..compiler import as_input, check_precision, open_session
from ..data import ArrayDataset, DataLoader
from ..errors import ArgumentError, DTypeError, FileError, ShapeError
from ..ir import TensorSpec
from ..models import from_recipe
from ..nn import Module
from ..ops.step import StepState
from ..optim import SGD, Optimizer
from ..plan import Plan
from ..runtime import Device, select_device
from . import compiled
from .checkpoint import read_checkpoint, write_checkpoint
from .history import History
from .interrupt import deferred
from .loop import Loop
from .objective import Objective
from .programs import EpochProgram
from .progress import make_progress
from .resume import describe, file_to_resume, resume_from, take_data_facts, take_over
from .shelf import Shelf
from .sources import as_data, augmentation, check_batch
from .state import Position, Tracked, load_arrays, model_variables, overwrite, step_variables

INTERRUPTED = "clnn-interrupted.safetensors"


class Trainer:
    """Trains a model on a device, and uses it.

    Args:
        model: a :class:`clnn.nn.Module` that gives (N, classes) scores.
        loss: ``cross_entropy``, ``mse`` or ``binary_cross_entropy_with_logits`` (on one-hot labels), or a function
            (scores, labels) → scalar.
        optimizer: from :mod:`clnn.optim`; SGD(lr=0.01, momentum=0.9) by default. Its schedule counts steps.
        device: ``auto``, a part of a device's name, ``platform:device`` or a Device.
        precision: see :func:`clnn.compile`.
        seed: of the order of images, augmentation and dropout. The initial weights are the model's affair.
        resident: whether data sets lie on the device; by default if they take at most a quarter of its memory.
            Others are streamed.

    Attributes:
        classes, mean, std: of the training set; None before fit.
        epoch, step: completed ones.
        history: of the last fit.
        position: where training stands, inside an epoch too.
        fitted: batch size, augmentation and size of the data of the last fit, which an exact continuation needs.
    """

    def __init__(self, model: Module, loss: str | Callable = "cross_entropy", optimizer: Optimizer | None = None,
                 device: str | Device = "auto", precision: str = "fp32", seed: int = 0, *, resident: bool | None = None):
        if not isinstance(model, Module):
            raise ArgumentError("the trainer takes a module", where="Trainer", got=type(model).__name__,
                                expected="a clnn.nn.Module", hint="wrap a function in a Module whose forward calls it")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise ArgumentError("this is not an optimiser", where="Trainer", got=repr(optimizer),
                                expected="one of clnn.optim, or None")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
            raise ArgumentError("not a seed", where="Trainer", got=repr(seed), expected="a whole number from 0 to 2**64 - 1")
        check_precision(precision)
        self.model, self.objective, self.optimizer = model, Objective(loss), optimizer or SGD(lr=0.01, momentum=0.9)
        self.device, self.precision, self.seed, self.resident = select_device(device), precision, int(seed), resident
        self.classes: list[str] | None = None
        self.mean: tuple[float, ...] | None = None
        self.std: tuple[float, ...] | None = None
        self.sample_shape: tuple[int, ...] | None = None
        self.history = History()
        self.position = Position()
        self.fitted: dict = {}
        self._program: EpochProgram | None = None
        self.shelf = Shelf()
        weakref.finalize(self, self.shelf.clear).atexit = False

    @property
    def epoch(self) -> int:
        return self.position.epoch

    @property
    def step(self) -> int:
        return self.position.step

    # -- training ---------------------------------------------------------------------------------------------------

    def fit(self, train, validation=None, epochs: int = 1, batch_size: int = 64, augment: str | dict | None = None,
            checkpoint: str | Path | None = None, checkpoint_every: int | None = None, resume: bool | str | Path = False,
            log_every: int | None = None, progress: bool = True, shuffle: bool = True,
            on_log: Callable[[dict], object] | None = None) -> History:
        """Train for ``epochs`` epochs more.

        Ctrl-C ends the run after the present step, saves a checkpoint and returns; a second one ends it at once.

        Args:
            train: an ArrayDataset, a DataLoader (its own batch size, order and transform count) or a pair (images, labels).
            validation: the same; evaluated after each epoch.
            batch_size: images per step; a smaller last batch is trained on too.
            augment: ``crop-flip`` (shift by up to 4 pixels, mirror every other image) or ``{"crop": pixels, "flip": bool}``.
            checkpoint: file to save to, after each epoch, or each ``checkpoint_every`` steps and at the end.
            resume: True goes on from ``checkpoint`` if it exists, a path from that file, exactly where it was written; ``epochs``
                then counts from the beginning of the run that wrote it.
            log_every: steps between two logged points; by default a twentieth of an epoch.
            on_log: called with each logged point, a dict as in ``History.steps``.

        Raises:
            DataError: the data does not fit the model or the batch size, or holds NaN.
            NumericsError: training diverged; names the layer. The model is in the last good state.
        """
        self._check_counts(epochs=epochs, checkpoint_every=checkpoint_every, log_every=log_every)
        resumed = file_to_resume(resume, checkpoint)
        show = make_progress(progress)
        data = as_data(train, batch_size, shuffle, self.seed)
        if isinstance(data, ArrayDataset):
            check_batch(batch_size, len(data))
        self._adopt(data)
        session = open_session(self.device)
        show.building(self.device.name)
        named = model_variables(self.model, self.optimizer)
        crop_flip = augmentation(augment)
        self._program = compiled.training(self, data, batch_size, shuffle, crop_flip, session)
        source = self._program.source
        evaluator = None if validation is None else compiled.evaluation(self, as_data(validation, 256, False, 0), 256, session)
        tracked = Tracked(named | step_variables(self._program.state))
        self.fitted = {"batch_size": source.batch, "augment": crop_flip, "count": source.count, "shuffle": bool(shuffle)}
        if resumed is not None:
            resume_from(self, resumed, tracked, show)
        else:
            self.position = Position(self.epoch, 0, self.step, first_epoch=self.epoch)
            overwrite(self._program.state.totals, np.zeros(3))
            source.refresh()
            self.history = History()
        last_epoch = self.position.first_epoch + epochs

        def save(arrays: dict[str, np.ndarray], path: str | Path | None = checkpoint) -> None:
            assert path is not None
            self.history.checkpoint = str(path)
            write_checkpoint(path, arrays, describe(self))

        def validate() -> dict:
            measured = evaluator.evaluate() if evaluator else {}
            return {f"validation_{key}": measured[key] for key in ("loss", "accuracy") if key in measured}

        with deferred() as interrupt:
            loop = Loop(self._program, tracked, self.optimizer, self.position, self.history, last_epoch=last_epoch,
                        log_every=log_every or max(1, round(source.steps / 20)), checkpoint_every=checkpoint_every,
                        save=save if checkpoint is not None else None, validate=validate, on_log=on_log, progress=show,
                        interrupt=interrupt)
            show.start(epochs, (self.epoch - self.position.first_epoch) * source.count + self.position.cursor, source.count)
            try:
                loop.run()
            except KeyboardInterrupt:
                if interrupt.forced:
                    loop.roll_back()
                    raise
                arrays = loop.halt()
                self.history.interrupted = True
                save(arrays, checkpoint or INTERRUPTED)
                show.message(f"interrupted at step {self.step}; the checkpoint is {self.history.checkpoint}")
            except BaseException:
                loop.roll_back()
                raise
            finally:
                show.stop()
        return self.history

    @staticmethod
    def _check_counts(**counts: int | None) -> None:
        for name, value in counts.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
                raise ArgumentError("not a count", where=name, got=repr(value), expected="a whole number above 0")

    def _adopt(self, data: ArrayDataset | DataLoader) -> None:
        """Take normalisation, classes and shape of the training set."""
        dataset = data.dataset if isinstance(data, DataLoader) else data
        self.mean, self.std = getattr(dataset, "mean", None), getattr(dataset, "std", None)
        self.classes = list(names) if (names := getattr(dataset, "classes", None)) else None
        self.sample_shape = tuple(dataset.sample_shape)

    # -- using the model --------------------------------------------------------------------------------------------

    def evaluate(self, data, batch_size: int = 256) -> dict:
        """Loss (the mean over all images), accuracy and count on a data set, with the model in evaluation mode.

        Images are normalised by the training set's mean and std; a DataLoader normalises by itself.
        """
        self._check_counts(batch_size=batch_size)
        session = open_session(self.device)
        program = compiled.evaluation(self, as_data(data, batch_size, False, 0), batch_size, session)
        program.source.refresh()
        return program.evaluate()

    def predict(self, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Probabilities (N, classes), float32.

        Args:
            x: raw images (N, …) as in the data set: uint8, or floats on the scale of mean and std (0 to 1 for a uint8 set).
        """
        self._check_counts(batch_size=batch_size)
        x = np.asarray(x)
        if x.dtype != np.uint8 and x.dtype.kind != "f":
            raise DTypeError("images are uint8 or floats", where="predict", got=x.dtype,
                             hint="x.astype(numpy.uint8) for values 0 to 255")
        if x.ndim < 2 or (self.sample_shape is not None and x.shape[1:] != self.sample_shape):
            hint = "a single image needs a batch axis: x[None]" if x.shape == self.sample_shape else None
            wanted = ", ".join(map(str, self.sample_shape)) if self.sample_shape else "…"
            raise ShapeError("images of another shape than those of the training", where="predict", got=x.shape,
                             expected=f"(N, {wanted})", hint=hint)
        session, x = open_session(self.device), as_input(x)
        batch = min(batch_size, 1 << max(len(x) - 1, 0).bit_length())
        program = compiled.prediction(self, TensorSpec((batch, *x.shape[1:]), str(x.dtype)), session)
        parts = [program.run(x[start:start + batch]) for start in range(0, max(len(x), 1), batch)]
        return np.concatenate(parts)

    # -- plans ------------------------------------------------------------------------------------------------------

    @property
    def training_plan(self) -> Plan:
        """The plan of a training step with a full batch.

        Raises:
            ArgumentError: before fit has compiled one.
        """
        if self._program is None:
            raise ArgumentError("there is no plan yet", where="Trainer.training_plan",
                                hint="call fit first, or clnn.compile(model, shape, loss, optimizer)")
        return self._program.plan

    def plan_summary(self) -> str:
        """Launches and memory of a training step."""
        return self.training_plan.summary()

    # -- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write model, optimiser, counters and normalisation to one safetensors file.

        Raises:
            FileError: the file cannot be written; what was there before stays.
        """
        state = self._program.state if self._program else StepState(self.seed)
        overwrite(state.step, np.asarray(self.step))
        named = model_variables(self.model, self.optimizer) | step_variables(state)
        write_checkpoint(path, {name: variable.array for name, variable in named.items()}, describe(self))

    @classmethod
    def load(cls, path: str | Path, model: Module | None = None, loss: str | Callable | None = None,
             device: str | Device = "auto") -> Trainer:
        """A trainer from a file that :meth:`save` or a checkpoint of :meth:`fit` wrote.

        Args:
            model: needed if the saved one was not built by :mod:`clnn.models`; of the same structure.
            loss: needed if the saved one was a function.

        Raises:
            FileError: missing, damaged, not a checkpoint, of a newer format, or one that needs ``model`` or ``loss``.
        """
        arrays, saved = read_checkpoint(path)
        if model is None and saved["model"] is None:
            raise FileError("the saved model was not built by clnn.models, so the file cannot rebuild it", where=path,
                            hint="build it as before and pass it: Trainer.load(path, model=…)")
        if loss is None and saved["loss"] is None:
            raise FileError("the saved loss was a function, which a file cannot hold", where=path,
                            hint="Trainer.load(path, loss=…)")
        trainer = cls(from_recipe(saved["model"]) if model is None else model, saved["loss"] if loss is None else loss,
                      Optimizer.from_config(saved["optimizer"]), device, saved["precision"], saved["seed"])
        load_arrays(model_variables(trainer.model, trainer.optimizer), arrays, path)
        for name, parameter in trainer.model.named_parameters():
            if name in saved["frozen"]:
                parameter.trainable = False
        take_over(trainer, saved)
        take_data_facts(trainer, saved)
        return trainer
