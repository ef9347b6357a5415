"""The kernels that measure a device's peak, and by what the result is remembered; without OpenCL."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clnn.config import config
from clnn.runtime import speed
from clnn.runtime.speed import Peak, best_of, multiply_add_source, peak, shapes
from clnn.target import GENERIC_CPU, GENERIC_GPU


@pytest.mark.parametrize("width, lanes", [(16, [16, 8]), (8, [8, 4]), (4, [4, 4]), (1, [4, 4]), (32, [16, 8])])
def test_cpus_are_measured_in_their_widest_registers(width, lanes):
    found = shapes(replace(GENERIC_CPU, vector_width=width))
    assert [wide for wide, _ in found] == lanes and all(8 <= chains <= 14 for _, chains in found)
    assert shapes(replace(GENERIC_GPU, vector_width=width))[0][0] == 1


def test_the_chains_are_independent_and_go_through_a_helper():
    text = multiply_add_source(16, 12)
    assert "float16 chains(float16 x, float16 y, float16 first, int rounds)" in text and "WIDE" not in text
    assert all(text.count(f"a{i} = a{i} * x + y;") == 4 for i in range(12)) and "a12" not in text
    assert "float chains(float x" in multiply_add_source(1, 8)


def test_a_peak_is_measured_once_for_each_device_driver_and_cpu(monkeypatch, tmp_path):
    asked = []

    def measured(session):
        asked.append(session.target.version)
        return Peak(float(len(asked)), 2.0, 3.0)
    monkeypatch.setattr(speed, "_measure", measured)
    with config.override(cache=tmp_path):
        plain = SimpleNamespace(target=GENERIC_CPU)
        corrected = SimpleNamespace(target=replace(GENERIC_CPU, version=f"{GENERIC_CPU.version}, for another CPU"))
        found = [peak.__wrapped__(each).flops for each in (plain, corrected, plain, corrected)]
    assert found == [1.0, 2.0, 1.0, 2.0] and len(asked) == 2
    assert len(json.loads((tmp_path / "peaks.json").read_text())) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_a_spoilt_record_only_means_measuring_again(text, monkeypatch, tmp_path):
    (tmp_path / "peaks.json").write_text(text)
    monkeypatch.setattr(speed, "_measure", lambda session: Peak(1.0, 2.0, 3.0))
    with config.override(cache=tmp_path):
        assert peak.__wrapped__(SimpleNamespace(target=GENERIC_CPU)) == Peak(1.0, 2.0, 3.0)


def test_a_busy_moment_does_not_decide():
    """Others slow the first passes down; what counts is the best, once two passes in a row brought nothing."""
    passes = iter([Peak(40.0, 5.0, 9.0), Peak(100.0, 4.0, 2.0), Peak(60.0, 5.1, 3.0), Peak(90.0, 10.0, 4.0),
                   Peak(101.0, 7.0, 3.0), Peak(99.0, 9.9, 1.0), Peak(1e9, 1e9, 0.0)])
    assert best_of(lambda: next(passes)) == Peak(101.0, 10.0, 1.0)
    assert next(passes).flops == 1e9


def test_speeds_that_never_settle_end_the_measurement():
    rising = (Peak(2.0 ** i, 1.0, 1.0) for i in range(1000))
    assert best_of(lambda: next(rising)).flops == 2.0 ** 11
