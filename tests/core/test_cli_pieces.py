"""The parts of the commands that need no device: defaults, settings, data, tables, rankings."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from clnn import models, optim
from clnn.cli import console, defaults, evaluate, explain, model, predict, train
from clnn.cli.data import data_name, default_size, load_for_model, split_training
from clnn.cli.directions import direction, forward_nodes
from clnn.cli.files import make_folder, writing
from clnn.cli.parser import Parser
from clnn.cli.settings import choose, make_optimizer, make_schedule
from clnn.data import NAMES, ArrayDataset
from clnn.errors import ArgumentError, FileError
from clnn.ir import Graph, TensorSpec
from clnn.optim import schedules


def given(*arguments: str, model: str = "lenet5", data: str = "digits") -> argparse.Namespace:
    """The options of ``clnn train``."""
    parser = Parser(prog="clnn")
    return train.add(parser.add_subparsers()).parse_args(["--model", model, "--data", data, *arguments])


def settings(*arguments: str, model: str = "lenet5", data: str = "digits"):
    return choose(given(*arguments, model=model, data=data), model, data)


# -- defaults -----------------------------------------------------------------------------------------------------------

def test_every_model_has_defaults():
    assert sorted(defaults.IMAGES) == models.names()
    assert all(name in defaults.MODELS for name in models.names())
    assert sorted(defaults.SHAPES) == sorted(NAMES)
    assert all(name in defaults.DATA for name in NAMES)


@pytest.mark.parametrize("name", models.names())
def test_the_default_images_fit_the_model(name):
    images = defaults.IMAGES[name]
    if name not in ("vgg16", "resnet50"):   # their many parameters take seconds to draw
        models.build(name, 10, images.sample)
        models.build(name, 10, (1, images.digits or 8, images.digits or 8))
        models.build(name, 10, (3, images.folder, images.folder))


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10", "pictures"])
def test_every_pair_has_settings(name, data):
    found = settings(model=name, data=data)
    assert isinstance(make_optimizer(found, 10), optim.Optimizer)


def test_the_most_special_row_wins():
    assert defaults.training_settings("lenet5", "MNIST").epochs == 3
    assert defaults.training_settings("lenet5", "pictures") == defaults.TRAINING[-1][2]


def test_choices_win_over_the_table():
    found = settings("--epochs", "7", "--batch-size", "5", "--optimizer", "sgd", "--momentum", "0.8", "--augment", "crop-flip",
                     "--weight-decay", "0.1", "--schedule", "cosine")
    optimizer = make_optimizer(found, 10)
    assert (found.settings.epochs, found.settings.batch_size, found.settings.augment) == (7, 5, "crop-flip")
    assert isinstance(optimizer, optim.SGD)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.8, 0.1)
    assert optimizer.schedule == schedules.Cosine(defaults.LEARNING_RATES["sgd"], 70)
    assert str(found) == "sgd, lr 0.05 cosine, momentum 0.8, weight decay 0.1, batch 5, 7 epochs, crop-flip"


def test_augmentation_can_be_switched_off():
    assert settings(model="resnet18", data="cifar10").settings.augment == "crop-flip"
    assert settings("--augment", "none", model="resnet18", data="cifar10").settings.augment is None


@pytest.mark.parametrize(("arguments", "expected"), [
    (("--schedule", "constant"), schedules.Constant(0.5)),
    (("--schedule", "step"), schedules.Step(0.5, 14)),
    (("--schedule", "cosine", "--warmup-epochs", "1"), schedules.Warmup(schedules.Cosine(0.5, 30), 10)),
    (("--schedule", "one-cycle"), schedules.OneCycle(0.5, 40)),
    (("--schedule", "one-cycle", "--warmup-epochs", "1"), schedules.OneCycle(0.5, 40, 0.25)),
])
def test_schedules(arguments, expected):
    assert make_schedule(settings("--lr", "0.5", "--epochs", "4", *arguments), 10) == expected


def test_a_single_step_has_a_schedule():
    assert make_schedule(settings("--epochs", "1", "--lr", "0.5"), 1) == schedules.Constant(0.5)


def test_contradictions_are_refused():
    with pytest.raises(ArgumentError, match="only sgd has a momentum"):
        settings("--optimizer", "adam", "--momentum", "0.9")
    with pytest.raises(ArgumentError, match="does not end"):
        settings("--epochs", "2", "--warmup-epochs", "2")


# -- data and models ----------------------------------------------------------------------------------------------------

def test_data_names():
    assert data_name("MNIST") == "mnist"
    assert data_name("some/where/flowers.tar.gz") == "flowers"


def test_sizes():
    assert default_size("lenet5", "digits") == 28
    assert default_size("mlp", "digits") is None
    assert default_size("resnet18", "cifar10") is None
    assert default_size("resnet18", "pictures") == 224
    assert default_size("my model", "pictures") is None


def test_digits_are_scaled_for_lenet():
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    assert load_for_model("digits", "lenet5", None, "test").sample_shape == (1, 28, 28)
    assert load_for_model("digits", "mlp", None, "test", 12).sample_shape == (1, 12, 12)


def test_split_training():
    data = ArrayDataset(np.arange(200, dtype=np.uint8).reshape(100, 2), np.arange(100) % 4)
    train_part, held_out = split_training(data, 50, 0.2)
    assert (len(train_part), len(held_out)) == (40, 10)
    assert max(train_part.images.max(), held_out.images.max()) == 99
    assert split_training(data, None, 0.0) == (data, None)
    with pytest.raises(ArgumentError, match="--validation"):
        split_training(data, 3, 0.1)


def test_model_options():
    options = given("--hidden", "30,20", "--activation", "tanh", model="mlp")
    assert model.build_model("mlp", 3, (1, 4, 4), options).recipe["options"] == {"sizes": [16, 30, 20, 3], "activation": "tanh"}
    options = given("--hidden", "30", model="one_hidden")
    assert model.parameter_count(model.build_model("one_hidden", 3, (16,), options)) == 16 * 30 + 30 + 30 * 3 + 3


def test_forward_and_backward():
    """Outputs and buffers belong to the forward pass, all else to the backward pass."""
    from clnn import ops
    from clnn.ir import Variable
    graph = Graph()
    x = graph.input(TensorSpec((4,)), "x")
    statistic, weight = (Variable(np.zeros(4, np.float32), name) for name in ("mean", "weight"))
    loss, mean, update = ops.relu(x), ops.tanh(x), ops.sigmoid(x)
    graph.outputs = [loss]
    graph.updates = {graph.variable(statistic): mean, graph.variable(weight): update}
    forward = forward_nodes(graph, frozenset([id(statistic)]))
    assert [direction(v.node, forward, False) for v in (loss, mean, update)] == ["forward", "forward", "backward"]
    assert direction(update.node, forward, True) == "forward"


def test_costs_belong_to_the_innermost_layer():
    layers = ["features", "features.0"]
    assert explain._owner("features.0.weight", layers) == "features.0"
    assert explain._owner("features.7", layers) == "features"
    assert explain._owner("", layers) == "-"


# -- output -------------------------------------------------------------------------------------------------------------

def test_plain_tables_keep_long_cells(capsys):
    console.table(("name", "ms"), [("a" * 100, 1), ("b", 12.5)], right=("ms",))
    assert capsys.readouterr().out.splitlines() == [
        f"{'name':100}    ms", f"{'a' * 100}     1", f"{'b':100}  12.5"]


def test_fields(capsys):
    console.fields([("a", "one\ntwo"), ("long", 3)])
    assert capsys.readouterr().out == "a     one\n      two\nlong  3\n"


def test_units():
    assert [console.size(n) for n in (5, 2048, 3 << 20, 5 << 30)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]
    assert console.percent(0.98765) == "98.77 %"


def test_ranking():
    found = predict.ranking(np.array([0.1, 0.6, 0.3]), ["a", "b", "c"], 2)
    assert [(entry["class"], entry["probability"]) for entry in found] == [("b", 0.6), ("c", 0.3)]
    assert len(predict.ranking(np.array([0.1, 0.9]), ["a", "b"], 5)) == 2


def test_confusion():
    counts = evaluate.confusion_matrix(np.array([0, 1, 1, 0, 0]), np.array([0, 1, 1, 1, 1]), 3)
    assert counts.tolist() == [[1, 0, 0], [2, 2, 0], [0, 0, 0]]
    assert [entry["accuracy"] for entry in evaluate.by_class(counts, "abc")] == [1.0, 0.5, None]
    assert evaluate.confused_pairs(counts, "abc") == [{"class": "b", "taken_for": "a", "count": 2}]


def test_unreadable_images_are_collected(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="images are read by Pillow")
    Image.new("L", (5, 5), 7).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / "bad.png", tmp_path / "good.png", tmp_path / "absent.png"]
    images, failures = predict.read_images(paths, (1, 8, 8))
    assert list(images) == [paths[1]]
    assert images[paths[1]].shape == (1, 8, 8)
    assert list(failures) == [paths[0], paths[2]]
    assert "bad.png" in str(failures[paths[0]])


def test_files_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file"):
        make_folder(tmp_path / "file")
    with pytest.raises(FileError, match="nowhere"), writing(Path("nowhere")):
        raise OSError(28, "No space left on device")
    assert make_folder(tmp_path / "a" / "b").is_dir()
