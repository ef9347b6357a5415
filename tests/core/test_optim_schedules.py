"""Schedules against torch.optim.lr_scheduler; descriptions and refusals."""

import json

import pytest

from clnn.errors import ArgumentError
from clnn.optim.schedules import Constant, Cosine, MultiStep, OneCycle, Step, Warmup, as_schedule, from_config

TOTAL = 40

PAIRS = {
    "step": (Step(0.3, 7, 0.5), lambda s, o: s.StepLR(o, 7, 0.5)),
    "multi_step": (MultiStep(0.3, (5, 5, 21), 0.2), lambda s, o: s.MultiStepLR(o, [5, 5, 21], 0.2)),
    "cosine": (Cosine(0.3, TOTAL, 0.01), lambda s, o: s.CosineAnnealingLR(o, TOTAL, 0.01)),
    "one_cycle": (OneCycle(0.3, TOTAL), lambda s, o: s.OneCycleLR(o, 0.3, TOTAL)),
    "one_cycle_odd": (OneCycle(0.3, TOTAL, 0.13, 7, 300), lambda s, o: s.OneCycleLR(o, 0.3, TOTAL, pct_start=0.13, div_factor=7,
                                                                                    final_div_factor=300)),
    "warmup": (Warmup(Step(0.3, 6), 10, 0.03), lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1.0, 10), s.StepLR(o, 6)], [10])),
    "warmup_cosine": (Warmup(Cosine(0.3, 30), 10, 0.03), lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1.0, 10), s.CosineAnnealingLR(o, 30)], [10])),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ours, make", PAIRS.values(), ids=PAIRS)
def test_rates_are_torchs(ours, make):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = make(torch.optim.lr_scheduler, optimizer)
    for step in range(TOTAL):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-12)
        optimizer.step()
        if step + 1 < TOTAL:
            theirs.step()


def test_values():
    assert [Constant(0.1)(step) for step in (0, 10**6)] == [0.1, 0.1]
    assert [Warmup(Constant(1.0), 4)(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert Warmup(Constant(1.0), 0)(0) == 1
    assert Cosine(1.0, 10, 0.5)(10) == Cosine(1.0, 10, 0.5)(99) == 0.5
    assert OneCycle(1.0, 10)(9) == OneCycle(1.0, 10)(50) == pytest.approx(1 / 25 / 1e4)
    assert OneCycle(1.0, 10, warm_fraction=0.0)(0) == pytest.approx(1, rel=0.05)
    assert OneCycle(1.0, 10, warm_fraction=1.0)(9) == 1


@pytest.mark.parametrize("schedule", [Constant(0.1), *(pair[0] for pair in PAIRS.values())], ids=["constant", *PAIRS])
def test_configuration_round_trip(schedule):
    assert from_config(json.loads(json.dumps(schedule.config()))) == schedule


def test_configuration_text():
    assert Warmup(Constant(0.1), 5).config() == {
        "name": "Warmup", "schedule": {"name": "Constant", "lr": 0.1}, "steps": 5, "start": 0.0}
    assert as_schedule(0.5) == Constant(0.5)
    assert as_schedule({"name": "Step", "lr": 1.0, "every": 3}) == Step(1.0, 3)


@pytest.mark.parametrize("make, text", [
    (lambda: Constant(-1), "Constant: lr must be a finite number of at least 0\n  got:      lr=-1"),
    (lambda: Constant(float("inf")), "Constant: lr must be a finite number"),
    (lambda: Step(0.1, 0), "Step: every must be a whole number of steps, at least 1\n  got:      every=0"),
    (lambda: Step(0.1, 1.5), "Step: every must be a whole number of steps, at least 1"),
    (lambda: MultiStep(0.1, (5, 3)), "MultiStep: milestones must be steps in rising order\n  got:      milestones=(5, 3)"),
    (lambda: Cosine(0.1, -4), "Cosine: total must be a whole number of steps, at least 1"),
    (lambda: OneCycle(0.1, 1), "OneCycle: total must be a whole number of steps, at least 2"),
    (lambda: OneCycle(0.1, 10, 1.5), "OneCycle: warm_fraction must lie in 0 … 1"),
    (lambda: OneCycle(0.1, 10, start_divisor=0), "OneCycle: start_divisor must be above 0"),
    (lambda: OneCycle(0.1, 10, final_divisor=-1), "OneCycle: final_divisor must be above 0"),
    (lambda: Warmup(0.1, 10), "Warmup: schedule must be a schedule\n  got:      schedule=0.1"),
    (lambda: from_config({"name": "Cosin"}),
     "unknown schedule\n  got:      Cosin\n  expected: Constant, Step, MultiStep, Cosine, OneCycle"),
    (lambda: from_config({"name": "Step", "rate": 1}), "Step: the schedule does not take these fields\n  got:      ['rate']\n"
                                                       "  expected: ['lr', 'every', 'gamma']"),
])
def test_errors(make, text):
    with pytest.raises(ArgumentError) as error:
        make()
    assert str(error.value).startswith(text)
