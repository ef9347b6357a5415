"""Views of tensors as matrices against convolution by explicit loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clnn.codegen.views import Digit, View, Window, matrix
from clnn.ir import NHWC, ROW, TensorSpec
from clnn.ops import Conv2d, Conv2dDgrad, Conv2dWgrad
from clnn.ops.conv_views import channels_last, dgrad_gemms, fprop_gemm, wgrad_gemm

#: (N, C, H, W), (K, R, S), stride, padding (top, bottom, left, right), dilation, groups
SHAPES = [((2, 3, 5, 6), (4, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
          ((2, 3, 5, 6), (4, 3, 2), (1, 1), (1, 1, 2, 2), (1, 1), 1),
          ((1, 2, 7, 8), (3, 3, 3), (2, 3), (1, 1, 1, 1), (1, 1), 1),
          ((2, 2, 9, 7), (2, 3, 2), (1, 2), (2, 2, 1, 1), (2, 3), 1),
          ((2, 6, 5, 4), (9, 2, 3), (1, 1), (1, 0, 0, 1), (1, 1), 3),
          ((3, 4, 4, 5), (4, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 4),
          ((2, 3, 4, 4), (5, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
          ((2, 4, 5, 5), (6, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 2),
          ((1, 1, 3, 3), (1, 3, 3), (1, 1), (2, 2, 2, 2), (1, 1), 1),
          ((1, 2, 6, 1), (2, 5, 1), (3, 1), (2, 2, 0, 0), (1, 1), 1)]


def tensors(shape, filters, stride, padding, dilation, groups, layout):
    """(operator, x, w, y) with specs in the layout."""
    op = Conv2d(stride, padding, dilation, groups)
    x = TensorSpec(shape, "float32", layout)
    w = TensorSpec((filters[0], shape[1] // groups, *filters[1:]))
    return op, x, w, op.infer(x, w)[0]


def patches(op, x, window, p, q, group):
    """The im2col matrix of one group, element by element."""
    n, c, height, width = x.shape
    cg = c // op.groups
    result = np.zeros((cg * window[0] * window[1], n * p * q))
    for row, (channel, r, s) in enumerate(itertools.product(range(cg), range(window[0]), range(window[1]))):
        for col, (image, i, j) in enumerate(itertools.product(range(n), range(p), range(q))):
            h = i * op.stride[0] - op.padding[0] + r * op.dilation[0]
            w = j * op.stride[1] - op.padding[2] + s * op.dilation[1]
            if 0 <= h < height and 0 <= w < width:
                result[row, col] = x[image, group * cg + channel, h, w]
    return result


def in_depth(rows, image, window):
    """The rows of a product's depth, given as (channel, r, s), in the order in which the product takes them."""
    if not channels_last(image, window):
        return rows
    taps = window[0] * window[1]
    return rows.reshape(-1, taps, rows.shape[1]).swapaxes(0, 1).reshape(rows.shape)


def lying(filters, image):
    """The storage of filters (K, C/groups, R, S) as a product with the image takes them."""
    return (filters.transpose(0, 2, 3, 1) if channels_last(image, filters.shape[2:]) else filters).ravel()


def covering(op, dy, kernels, window, height, width, group):
    """For dgrad: column (image, h, w), row (output channel, r, s): the output whose tap (r, s) is that pixel."""
    n, k, p, q = dy.shape
    kg = k // op.groups
    result = np.zeros((kg * window[0] * window[1], n * height * width))
    for row, (channel, r, s) in enumerate(itertools.product(range(kg), range(window[0]), range(window[1]))):
        for col, (image, h, w) in enumerate(itertools.product(range(n), range(height), range(width))):
            i, j = h + op.padding[0] - r * op.dilation[0], w + op.padding[2] - s * op.dilation[1]
            if i % op.stride[0] == 0 and j % op.stride[1] == 0 and 0 <= i // op.stride[0] < p and 0 <= j // op.stride[1] < q:
                result[row, col] = dy[image, group * kg + channel, i // op.stride[0], j // op.stride[1]]
    return result


@pytest.fixture(params=[ROW, NHWC], ids=["NCHW", "NHWC"])
def layout(request):
    return request.param


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_fprop_views(case, layout):
    op, x, w, y = tensors(*case, layout)
    rng = np.random.default_rng(0)
    image, filters = rng.integers(-4, 5, x.shape).astype(np.float64), rng.integers(-4, 5, w.shape).astype(np.float64)
    gemm = fprop_gemm(op, x, w, y)
    kg = w.shape[0] // op.groups
    positions = np.arange(y.size)
    seen = []
    for g in range(gemm.batch):
        b = gemm.b.gather(x.to_physical(image), g)
        np.testing.assert_array_equal(b, in_depth(patches(op, image, w.shape[2:], *y.shape[2:], g), x, w.shape[2:]))
        a = gemm.a.gather(lying(filters, x), g)
        np.testing.assert_array_equal(a, in_depth(filters[g * kg:(g + 1) * kg].reshape(kg, -1).T, x, w.shape[2:]).T)
        wanted = op.reference(image, filters)[0]
        where = gemm.c.gather(positions, g)
        np.testing.assert_allclose(a @ b, y.to_physical(wanted)[where], atol=1e-12)
        seen.append(where.ravel())
    assert sorted(np.concatenate(seen)) == list(positions), "every element of y is written once"


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_dgrad_views(case, layout):
    op, x, w, y = tensors(*case, layout)
    rng = np.random.default_rng(1)
    gradient, filters = rng.integers(-4, 5, y.shape).astype(np.float64), rng.integers(-4, 5, w.shape).astype(np.float64)
    direction = Conv2dDgrad(**op.attributes(), size=x.shape[2:])
    products, untouched = dgrad_gemms(direction, y, w, x)
    wanted = x.to_physical(direction.reference(gradient, filters)[0])
    seen = []
    for gemm in products:
        for g in range(gemm.batch):
            b = gemm.b.gather(y.to_physical(gradient), g)
            where = gemm.c.gather(np.arange(x.size), g)
            np.testing.assert_allclose(gemm.a.gather(lying(filters, y), g) @ b, wanted[where], atol=1e-12)
            seen.append(where.ravel())
    for places in untouched:
        where = places.base + sum(np.ix_(*(np.arange(d.extent) * d.stride for d in places.digits))).ravel()
        assert not wanted[where].any()
        seen.append(where)
    assert sorted(np.concatenate(seen)) == list(range(x.size)), "every pixel is written once"
    if op.stride == (1, 1):
        for g in range(op.groups):
            full = in_depth(covering(op, gradient, w.shape[0], w.shape[2:], *x.shape[2:], g), y, w.shape[2:])
            np.testing.assert_array_equal(products[0].b.gather(y.to_physical(gradient), g), full)
    else:
        depths = sum(gemm.a.shape[1] for gemm in products)
        assert depths == w.shape[0] // op.groups * w.shape[2] * w.shape[3], "every filter element belongs to one product"


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_wgrad_views(case, layout):
    op, x, w, y = tensors(*case, layout)
    rng = np.random.default_rng(2)
    image, gradient = rng.integers(-4, 5, x.shape).astype(np.float64), rng.integers(-4, 5, y.shape).astype(np.float64)
    direction = Conv2dWgrad(**op.attributes(), window=w.shape[2:])
    gemm = wgrad_gemm(direction, x, y, w)
    wanted = direction.reference(image, gradient)[0].ravel()
    kg = w.shape[0] // op.groups
    for g in range(gemm.batch):
        a, b = gemm.a.gather(y.to_physical(gradient), g), gemm.b.gather(x.to_physical(image), g)
        np.testing.assert_array_equal(b, in_depth(patches(op, image, w.shape[2:], *y.shape[2:], g), x, w.shape[2:]).T)
        np.testing.assert_array_equal(a, gradient[:, g * kg:(g + 1) * kg].transpose(1, 0, 2, 3).reshape(kg, -1))
        np.testing.assert_allclose(a @ b, wanted[gemm.c.gather(np.arange(w.size), g)], atol=1e-12)


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_views_are_checked_exactly_where_elements_are_missing(case, layout):
    op, x, w, y = tensors(*case, layout)
    full = np.ones(x.size)
    view = fprop_gemm(op, x, w, y).b
    assert view.checked == bool((view.gather(full) == 0).any())


def test_plain_matrix():
    flat = np.arange(60.0)
    view = matrix(3, 4, 5, 1, 20, 1)
    assert view.shape == (3, 4) and not view.checked
    for g in range(2):
        np.testing.assert_array_equal(view.gather(flat, g), flat[1 + 20 * g:][:15].reshape(3, 5)[:, :4])
    np.testing.assert_array_equal(view.transposed.gather(flat), view.gather(flat).T)


@pytest.mark.parametrize(("rows", "cols", "expected"), [(Digit(4, 1), Digit(3, 4), True), (Digit(4, 3), Digit(3, 1), False),
                                                       (Digit(1, 1), Digit(1, 1), False)])
def test_direction_of_loads(rows, cols, expected):
    assert View((rows,), (cols,)).row_contiguous == expected


def test_text_of_a_view_decodes_digits_and_checks_the_window():
    view = View((Digit(2, 50), Digit(3, 0, 1)), (Digit(5, 0, 0, 1),), Window(4, 5, 5, 1, -1, 0), 100, 7)
    assert view.checked
    row = view.row("m", "r")
    assert "% 3" in row and "/ 3" in row and "ro" in row and "rh" in row
    text = view.locate("r", "c", "at", "g")
    assert "(uint)at_h < 4u" in text and "g * 100" in text and "7 +" in text
    assert view.load("x", "at") == "(at_in ? x[at] : 0.0f)"
    assert matrix(2, 2, 2, 1).load("x", "at") == "x[at]"
