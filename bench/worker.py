"""The child process of :class:`bench.side.Remote`: one JSON question per line in, one answer per line out."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

import numpy as np

from bench.cases import Case
from bench.opponents import maker
from bench.side import Local, Unable


def _own_output() -> TextIO:
    """Standard output for the answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _guarded(function, *arguments) -> dict:
    try:
        return {"result": function(*arguments)}
    except Unable as error:
        return {"unable": str(error)}
    except Exception as error:          # out of memory, an unsupported shape, a compiler's complaint: all are reasons to skip
        return {"unable": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "unexpected": True}


def serve(name: str) -> None:
    """Answer until the questions end."""
    answers = _own_output()

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    found: list[Local] = []

    def start() -> dict:
        found.append(Local(maker(name)))
        return found[0].about

    say(_guarded(start))
    if not found:
        return
    side = found[0]
    convert = {"prepare": lambda case, variant: (Case.from_json(case), variant),
               "values": lambda handle, output, indices: (handle, output, np.array(indices, np.int64))}
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        answer = _guarded(lambda w=what, a=arguments: getattr(side, w)(*convert.get(w, lambda *same: same)(*a)))
        if isinstance(answer.get("result"), np.ndarray):
            answer = {"result": answer["result"].tolist()}
        say(answer)


if __name__ == "__main__":
    serve(sys.argv[1])
