"""Made-up times of the candidates of a matrix product on a GPU, with the interactions that real ones have, and the best."""

from __future__ import annotations

import functools
import itertools
import math

from clnn.ir import TensorSpec
from clnn.ops.matmul import Matmul
from clnn.target import GENERIC_GPU
from clnn.tune.problem import Problem
from clnn.tune.space import Candidate, Space


def matmul_problem(m: int, n: int, k: int) -> Problem:
    inputs = (TensorSpec((m, k)), TensorSpec((k, n)))
    return Problem(Matmul(), inputs, Matmul().infer(*inputs))


def matmul_space(m: int, n: int, k: int) -> Space:
    return Space(matmul_problem(m, n, k), GENERIC_GPU)


def seconds(candidate: Candidate, m: int, n: int, k: int) -> float:
    """Rounds of work-groups over the machine, reuse in registers and local memory, occupancy, and the cost of splitting."""
    if candidate.lowering != "tiled":
        return 60.0 * m * n * k / 1e8
    config = candidate.config
    t, splits = config["gemm/tiled"], config["splits"]
    items = t["BM"] // t["TM"] * (t["BN"] // t["TN"])
    rounds = math.ceil(math.ceil(m / t["BM"]) * math.ceil(n / t["BN"]) * splits / 32)
    reuse = min(1.0, 0.25 + 0.2 * t["TM"] * t["TN"] / (t["TM"] + t["TN"]))
    crowding = max(64 / items, 1.0, (items / 256) ** 0.5) * (1.12 if t["TM"] * t["TN"] >= 64 else 1.0)
    depth = math.ceil(k / splits) + 3 * t["BK"]
    waiting = 1.0 + 2.0 / t["BK"]
    local = 4 * t["STAGES"] * t["BK"] * (t["BM"] + t["BN"] + 8)
    staging = (0.95 if t["STAGES"] == 2 else 1.0) * (1.15 if local > 20000 else 1.0)
    total = rounds * t["BM"] * t["BN"] * depth / reuse * crowding * waiting * staging
    if splits > 1:
        join = config["gemm/join"]
        off = abs(math.log2(join["CHUNK"]) - 2) + abs(math.log2(join["GROUP"]) - 7)
        total += 2e5 + m * n * splits * (1 + 0.05 * off) / 8
    return total / 1e8


@functools.cache
def best(m: int, n: int, k: int) -> float:
    """The least seconds in the whole space."""
    space = matmul_space(m, n, k)
    dimensions = {d.name: d.values for d in space.dimensions(space.default)
                  if d.template == "gemm/tiled" and d.name != "UNROLL"}         # which makes no difference here
    found = math.inf
    for splits in next(d.values for d in space.dimensions(space.default) if d.name == "splits"):
        for values in itertools.product(*dimensions.values()):
            candidate = space.candidate("tiled", {"splits": splits, "gemm/tiled": dict(zip(dimensions, values, strict=True)),
                                                  "gemm/join": {"CHUNK": 4, "GROUP": 128}})
            found = min(found, seconds(candidate, m, n, k) if candidate else math.inf)
    return found
