"""Kill a training run with SIGKILL at random moments, resume it, and compare its weights with those of a run left alone.

    python tests/system/kill_and_resume.py --trials 20 [--device NAME]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS = 8


def train(checkpoint: str, device: str, ready: str | None = None) -> float:
    """The run: an MLP with dropout on the digits, saved every 3 steps.

    Args:
        ready: a file that is made when the first step is done.

    Returns:
        Seconds from there to the end.
    """
    from clnn import nn, optim
    from clnn.data import digits
    from clnn.train import Trainer
    with nn.seeded(5):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    t = Trainer(model, optimizer=optim.Adam(lr=optim.schedules.Cosine(0.01, 200)), device=device, seed=3)
    began = []

    def note(point: dict) -> None:
        if not began:
            began.append(time.monotonic())
            if ready:
                Path(ready).touch()

    t.fit(digits("train"), epochs=EPOCHS, batch_size=48, augment={"crop": 1}, checkpoint=checkpoint, checkpoint_every=3,
          resume=True, progress=False, log_every=1, on_log=note)
    return time.monotonic() - began[0] if began else 0.0


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    from clnn.nn import load_state
    return load_state(checkpoint)[0]


def trials(count: int, device: str = "auto", seed: int = 0) -> list[int]:
    """Kill ``count`` runs at random moments between their first step and their end.

    Returns:
        The step at which each was resumed.

    Raises:
        AssertionError: a resumed run ended with other bits than the uninterrupted one.
    """
    from clnn.train.checkpoint import read_checkpoint, read_position
    rng = random.Random(seed)
    resumed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        span = train(str(folder / "whole.safetensors"), device)
        expected = weights(folder / "whole.safetensors")
        for number in range(count):
            path, ready = folder / f"{number}.safetensors", folder / f"{number}.ready"
            child = subprocess.Popen([sys.executable, __file__, "--child", str(path), str(ready), "--device", device])
            while not ready.exists() and child.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * span)
            child.kill()
            child.wait()
            resumed.append(read_position(read_checkpoint(path)[1]).step if path.exists() else 0)
            train(str(path), device)
            got = weights(path)
            assert got.keys() == expected.keys()
            different = [key for key in expected if not np.array_equal(got[key], expected[key])]
            assert not different, f"trial {number}, resumed at step {resumed[-1]}: {different} differ"
            leftovers = list(folder.glob(".*.part"))
            assert not leftovers, leftovers
            print(f"trial {number + 1}/{count}: killed, resumed at step {resumed[-1]}, the same bits", flush=True)
    return resumed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("CHECKPOINT", "READY"))
    given = parser.parse_args()
    if given.child:
        train(given.child[0], given.device, given.child[1])
    else:
        steps = trials(given.trials, given.device, given.seed)
        print(f"{given.trials} of {given.trials} resumed runs ended with the same bits; resumed at steps {sorted(steps)}")


if __name__ == "__main__":
    main()
