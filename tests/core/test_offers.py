"""Offers are asked of each lowering once while a graph is compiled, refusals as well."""

from __future__ import annotations

import pytest

from clnn.codegen.lowering import Lowering
from clnn.errors import LoweringError
from clnn.ir import TensorSpec
from clnn.ops.matmul import Matmul
from clnn.passes.offers import Offers
from clnn.target import GENERIC_CPU

SPECS = (TensorSpec((3, 4)), TensorSpec((4, 5)))


@pytest.fixture
def asked() -> list[str]:
    return []


def lowering(name: str, asked: list[str], reason: str | None = None) -> Lowering:
    def emit(op, context) -> None:
        asked.append(name)
        if reason:
            raise LoweringError(reason)

    return Lowering(name, emit)


def test_an_offer_is_asked_once(asked):
    offers, op = Offers(GENERIC_CPU), Matmul()
    one, other = lowering("one", asked), lowering("other", asked)
    # fused operators make their lowerings anew each time
    first = offers.of(one, op, SPECS, op.infer(*SPECS), False)
    assert offers.of(lowering("one", asked), Matmul(), SPECS, op.infer(*SPECS), False) is first
    assert asked == ["one"]
    offers.of(other, op, SPECS, op.infer(*SPECS), False)
    offers.of(one, op, SPECS, op.infer(*SPECS), True)
    Offers(GENERIC_CPU).of(one, op, SPECS, op.infer(*SPECS), False)
    assert asked == ["one", "other", "one", "one"]


def test_other_tensors_are_another_question(asked):
    offers, op = Offers(GENERIC_CPU), Matmul()
    for rows in (3, 7, 3):
        specs = (TensorSpec((rows, 4)), TensorSpec((4, 5)))
        offers.of(lowering("one", asked), op, specs, op.infer(*specs), False)
    assert len(asked) == 2


def test_a_refusal_is_remembered_with_its_reason(asked):
    offers, op = Offers(GENERIC_CPU), Matmul()
    for _ in range(2):
        with pytest.raises(LoweringError, match="is too small"):
            offers.of(lowering("one", asked, "is too small"), op, SPECS, op.infer(*SPECS), False)
    assert asked == ["one"]
