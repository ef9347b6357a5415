"""A run killed by SIGKILL goes on as if nothing had happened."""

from __future__ import annotations

from kill_and_resume import trials


def test_killed_and_resumed_ends_with_the_same_bits(device):
    assert len(trials(2, device.id, seed=1)) == 2
