"""The store hook: what a kernel does with a finished element.

A kernel never writes ``y[i] = v``. It hands v and the position i to the hook, which applies the fused pointwise tail (bias,
activation, residual, weight update …), reads the tail's operands and writes its outputs. Without a tail the hook writes v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InternalError
from ..ir import TensorSpec
from .channels import component
from .expr import FUNCTIONS, Expr, arg, arguments, to_c, topological, uses

C_TYPES = {"float32": "float", "float64": "double", "int32": "int", "uint32": "uint", "uint8": "uchar", "int8": "char",
           "int64": "long", "bool": "uchar"}


def lies_as(operand: TensorSpec, result: TensorSpec) -> bool:
    """Whether an operand has an element where each element of the result is."""
    return operand.shape == result.shape and operand.layout == result.layout


def by_vector(count: int, strides: Sequence[int]) -> bool:
    """Whether ``count`` neighbours of a row, from a multiple of their number on, are one aligned vector in a tensor of images."""
    *others, along = strides
    return count in (2, 4) and along == 1 and all(step % count == 0 for step in others)


def offset_of(operand: TensorSpec, result: TensorSpec, index: str, row: str | None = None) -> str:
    """C text for the offset of the element of ``operand`` that is broadcast to physical position ``index`` of ``result``.

    ``row`` is a position in the same row of ``result``, that is, with other coordinates only along the innermost dimension.
    """
    if operand.size == 1:
        return "0"
    if lies_as(operand, result):
        return index
    walked = _walk(operand, result)
    terms, below = [], 1
    for position, (extent, stride) in enumerate(walked):
        digit = index if below == 1 else f"{row or index} / {below}"
        if position + 1 < len(walked):
            digit = f"({digit}) % {extent}"
        if stride:
            terms.append(f"({digit})" if stride == 1 else f"({digit}) * {stride}")
        below *= extent
    return " + ".join(terms) or "0"


def _walk(operand: TensorSpec, result: TensorSpec) -> list[tuple[int, int]]:
    """(extent, stride) in ``operand`` of what ``result`` is walked by, innermost first, neighbours merged."""
    shape = (1,) * (result.rank - operand.rank) + operand.shape
    strides = TensorSpec(shape, operand.dtype, operand.layout).strides
    walked: list[tuple[int, int]] = []
    for dim in reversed(result.layout.dims(result.shape)):
        stride = 0 if shape[dim.axis] == 1 else strides[dim.axis] * dim.scale
        if dim.extent == 1:
            continue
        if walked and stride == walked[-1][0] * walked[-1][1]:
            walked[-1] = (walked[-1][0] * dim.extent, walked[-1][1])
        else:
            walked.append((dim.extent, stride))
    return walked


def logical_index(result: TensorSpec, index: str) -> str:
    """C text for the row-major index of the element at physical position ``index``."""
    row_major = TensorSpec(result.shape, result.dtype)
    if result.layout == row_major.layout:
        return index
    terms, below = [], 1
    for dim in reversed(result.layout.dims(result.shape)):
        terms.append(f"({index} / {below}) % {dim.extent} * {dim.scale * row_major.strides[dim.axis]}")
        below *= dim.extent
    return " + ".join(terms)


def _run_of(operand: TensorSpec, result: TensorSpec, source: str, index: str, kind: str, loose: str, run: int) -> str | None:
    """C text for the vector of ``operand``'s elements for neighbours of ``result`` from ``index`` on, if it is one; all are
    among the ``run`` from one multiple of ``run`` on."""
    if operand.dtype != "float32":
        return None
    at = offset_of(operand, result, index)
    if operand.size > 1 and not lies_as(operand, result):
        extent, stride = _walk(operand, result)[0]
        if extent % run or stride > 1:
            return None
        if stride == 0:
            return f"({kind})({source}[{at}])"
    return f"({kind})({source}[0])" if operand.size == 1 else f"*(__global const {loose}*)({source} + {at})"


@dataclass(frozen=True)
class Store:
    """One output of a kernel with its tail.

    ``exprs`` read the finished element as argument 0 and ``operands`` as arguments 1, 2, …; there is one expression per tensor of
    ``outputs``, which all have ``result``'s shape and layout.
    """

    result: TensorSpec
    exprs: tuple[Expr, ...] = (arg(0),)
    operands: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", (self.result,))
        if len(self.exprs) != len(self.outputs):
            raise InternalError("a store has not one expression per output", got=self)

    def parameters(self, name: str) -> list[str]:
        """The kernel parameters that the hook needs, operands first."""
        reads = [f"__global const {C_TYPES[s.dtype]}* restrict {name}_in{i}" for i, s in enumerate(self.operands)]
        return reads + [f"__global {C_TYPES[s.dtype]}* restrict {name}_out{i}" for i, s in enumerate(self.outputs)]

    def statements(self, name: str, index: str, value: str, row: str | None = None) -> str:
        """The C block that stores ``value`` at physical position ``index``.

        ``row``, a position in the same row of the result, shows compilers that what is broadcast along rows is the same there.
        """
        if self.exprs == (arg(0),):
            cast = "" if self.outputs[0].dtype == "float32" else f"({C_TYPES[self.outputs[0].dtype]})"
            return f"{name}_out0[{index}] = {cast}({value});"
        lines, results = self._element(name, index, value, row)
        lines += [f"{name}_out{number}[{name}_i] = {text};" for number, text in enumerate(results)]
        return "{ " + "\n      ".join(lines) + " }"

    def vector_statements(self, name: str, index: str, values: Sequence[str]) -> str:
        """The C block that stores neighbours from physical position ``index`` on, each output by one vector.

        ``index`` is a multiple of their number, which is 2, 4, 8 or 16.
        """
        lines, lanes = [], []
        one_row = self.result.layout.dims(self.result.shape)[-1].extent % len(values) == 0
        for lane, value in enumerate(values):
            row = f"{name}0_i" if one_row and lane else None
            added, results = self._element(name, f"({index}) + {lane}", value, row, lane, len(values))
            lines += added
            lanes.append(results)
        for number, spec in enumerate(self.outputs):
            kind = f"{C_TYPES[spec.dtype]}{len(values)}"
            joined = ", ".join(results[number] for results in lanes)
            lines.append(f"*(__global {kind}*)({name}_out{number} + {name}0_i) = ({kind})({joined});")
        return "{ " + "\n      ".join(lines) + " }"

    def run_statements(self, name: str, index: str, value: str, lanes: int, run: int) -> str | None:
        """The C block that stores the vector ``value`` of so many ``lanes`` from physical position ``index`` on, and computes
        the tail by vectors as well; None if that cannot be done.

        All lanes lie among the ``run`` neighbours from one multiple of ``run`` on. ``index`` need not be a multiple of anything.
        """
        needed, kind, loose = arguments(self.exprs), f"float{lanes}", f"{name}_loose"
        functions = {expr.function for expr in topological(self.exprs)} - {"arg", "const"}
        if any(FUNCTIONS[function].calls for function in functions) or any(spec.dtype != "float32" for spec in self.outputs):
            return None
        lines = [f"typedef {kind} {loose} __attribute__((aligned(4)));", f"const index_t {name}_i = {index};",
                 f"const {kind} {name}_a0 = {value};"]
        for number, spec in enumerate(self.operands, start=1):
            if number in needed:
                text = _run_of(spec, self.result, f"{name}_in{number - 1}", f"{name}_i", kind, loose, run)
                if text is None:
                    return None
                lines.append(f"const {kind} {name}_a{number} = {text};")
        texts = {number: f"{name}_a{number}" for number in needed}
        body, results = to_c(self.exprs, texts, "", prefix=f"{name}_v", kind=kind)
        lines += [*body, *(f"*(__global {loose}*)({name}_out{number} + {name}_i) = ({kind})({text});"
                           for number, text in enumerate(results))]
        return "{ " + "\n      ".join(lines) + " }"

    def needed_ahead(self, name: str, index: str) -> list[str]:
        """C text for where the operands lie that are as large as the result, at physical position ``index``: what a kernel may
        ask the cache for while it still computes."""
        needed = arguments(self.exprs)
        return [f"{name}_in{number} + {index}" for number, spec in enumerate(self.operands)
                if number + 1 in needed and lies_as(spec, self.result)]

    def _element(
        self, name: str, index: str, value: str, row: str | None, lane: int = 0, lanes: int = 1
    ) -> tuple[list[str], list[str]]:
        """Statements that compute one element, and for each output the text of what is stored.

        Of several ``lanes`` the first loads operands of the result's shape for all.
        """
        needed, own = arguments(self.exprs), f"{name}{lane}" if lanes > 1 else name
        lines = [f"const index_t {own}_i = {index};"]
        texts = {0: f"{own}_a0"}
        if 0 in needed:
            lines.append(f"const float {own}_a0 = {value};")
        for number, spec in enumerate(self.operands, start=1):
            if number in needed:
                source, kind = f"{name}_in{number - 1}", C_TYPES[spec.dtype]
                texts[number] = f"{own}_a{number}"
                if lanes > 1 and lies_as(spec, self.result):
                    loaded, vector = f"{name}_w{number}", f"{kind}{lanes}"
                    if lane == 0:
                        lines.append(f"const {vector} {loaded} = *(__global const {vector}*)({source} + {own}_i);")
                    element = component(loaded, lane, lanes)
                else:
                    element = f"{source}[{offset_of(spec, self.result, f'{own}_i', row)}]"
                lines.append(f"const {'float' if kind == 'double' else kind} {own}_a{number} = {element};")
        logical = f"{own}_l"
        if uses(self.exprs, "uniform"):
            lines.append(f"const index_t {logical} = {logical_index(self.result, f'{own}_i')};")
        body, results = to_c(self.exprs, texts, logical, prefix=f"{own}_v")
        casts = ["" if spec.dtype == "float32" else f"({C_TYPES[spec.dtype]})" for spec in self.outputs]
        return lines + body, [f"{cast}({text})" for cast, text in zip(casts, results, strict=True)]
