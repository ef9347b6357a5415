"""The process of a made-up opponent, which does as the case's parameter says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench import worker
from bench.side import Prepared, Unable


class Stub:
    """Cases: fine, unable, error, slow, dies, dies-running, stuck (cannot be let go)."""

    def about(self):
        return {"process": os.getpid(), "device": os.environ.get("BENCH_DEVICE")}

    def prepare(self, case, variant):
        what = case.params["what"]
        if what == "unable":
            raise Unable("not for me")
        if what == "error":
            raise RuntimeError("out of order")
        if what == "slow":
            time.sleep(60)
        if what == "dies":
            print("last words", file=sys.stderr)
            os._exit(3)

        def run():
            if what == "dies-running":
                os._exit(4)

        def sync():
            if what == "stuck":
                raise RuntimeError("an illegal address")
        return Prepared(run, sync if what == "stuck" else lambda: None, lambda number: np.arange(4.0), facts={"pid": os.getpid()})


worker.maker = lambda name: Stub()
worker.serve(sys.argv[1])
