"""What all pooling operators share: how windows lie on an image, and what their arguments must satisfy.

N, C, H, W are the axes of the image, P and Q those of the result, R x S the window.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..codegen.lowering import same_layouts
from ..codegen.windows import Adaptive, Sliding, axes_of
from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir import NHWC, ROW, Op, TensorSpec, blocked
from .tracing import pair

Pair = tuple[int, int]

LAYOUTS = (ROW, NHWC, blocked(8), blocked(16))


def pool_layouts(op: Op, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]):
    """Image and result lie alike. Channels are never mixed, so blocked ones are as good as any."""
    return [offered for offered in same_layouts(*LAYOUTS)(op, inputs, outputs) if offered[0][0].fits(inputs[0].shape)]


def window_count(extent: int, size: int, stride: int, pad: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Windows along one axis; in ``ceil_mode`` an incomplete last one counts if it starts in the image or its left padding."""
    room = extent + 2 * pad - dilation * (size - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= extent + pad:
        count -= 1
    return count


def require_image(x: TensorSpec, where: str) -> None:
    """A pooling operator takes floating-point images (N, C, H, W)."""
    if x.rank != 4:
        raise ShapeError("needs a batch of images", where=where, got=x.shape, expected="(N, C, H, W)",
                         hint="add the missing axis with reshape" if x.rank < 4 else "join axes with reshape")
    if not x.dtype.startswith("float"):
        raise DTypeError("needs a floating-point tensor", where=where, got=x.dtype, expected="float32")


def slide(where: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair,
          ceil_mode: bool) -> tuple[Sliding, Sliding]:
    """The windows along H and W of an image of ``size``."""
    for axis, value, extent in zip(("height", "width"), padding, kernel, strict=True):
        if value > extent // 2:
            raise ArgumentError("the padding is wider than half the window", where=f"{where}, padding",
                                got=f"{value} along the {axis}", expected=f"at most {extent // 2} for a window of {extent}",
                                hint="pad the image first, with clnn.ops.pad")
    counts = [window_count(*values, ceil_mode) for values in zip(size, kernel, stride, padding, dilation, strict=True)]
    if min(counts) < 1:
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        padded = tuple(extent + 2 * p for extent, p in zip(size, padding, strict=True))
        raise ShapeError("the window is larger than the padded image", where=where, got=f"a window of {reach[0]}x{reach[1]}",
                         expected=f"at most {padded[0]}x{padded[1]}", hint="use a smaller window, more padding or larger images")
    return tuple(Sliding(*values) for values in zip(size, counts, kernel, stride, padding, dilation, strict=True))


def pool_problem(image: TensorSpec, result: TensorSpec, rows: Sliding | Adaptive, cols: Sliding | Adaptive) -> dict[str, object]:
    """The problem constants that all pooling kernels share, but for N and M."""
    return {"x": axes_of(image, "nchw"), "y": axes_of(result, "ncpq"), "rows": rows, "cols": cols}


def window_pairs(where: str, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None,
           padding: int | Sequence[int]) -> tuple[Pair, Pair, Pair]:
    kernel = pair(kernel_size, f"{where}, kernel_size", 1)
    return kernel, kernel if stride is None else pair(stride, f"{where}, stride", 1), pair(padding, f"{where}, padding", 0)
