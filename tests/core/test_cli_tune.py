"""What `clnn tune` understands."""

from __future__ import annotations

import pytest

from clnn.cli.entry import make_parser
from clnn.cli.suites import OPERATORS, SUITES, operators
from clnn.cli.tune import _subjects
from clnn.errors import ArgumentError
from clnn.ops.conv import Conv2d


def subjects(*words: str):
    return list(_subjects(make_parser().parse_args(["tune", *words])))


def test_every_model_has_its_batch_and_shape():
    found = subjects("resnet18@128", "lenet5", "resnet18@8@3,64,64", "--batch-size", "16")
    assert [(one.model, one.batch_size, one.input) for _, one in found] == [
        ("resnet18", 128, None), ("lenet5", 16, None), ("resnet18", 8, (3, 64, 64))]


def test_suites_stand_for_their_models_and_operators():
    assert [one.model for _, one in subjects("small")] == ["mlp", "lenet5"]
    assert subjects("conv@16", "gemm") == [(("conv", 16), None), (("gemm", None), None)]
    assert all(len(list(subjects(name))) == len(parts) for name, parts in SUITES.items())


@pytest.mark.parametrize("words, message", [
    (["resnet18@many"], "not a whole number"), (["resnet18@1@3,32,32@2"], "cannot be read"), (["small@3"], "own batch sizes"),
    (["conv", "--input", "3,32,32"], "a suite has its own images")])
def test_what_cannot_be_read_is_said(words, message):
    with pytest.raises(ArgumentError, match=message):
        subjects(*words)


def test_suites_of_operators():
    gemms = list(operators("gemm", None, "cpu"))
    assert len(gemms) == 30 and len({named.problem.key for named in gemms}) == 30
    layers = list(operators("conv", 16, "cpu"))
    assert len(layers) % 3 == 0 and len(layers) > 150 and set(OPERATORS) == {"conv", "gemm"}
    assert all(named.problem.inputs[0].shape[0] == 16 for named in layers)
    assert sum(isinstance(named.problem.op, Conv2d) for named in layers) == len(layers) // 3
