"""The knobs, and the form in which errors speak."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from clnn import errors
from clnn.config import KNOBS, Config, config
from clnn.errors import ArgumentError, ClnnError

READ = {"device": ("tesla", "tesla"), "debug": ("3", 3), "validate": ("yes", True), "data": ("/data", Path("/data")),
        "cache": ("/cache", Path("/cache")), "mask": ("fp16, subgroups,", ("fp16", "subgroups")),
        "lowering": ("Conv2d=direct,Matmul=simple", {"Conv2d": "direct", "Matmul": "simple"}), "layout": ("NHWC", "NHWC"),
        "workspace": ("64", 64)}
UNREADABLE = {"debug": "loud", "validate": "perhaps", "workspace": "1 GiB", "lowering": "direct"}


@pytest.fixture
def clean(monkeypatch):
    for knob in KNOBS.values():
        monkeypatch.delenv(knob.variable, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", KNOBS)
def test_knob_is_documented_and_has_a_default(name, clean):
    knob = KNOBS[name]
    assert knob.variable.startswith("CLNN_") and knob.variable.isupper() and knob.help and knob.form
    assert getattr(Config(), name) == knob.parse(knob.default)


@pytest.mark.parametrize("name", READ)
def test_knob_is_read_from_the_environment(name, clean):
    text, value = READ[name]
    clean.setenv(KNOBS[name].variable, text)
    assert getattr(config, name) == value


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_knob_says_what_to_do(name, clean):
    knob = KNOBS[name]
    clean.setenv(knob.variable, UNREADABLE[name])
    with pytest.raises(ArgumentError) as caught:
        getattr(config, name)
    text = str(caught.value)
    assert text.startswith(f"{knob.variable}: ") and repr(UNREADABLE[name]) in text and knob.form in text and "unset" in text


def test_knob_is_read_anew_each_time(clean):
    assert config.debug == 0
    clean.setenv("CLNN_DEBUG", "2")
    assert config.debug == 2


def test_override_wins_and_ends(clean):
    clean.setenv("CLNN_DEBUG", "1")
    with config.override(debug=4, mask=("fp16",)):
        assert (config.debug, config.mask) == (4, ("fp16",))
        with config.override(debug=5):
            assert (config.debug, config.mask) == (5, ("fp16",))
        assert config.debug == 4
    assert (config.debug, config.mask) == (1, ())


def test_override_ends_with_an_error(clean):
    with pytest.raises(RuntimeError), config.override(debug=4):
        raise RuntimeError
    assert config.debug == 0


def test_override_refuses_unknown_names():
    with pytest.raises(ArgumentError, match="unknown configuration name") as caught, config.override(debugging=1):
        pass
    assert "debugging" in str(caught.value) and "debug" in str(caught.value.expected)


def test_unknown_knob_is_an_attribute_error():
    with pytest.raises(AttributeError):
        _ = config.nothing


def test_error_text_has_a_fixed_form():
    error = ClnnError("the channels do not fit", where="features.0", got=3, expected=4, hint="give 4 channels")
    assert str(error) == ("features.0: the channels do not fit\n"
                          "  got:      3\n"
                          "  expected: 4\n"
                          "  try:      give 4 channels")
    assert (error.what, error.where, error.got, error.expected, error.hint) == \
        ("the channels do not fit", "features.0", 3, 4, "give 4 channels")


@pytest.mark.parametrize("where", [None, ""])
def test_error_text_leaves_out_what_is_not_known(where):
    assert str(ClnnError("it failed", where=where)) == "it failed"


def test_error_text_shows_zero_and_empty_values():
    assert str(ClnnError("too small", where=0, got=0, expected=())) == "0: too small\n  got:      0\n  expected: ()"


@pytest.mark.parametrize("kind", [c for c in vars(errors).values() if inspect.isclass(c)], ids=lambda c: c.__name__)
def test_every_error_is_a_clnn_error_and_says_when_it_is_raised(kind):
    assert issubclass(kind, ClnnError) and kind.__doc__ and kind.__doc__.split("\n")[0].endswith(".")
