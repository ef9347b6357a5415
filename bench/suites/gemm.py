"""Matrix products C = A' B'; N and T say which of them is transposed."""

from __future__ import annotations

from bench.cases import Case, matmul_reference
from bench.measure import Competition
from bench.options import Options

SQUARES = {"cpu": (512, 1024, 2048), "gpu": (512, 1024, 2048, 4096, 8192)}
#: M, N, K: layers of MLPs and classifiers, a tall and a flat product, a long sum, and matrix times vector
_MLP = (128, 512, 784), (128, 10, 256)
ODD = {"cpu": (*_MLP, (64, 4096, 4096), (4096, 64, 1024), (64, 64, 16384), (1, 4096, 4096), (4096, 1, 4096)),
       "gpu": (*_MLP, (64, 4096, 25088), (16384, 64, 1024), (64, 64, 65536), (1, 8192, 8192), (8192, 1, 8192))}


def case(m: int, n: int, k: int, form: str, group: str) -> Case:
    """One product; ``form`` is NN, NT or TN."""
    a, b = form
    inputs = {"a": (k, m) if a == "T" else (m, k), "b": (n, k) if b == "T" else (k, n)}
    return Case(f"{m}×{n}×{k} {form}", "matmul", {"a": a, "b": b, "m": m, "n": n, "k": k}, inputs, 2 * m * n * k,
                4 * (m * k + k * n + m * n), group, outputs=((m, n),))


def cases(kind: str, quick: bool) -> list[Case]:
    squares = SQUARES[kind][:3 if kind == "gpu" else 2] if quick else SQUARES[kind]
    found = [case(n, n, n, form, "square") for n in squares for form in ("NN", "NT", "TN")]
    odd = ODD[kind][::3] if quick else ODD[kind]
    return found + [case(m, n, k, form, "odd") for m, n, k in odd for form in (("NT",) if quick else ("NN", "NT", "TN"))]


def run(options: Options) -> dict:
    return Competition("gemm", options, lambda made, _, indices, values: matmul_reference(made, indices)).run(
        cases("cpu" if options.is_cpu else "gpu", options.quick))
