"""What commands assume where the user says nothing: image sizes by model, and how to train which model on which data."""

from __future__ import annotations

from dataclasses import dataclass

DATA = "digits, mnist, cifar10, or the path of a folder or archive of images in class folders"


@dataclass(frozen=True)
class Images:
    """The images that a model is looked at with.

    Attributes:
        sample: shape of an input when neither data nor shape is given.
        digits: extent to which the 8×8 digits are scaled; None leaves them as they are.
        folder: extent to which the images of a folder are scaled.
    """

    sample: tuple[int, int, int]
    digits: int | None
    folder: int


IMAGES: dict[str, Images] = {
    #                       sample          digits  folder
    "lenet5":        Images((1, 28, 28),    28,     28),
    "mlp":           Images((1, 28, 28),    None,   28),
    "one_hidden":    Images((1, 28, 28),    None,   28),
    "two_hidden":    Images((1, 28, 28),    None,   28),
    "vgg_small":     Images((3, 32, 32),    16,     32),
    "vgg16":         Images((3, 224, 224),  32,     224),
    "resnet18":      Images((3, 32, 32),    16,     224),
    "resnet50":      Images((3, 224, 224),  32,     224),
    "mobilenet_v2":  Images((3, 224, 224),  32,     224),
}

MODELS = ", ".join(IMAGES)

#: shape and classes of the data sets of fixed shape, known without reading them
SHAPES: dict[str, tuple[tuple[int, int, int], int]] = {
    "digits": ((1, 8, 8), 10), "mnist": ((1, 28, 28), 10), "cifar10": ((3, 32, 32), 10)}


@dataclass(frozen=True)
class Settings:
    """How to train."""

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    weight_decay: float = 0.0
    augment: str | None = None
    warmup_epochs: float = 0.0


#: the first row whose model and data fit counts; "*" fits all
TRAINING: tuple[tuple[str, str, Settings], ...] = (
    # model       data                epochs batch optimizer lr     schedule     decay  augmentation warm-up
    ("lenet5",     "digits",  Settings(20,  32,    "adam",   2e-3,  "one-cycle")),
    ("lenet5",     "mnist",   Settings(3,   32,    "adam",   2e-3,  "one-cycle", 0.0,   None,        0.3)),
    ("lenet5",     "cifar10", Settings(20,  64,    "adam",   2e-3,  "one-cycle", 0.0,   "crop-flip")),
    ("two_hidden", "mnist",   Settings(3,   64,    "adam",   2e-3,  "one-cycle")),
    ("resnet18",   "cifar10", Settings(30,  128,   "sgd",    0.1,   "one-cycle", 5e-4,  "crop-flip")),
    ("vgg_small",  "cifar10", Settings(20,  128,   "sgd",    0.05,  "one-cycle", 5e-4,  "crop-flip")),
    ("vgg16",      "*",       Settings(30,  64,    "sgd",    0.01,  "cosine",    5e-4)),
    ("resnet18",   "*",       Settings(20,  64,    "sgd",    0.05,  "one-cycle", 5e-4)),
    ("resnet50",   "*",       Settings(20,  64,    "sgd",    0.05,  "one-cycle", 1e-4)),
    ("*",          "digits",  Settings(30,  32,    "adam",   2e-3,  "one-cycle")),
    ("*",          "mnist",   Settings(3,   64,    "adam",   1e-3,  "one-cycle")),
    ("*",          "*",       Settings(20,  64,    "adam",   1e-3,  "one-cycle")),
)

#: learning rate for an optimiser that the user chose against the table
LEARNING_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
MOMENTUM = 0.9
#: part of the training images that is held out to watch the training
VALIDATION = 0.1


def training_settings(model: str, data: str) -> Settings:
    """The row of :data:`TRAINING` for a model and a data set."""
    return next(settings for m, d, settings in TRAINING if m in (model, "*") and d in (data.lower(), "*"))
