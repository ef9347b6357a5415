"""What compiling does to the process around it."""

from __future__ import annotations

import gc

import pytest

from clnn.compiler import without_collections


@pytest.mark.parametrize("before", [True, False])
def test_collecting_garbage_goes_on_as_before(before):
    enabled = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(ZeroDivisionError), without_collections():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() == before
    finally:
        (gc.enable if enabled else gc.disable)()
