"""Small constant matrices as C text: y = M x with the sums that several rows share computed once."""

from __future__ import annotations

from collections.abc import Sequence


def _term(factor: float, name: str, first: bool) -> str:
    sign = "-" if factor < 0 else "" if first else "+"
    size = name if abs(factor) == 1 else f"{abs(factor)!r}f * {name}"
    return f"{sign}{size}" if first else f"{sign} {size}"


def _sum(row: Sequence[float], names: Sequence[str]) -> str:
    used = [(factor, name) for factor, name in zip(row, names, strict=True) if factor]
    if not used:
        return f"0.0f * {names[0]}"
    return " ".join(_term(factor, name, number == 0) for number, (factor, name) in enumerate(used))


def linear(matrix: Sequence[Sequence[float]], names: Sequence[str], results: Sequence[str], kind: str, prefix: str) -> list[str]:
    """Statements that declare ``results`` of type ``kind`` as the product of ``matrix`` and the variables ``names``.

    Two rows that differ only in the signs of some factors, as those of the interpolation points a and -a do, are the sum and the
    difference of what they have in common and what they have not. That halves the multiplications. ``prefix`` names the helpers.
    """
    lines: list[str] = []
    left = list(range(len(matrix)))
    while left:
        i = left.pop(0)
        twin = next((j for j in left if _mirrored(matrix[i], matrix[j])), None)
        if twin is None:
            lines.append(f"const {kind} {results[i]} = {_sum(matrix[i], names)};")
            continue
        left.remove(twin)
        even = [a if a == b else 0.0 for a, b in zip(matrix[i], matrix[twin], strict=True)]
        odd = [a if a != b else 0.0 for a, b in zip(matrix[i], matrix[twin], strict=True)]
        shared, differing = f"{prefix}{i}e", f"{prefix}{i}o"
        lines += [f"const {kind} {shared} = {_sum(even, names)};", f"const {kind} {differing} = {_sum(odd, names)};",
                  f"const {kind} {results[i]} = {shared} + {differing};",
                  f"const {kind} {results[twin]} = {shared} - {differing};"]
    return lines


def _mirrored(a: Sequence[float], b: Sequence[float]) -> bool:
    same = [x == y for x, y in zip(a, b, strict=True) if x or y]
    return all(abs(x) == abs(y) for x, y in zip(a, b, strict=True)) and any(same) and not all(same)


def sandwich(matrix: Sequence[Sequence[float]], name: str, result: str, kind: str) -> str:
    """Statements for R = M X Mᵀ: from variables <name><i>_<j> to <result><i>_<j>, first down the columns, then along the rows."""
    rows, cols = len(matrix), len(matrix[0])
    lines = []
    for j in range(cols):
        lines += linear(matrix, [f"{name}{i}_{j}" for i in range(cols)], [f"{result}t{i}_{j}" for i in range(rows)], kind,
                        f"{result}c{j}_")
    for i in range(rows):
        lines += linear(matrix, [f"{result}t{i}_{j}" for j in range(cols)], [f"{result}{i}_{j}" for j in range(rows)], kind,
                        f"{result}r{i}_")
    return "\n        ".join(lines)
