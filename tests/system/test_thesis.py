"""The derivation of docs/backpropagation.md, equation by equation: the device's gradients against the hand formulas.

The formulas stand here once more, in numpy float64 with loops over images, layers, windows and pixels, as the page writes them.
Nothing of clnn's own references is used. The page names the test of each equation; the last tests keep the page and this file
together.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import clnn
from clnn import models, ops
from clnn.nn.init import he_normal
from clnn.optim import SGD

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "backpropagation.md"
TOLERANCE = 2e-5
SMALL, REAL = (7, 5, 4, 3), (784, 512, 256, 10)


def assert_close(got, expected, what: str = "") -> None:
    """Errors are judged on the scale of the expected tensor."""
    expected = np.asarray(expected, np.float64)
    assert np.shape(got) == expected.shape, what
    error, scale = np.abs(np.asarray(got, np.float64) - expected).max(), max(np.abs(expected).max(), 1e-6)
    assert error <= TOLERANCE * scale, f"{what}: largest error {error:.3g} on a scale of {scale:.3g}"


# -- the hand formulas --------------------------------------------------------------------------------------------------

def sigmoid(z):
    return 1 / (1 + np.exp(-z))


#: name → (f(z), f'(z) written with the value s = f(z))
ACTIVATIONS = {"sigmoid": (sigmoid, lambda s: s * (1 - s)), "relu": (lambda z: np.maximum(z, 0), lambda s: (s > 0) * 1.0)}


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def one_hot(label: int, classes: int) -> np.ndarray:
    """Codificación one-hot."""
    return (np.arange(classes) == label) * 1.0


def hand_gradients(x, labels, weights, biases, names):
    """Mean cross-entropy of a batch, and its gradients (dx, [dW], [db]): one image after the other, one layer after the other."""
    x, weights, biases = x.astype(np.float64), [w.astype(np.float64) for w in weights], [b.astype(np.float64) for b in biases]
    loss, dx = 0.0, np.zeros_like(x)
    dw, db = [np.zeros_like(w) for w in weights], [np.zeros_like(b) for b in biases]
    for n, label in enumerate(labels):
        s = [x[n]]
        for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
            z = w @ s[-1] + b
            s.append(ACTIVATIONS[names[layer]][0](z) if layer < len(names) else softmax(z))
        y = one_hot(label, len(s[-1]))
        loss -= np.sum(y * np.log(s[-1])) / len(x)
        delta = (s[-1] - y) / len(x)                                                    # at the output layer
        for layer in reversed(range(len(weights))):
            dw[layer] += np.outer(delta, s[layer])
            db[layer] += delta
            ahead = sum(delta[i] * weights[layer][i] for i in range(len(delta)))        # Σ gradient × weight
            delta = ahead * ACTIVATIONS[names[layer - 1]][1](s[layer]) if layer else ahead
        dx[n] = delta
    return loss, dx, dw, db


def network(names):
    """The same network as a function of (x, labels, W1, b1, W2, b2, …), for clnn.vjp."""
    def traced(x, labels, *parameters):
        s = x
        for layer in range(len(parameters) // 2):
            s = ops.linear(s, parameters[2 * layer], parameters[2 * layer + 1])
            if layer < len(names):
                s = getattr(ops, names[layer])(s)
        return ops.cross_entropy(s, labels)
    return traced


def draw(sizes, batch: int, seed: int = 0):
    """(x, labels, weights, biases) of a network with these widths."""
    rng = np.random.default_rng(seed)
    weights = [he_normal((after, before), rng) for before, after in pairwise(sizes)]
    biases = [(0.1 * rng.standard_normal(after)).astype(np.float32) for after in sizes[1:]]
    return rng.random((batch, sizes[0]), np.float32), rng.integers(0, sizes[-1], batch).astype(np.int32), weights, biases


def interleave(weights, biases):
    return [array for both in zip(weights, biases, strict=True) for array in both]


# -- loss and output layer ----------------------------------------------------------------------------------------------

def test_cross_entropy_of_softmax(device):
    rng = np.random.default_rng(1)
    logits, labels = 3 * rng.standard_normal((4, 6)).astype(np.float32), np.array([0, 5, 2, 2], np.int32)
    o = [softmax(z) for z in logits.astype(np.float64)]
    expected = [-np.log(row[label]) for row, label in zip(o, labels, strict=True)]
    assert_close(clnn.evaluate(lambda z: ops.softmax(z, 1), logits, device=device), o)
    assert_close(clnn.evaluate(lambda z: ops.cross_entropy(z, labels, reduction="none"), logits, device=device), expected)
    assert_close(clnn.evaluate(lambda z: ops.cross_entropy(z, labels), logits, device=device), np.mean(expected))


def test_softmax_jacobian(device):
    rng = np.random.default_rng(2)
    z, g = rng.standard_normal((2, 5)).astype(np.float32)
    o, expected = softmax(z.astype(np.float64)), np.zeros(5)
    for j in range(5):
        for i in range(5):
            expected[j] += g[i] * o[i] * ((i == j) - o[j])
    _, (dz,) = clnn.vjp(lambda v: ops.softmax(v, -1), z, cotangent=g, device=device)
    assert_close(dz, expected)


def test_output_gradient_is_output_minus_target(device):
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal((5, 4)).astype(np.float32), np.array([3, 0, 1, 1, 2], np.int32)
    targets = np.array([one_hot(label, 4) for label in labels], np.float32)
    expected = np.array([softmax(z) for z in logits.astype(np.float64)]) - targets
    _, (by_label, _) = clnn.vjp(lambda z, y: ops.cross_entropy(z, y, reduction="sum"), logits, labels, device=device)
    _, (by_vector, _) = clnn.vjp(lambda z, y: ops.cross_entropy(z, y, reduction="sum"), logits, targets, device=device)
    _, (mean, _) = clnn.vjp(ops.cross_entropy, logits, labels, device=device)
    assert_close(by_label, expected)
    assert_close(by_vector, expected)
    assert_close(mean, expected / 5, "the mean over a batch divides by its size")


# -- hidden layers ------------------------------------------------------------------------------------------------------

def test_sigmoid_derivative(device):
    z, g = np.linspace(-4, 4, 33, dtype=np.float32), np.linspace(1, 2, 33, dtype=np.float32)
    wide, step = z.astype(np.float64), 1e-6
    s = sigmoid(wide)
    _, (dz,) = clnn.vjp(ops.sigmoid, z, cotangent=g, device=device)
    assert_close(dz, g * s * (1 - s))
    assert np.allclose((sigmoid(wide + step) - sigmoid(wide - step)) / (2 * step), s * (1 - s), atol=1e-6)
    assert np.abs(dz - g * s / (1 - s)).max() > 1, "s/(1 - s) is another function"


def test_relu_derivative(device):
    z, g = np.array([-2, -0.5, 0, 0.5, 2], np.float32), np.array([1, 2, 3, 4, 5], np.float32)
    _, (dz,) = clnn.vjp(ops.relu, z, cotangent=g, device=device)
    assert_close(dz, [0, 0, 0, 4, 5])


def test_linear_layer(device):
    rng = np.random.default_rng(4)
    s, w, b, delta = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4), (3, 4), (3,), (1, 3)))
    _, (ds, dw, db) = clnn.vjp(ops.linear, s, w, b, cotangent=delta, device=device)
    expected = np.zeros(4)
    for j in range(4):
        for i in range(3):
            expected[j] += float(delta[0, i]) * float(w[i, j])
    assert_close(dw, np.outer(delta[0], s[0]), "weights: outer product with the previous activation")
    assert_close(db, delta[0], "biases")
    assert_close(ds, expected[None], "inputs: sum of gradient x weight")
    assert np.abs(ds[0] - delta.sum()).max() > 0.1, "the sum of the gradients alone is something else"


def test_batch_sums_over_images(device):
    rng = np.random.default_rng(5)
    s, w, b, delta = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 4), (3, 4), (3,), (6, 3)))
    _, (_, dw, db) = clnn.vjp(ops.linear, s, w, b, cotangent=delta, device=device)
    assert_close(dw, sum(np.outer(delta[n].astype(np.float64), s[n]) for n in range(6)))
    assert_close(db, sum(delta[n].astype(np.float64) for n in range(6)))


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("sizes", [SMALL, REAL], ids=["small", "784-512-256-10"])
def test_two_hidden_layers(sizes, activation, device):
    """Every gradient by clnn.vjp: the inputs, and each W and b."""
    x, labels, weights, biases = draw(sizes, batch=6)
    names = (activation,) * 2
    loss, dx, dw, db = hand_gradients(x, labels, weights, biases, names)
    got, (gx, none, *rest) = clnn.vjp(network(names), x, labels, *interleave(weights, biases), device=device)
    assert none is None, "labels have no gradient"
    assert_close(got, loss, "loss")
    assert_close(gx, dx, "inputs")
    for number, (found, expected) in enumerate(zip(rest, interleave(dw, db), strict=True)):
        assert_close(found, expected, f"{'Wb'[number % 2]}{number // 2 + 1}")


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("sizes", [SMALL, REAL], ids=["small", "784-512-256-10"])
def test_two_hidden_layers_compiled(sizes, activation, device):
    """The same gradients in a training step of clnn.compile: after the first step the momentum buffer is the gradient itself."""
    x, labels, weights, biases = draw(sizes, batch=6, seed=6)
    model, optimizer = models.two_hidden(sizes[0], sizes[1:3], sizes[3], activation), SGD(0.5, momentum=0.9)
    parameters = list(model.parameters())
    for parameter, array in zip(parameters, interleave(weights, biases), strict=True):
        parameter.array[...] = array
    loss, _, dw, db = hand_gradients(x, labels, weights, biases, (activation,) * 2)
    got, _ = clnn.compile(model, x.shape, "cross_entropy", optimizer, device=device).run(x, labels)
    assert_close(got, loss, "loss")
    for parameter, before, expected in zip(parameters, interleave(weights, biases), interleave(dw, db), strict=True):
        assert_close(optimizer.state_of(parameter)["momentum_buffer"].array, expected, parameter.name)
        assert_close(parameter.array, before - 0.5 * expected, f"{parameter.name} after the step")


def test_momentum(device):
    """Three steps of gradient descent with momentum, by hand and on the device."""
    x, labels, weights, biases = draw((5, 4, 3), batch=4, seed=7)
    model = models.one_hidden(5, 4, 3, "sigmoid")
    parameters, arrays = list(model.parameters()), [a.astype(np.float64) for a in interleave(weights, biases)]
    for parameter, array in zip(parameters, arrays, strict=True):
        parameter.array[...] = array
    step = clnn.compile(model, x.shape, "cross_entropy", SGD(0.3, momentum=0.8), device=device)
    velocity = [np.zeros_like(a) for a in arrays]
    for _ in range(3):
        _, _, dw, db = hand_gradients(x, labels, arrays[::2], arrays[1::2], ("sigmoid",))
        velocity = [0.8 * v + g for v, g in zip(velocity, interleave(dw, db), strict=True)]
        arrays = [a - 0.3 * v for a, v in zip(arrays, velocity, strict=True)]
        step.run(x, labels)
    for parameter, array in zip(parameters, arrays, strict=True):
        assert_close(parameter.array, array, parameter.name)


def test_he_initialisation():
    """The variance of the weights is 2 / fan_in, and with it the signal keeps its strength through many ReLU layers."""
    rng = np.random.default_rng(8)
    assert he_normal((400, 300), rng).var() == pytest.approx(2 / 300, rel=0.02)
    assert he_normal((64, 32, 3, 3), rng).var() == pytest.approx(2 / (32 * 9), rel=0.05)
    z = rng.standard_normal((256, 512))
    for _ in range(8):
        z = np.maximum(z, 0) @ he_normal((512, 512), rng).T
    assert z.var() == pytest.approx(1, rel=0.35)
    weak = rng.standard_normal((256, 512))
    for _ in range(8):
        weak = np.maximum(weak, 0) @ (he_normal((512, 512), rng) / math.sqrt(2)).T
    assert weak.var() < 0.02, "with 1 / fan_in the signal halves in each layer"


# -- convolution and pooling --------------------------------------------------------------------------------------------

CONVOLUTIONS = [((2, 3, 6, 5), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1)),
                ((2, 2, 7, 6), (3, 2, 3, 3), (2, 1), (1, 2), (1, 1)),
                ((1, 2, 8, 9), (3, 2, 2, 3), (2, 3), (2, 1), (2, 1))]


@pytest.mark.parametrize("image, filters, stride, padding, dilation", CONVOLUTIONS, ids=["plain", "stride-padding", "dilation"])
def test_convolution_gradients(image, filters, stride, padding, dilation, device):
    rng = np.random.default_rng(9)
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in (image, filters, filters[:1]))

    def traced(x, w, b):
        return ops.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation)

    (count, channels, height, width), (outputs, _, rows, cols) = image, filters
    (sh, sw), (ph, pw), (dh, dw_) = stride, padding, dilation
    high, wide = (height + 2 * ph - dh * (rows - 1) - 1) // sh + 1, (width + 2 * pw - dw_ * (cols - 1) - 1) // sw + 1
    g = rng.standard_normal((count, outputs, high, wide)).astype(np.float32)

    y, dw, db = np.zeros(g.shape), np.zeros(w.shape), np.zeros(b.shape)
    for n, k, p, q in np.ndindex(*g.shape):
        y[n, k, p, q] = b[k]
        db[k] += g[n, k, p, q]
        for c, r, s in np.ndindex(channels, rows, cols):
            h, v = p * sh + r * dh - ph, q * sw + s * dw_ - pw
            if 0 <= h < height and 0 <= v < width:
                y[n, k, p, q] += float(x[n, c, h, v]) * float(w[k, c, r, s])
                dw[k, c, r, s] += float(g[n, k, p, q]) * float(x[n, c, h, v])
    dx = np.zeros(x.shape)
    for n, c, h, v in np.ndindex(*x.shape):
        for k, r, s in np.ndindex(outputs, rows, cols):
            (p, off_h), (q, off_w) = divmod(h + ph - r * dh, sh), divmod(v + pw - s * dw_, sw)
            if off_h == 0 and off_w == 0 and 0 <= p < high and 0 <= q < wide:
                dx[n, c, h, v] += float(g[n, k, p, q]) * float(w[k, c, r, s])

    got, (gx, gw, gb) = clnn.vjp(traced, x, w, b, cotangent=g, device=device)
    for name, found, expected in (("y", got, y), ("image", gx, dx), ("filters", gw, dw), ("bias", gb, db)):
        assert_close(found, expected, name)


@pytest.mark.parametrize("size, stride, padding", [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1))], ids=["plain", "overlap"])
def test_max_pooling_gradient(size, stride, padding, device):
    """Small whole numbers, so that windows have equal maxima: the first one gets the gradient."""
    rng = np.random.default_rng(10)
    x = rng.integers(0, 4, (2, 3, 7, 6)).astype(np.float32)
    high, wide = ((extent + 2 * p - r) // s + 1 for extent, p, r, s in zip(x.shape[2:], padding, size, stride, strict=True))
    y, dx, g = np.zeros((2, 3, high, wide)), np.zeros(x.shape), rng.standard_normal((2, 3, high, wide)).astype(np.float32)
    for n, c, p, q in np.ndindex(*y.shape):
        best, where = -np.inf, None
        for r, s in np.ndindex(*size):
            h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
            if 0 <= h < 7 and 0 <= w < 6 and x[n, c, h, w] > best:
                best, where = x[n, c, h, w], (h, w)
        y[n, c, p, q] = best
        dx[n, c][where] += g[n, c, p, q]
    got, (found,) = clnn.vjp(lambda v: ops.max_pool2d(v, size, stride, padding), x, cotangent=g, device=device)
    assert_close(got, y, "y")
    assert_close(found, dx, "image")


@pytest.mark.parametrize("size, stride, padding", [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1))], ids=["plain", "overlap"])
def test_average_pooling_gradient(size, stride, padding, device):
    rng = np.random.default_rng(11)
    x = rng.standard_normal((2, 3, 7, 6)).astype(np.float32)
    high, wide = ((extent + 2 * p - r) // s + 1 for extent, p, r, s in zip(x.shape[2:], padding, size, stride, strict=True))
    y, dx, g = np.zeros((2, 3, high, wide)), np.zeros(x.shape), rng.standard_normal((2, 3, high, wide)).astype(np.float32)
    for n, c, p, q in np.ndindex(*y.shape):
        for r, s in np.ndindex(*size):
            h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
            if 0 <= h < 7 and 0 <= w < 6:
                y[n, c, p, q] += x[n, c, h, w] / (size[0] * size[1])
                dx[n, c, h, w] += g[n, c, p, q] / (size[0] * size[1])
    got, (found,) = clnn.vjp(lambda v: ops.avg_pool2d(v, size, stride, padding), x, cotangent=g, device=device)
    assert_close(got, y, "y")
    assert_close(found, dx, "image")


# -- the page -----------------------------------------------------------------------------------------------------------

def test_cross_entropy_is_natural_and_unbounded(device):
    """The third slip: −ln 0.26 = 1.347, and the loss of a confident mistake is far above 1."""
    def loss(probability: float) -> float:
        logits = np.log([[probability, 1 - probability]]).astype(np.float32)
        return float(clnn.evaluate(lambda z: ops.cross_entropy(z, np.array([0])), logits, device=device))

    assert round(loss(0.26), 3) == 1.347
    assert round(-math.log10(0.26), 3) == 0.585
    assert round(loss(0.01), 3) == 4.605
    assert loss(1e-6) > 13


def matrix(text: str) -> np.ndarray:
    """Numbers as the page's table writes them: rows divided by semicolons."""
    rows = [[float(v) for v in row.split()] for row in text.replace("−", "-").split(";")]
    return np.array(rows if len(rows) > 1 else rows[0])


def test_worked_example(device):
    """Reads the numbers from the page's tables, runs the network on the device and by hand, and compares to four places."""
    page = PAGE.read_text(encoding="utf-8")
    shown = {name: matrix(text) for name, text in re.findall(r"^\| `(\w+)` \| .* \| `([-−\d.; ]+)` \|$", page, re.MULTILINE)}
    given = ("x", "W1", "b1", "W2", "b2", "W3", "b3")
    assert {*given, "z1", "s1", "z2", "s2", "Z", "O", "E", "delta3", "dW3", "db3", "delta2", "dW2", "db2", "delta1", "dW1", "db1",
            "dx"} == set(shown)
    x, w1, b1, w2, b2, w3, b3 = (shown[name].astype(np.float32) for name in given)
    label = np.array([1], np.int32)

    def forward(x):
        z1 = ops.linear(x, w1, b1)
        s1 = ops.sigmoid(z1)
        z2 = ops.linear(s1, w2, b2)
        s2 = ops.relu(z2)
        z = ops.linear(s2, w3, b3)
        return z1, s1, z2, s2, z, ops.softmax(z, 1)

    names = ("sigmoid", "relu")
    values = clnn.evaluate(forward, x[None], device=device)
    found = {name: value[0] for name, value in zip(("z1", "s1", "z2", "s2", "Z", "O"), values, strict=True)}
    loss, (dx, _, *rest) = clnn.vjp(network(names), x[None], label, w1, b1, w2, b2, w3, b3, device=device)
    found |= dict(zip(("dW1", "db1", "dW2", "db2", "dW3", "db3"), rest, strict=True)) | {"E": loss.reshape(1), "dx": dx[0]}
    found |= {f"delta{layer}": found[f"db{layer}"] for layer in (1, 2, 3)}
    by_hand = hand_gradients(x[None], label, (w1, w2, w3), (b1, b2, b3), names)
    assert_close(loss, by_hand[0])
    assert_close(dx, by_hand[1])
    for name, value in found.items():
        assert np.abs(value - shown[name]).max() <= 6e-5, f"{name}: the page says {shown[name]}, the device {value}"


def test_page_names_what_exists():
    """Every file, class and test that the page names is there."""
    page = PAGE.read_text(encoding="utf-8")
    for path in set(re.findall(r"`((?:clnn|tests|kernels)/[\w/]+\.(?:py|cl))`", page)):
        assert (ROOT / path).is_file(), path
    everything = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"`(test_\w+)`", page)):
        assert f"def {name}(" in everything, name
    for name, path in set(re.findall(r"`(\w+)` in `(clnn/[\w/]+\.py)`", page)):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(class|def) {name}\b|^{name}\b", text, re.MULTILINE), (name, path)
