"""Layers against torch: parameter names, state both ways, and what they compute; all refusals."""

import numpy as np
import pytest
from interpreter import Interpreter, call, trace

from clnn import nn
from clnn.errors import ArgumentError, ShapeError

CASES = {
    "linear": (lambda m: m.Linear(5, 3), (4, 5)),
    "linear_no_bias": (lambda m: m.Linear(5, 3, bias=False), (4, 5)),
    "conv": (lambda m: m.Conv2d(3, 4, 3, 2, 1), (2, 3, 7, 8)),
    "conv_pairs": (lambda m: m.Conv2d(2, 4, (3, 1), (1, 2), (2, 0), (2, 1), 2, False), (2, 2, 9, 5)),
    "conv_same": (lambda m: m.Conv2d(2, 3, (4, 3), padding="same"), (1, 2, 6, 5)),
    "conv_valid": (lambda m: m.Conv2d(2, 3, 3, padding="valid"), (1, 2, 6, 5)),
    "batch_norm_1d": (lambda m: m.BatchNorm1d(4), (6, 4)),
    "batch_norm_1d_long": (lambda m: m.BatchNorm1d(4, eps=1e-2), (6, 4, 3)),
    "batch_norm_2d": (lambda m: m.BatchNorm2d(3, momentum=0.3), (2, 3, 4, 5)),
    "batch_norm_plain": (lambda m: m.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    "batch_norm_untracked": (lambda m: m.BatchNorm2d(3, track_running_stats=False), (2, 3, 4, 5)),
    "max_pool": (lambda m: m.MaxPool2d(3, 2, 1), (1, 2, 7, 6)),
    "max_pool_ceil": (lambda m: m.MaxPool2d((2, 3), ceil_mode=True), (1, 2, 7, 7)),
    "avg_pool": (lambda m: m.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 7, 6)),
    "avg_pool_divisor": (lambda m: m.AvgPool2d(2, divisor_override=3), (1, 2, 6, 6)),
    "adaptive": (lambda m: m.AdaptiveAvgPool2d((3, None)), (1, 2, 7, 5)),
    "adaptive_1": (lambda m: m.AdaptiveAvgPool2d(1), (2, 2, 7, 5)),
    "flatten": (lambda m: m.Flatten(), (2, 3, 2, 2)),
    "flatten_part": (lambda m: m.Flatten(1, 2), (2, 3, 2, 2)),
    "identity": (lambda m: m.Identity(54, x=1), (2, 3)),
    "softmax": (lambda m: m.Softmax(1), (3, 4)),
    "log_softmax": (lambda m: m.LogSoftmax(dim=-1), (3, 4)),
    "leaky_relu": (lambda m: m.LeakyReLU(0.2), (3, 4)),
    "elu": (lambda m: m.ELU(0.7), (3, 4)),
    "gelu_tanh": (lambda m: m.GELU("tanh"), (3, 4)),
    **{name: (lambda m, name=name: getattr(m, name)(), (3, 7))
       for name in ("ReLU", "ReLU6", "Sigmoid", "Tanh", "GELU", "SiLU", "Hardswish", "Hardsigmoid")},
}


def arrays(module):
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make, shape", CASES.values(), ids=CASES)
def test_layer_is_torchs(make, shape, training):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = make(nn).train(training), make(torch.nn).train(training)
    assert [(name, a.shape, a.dtype) for name, a in ours.state_dict().items()] == [
        (name, a.shape, a.dtype) for name, a in arrays(theirs).items()]
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    ours.load_state_dict(theirs.state_dict())
    x = 3 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(call(ours, x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, array in arrays(theirs).items():
        np.testing.assert_allclose(ours.state_dict()[name], array, rtol=1e-5, err_msg=name)


def test_our_state_loads_into_torch():
    torch = pytest.importorskip("torch")

    def build(m):
        return m.Sequential(m.Conv2d(3, 4, 3), m.BatchNorm2d(4), m.ReLU(), m.Flatten(), m.Linear(4, 2))

    theirs, ours = build(torch.nn), build(nn)
    state = {name: torch.tensor(array) for name, array in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    assert arrays(theirs)["1.num_batches_tracked"].dtype == np.int64
    np.testing.assert_array_equal(arrays(theirs)["0.weight"], ours[0].weight.array)


def test_four_sided_padding():
    conv = nn.Conv2d(1, 1, 1, padding=(1, 2, 3, 4), bias=False)
    conv.weight.array[...] = 1
    y = call(conv, np.ones((1, 1, 2, 2), np.float32))
    assert y.shape == (1, 1, 5, 9)
    assert y[0, 0].nonzero()[0].tolist() == [1, 1, 2, 2]
    assert y[0, 0].nonzero()[1].tolist() == [3, 4, 3, 4]


def test_counters_of_a_graph_share_nodes():
    model = nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(35)))
    graph = trace(model, (4, 2))
    counters = [node for node in graph.nodes if node.path == "num_batches_tracked"]
    assert [len(node.inputs) for node in counters] == [32, 3]
    interpreter = Interpreter(graph)
    x = np.random.default_rng(0).standard_normal((4, 2))
    interpreter.run(x0=x)
    interpreter.run(x0=x)
    assert {int(layer.num_batches_tracked.array) for layer in model} == {2}
    assert not trace(model.eval(), (4, 2)).updates


def test_a_layer_used_twice_counts_twice():
    layer = nn.BatchNorm1d(2)
    Interpreter(trace(lambda x: layer(layer(x)), (4, 2))).run(x0=np.arange(8).reshape(4, 2))
    assert layer.num_batches_tracked.array == 2


def test_dropout():
    x = np.ones((50, 40), np.float32)
    layer = nn.Dropout(0.25)
    y = call(layer, x)
    assert set(np.unique(y).round(5)) == {0, np.float32(4 / 3).round(5)}
    assert abs((y == 0).mean() - 0.25) < 0.04
    np.testing.assert_array_equal(call(layer.eval(), x), x)


LOSSES = {
    "cross_entropy": (lambda m: m.CrossEntropyLoss(), (5, 3), True),
    "cross_entropy_smooth": (lambda m: m.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"), (5, 3), True),
    "cross_entropy_ignore": (lambda m: m.CrossEntropyLoss(ignore_index=1), (5, 3), True),
    "cross_entropy_none": (lambda m: m.CrossEntropyLoss(reduction="none"), (5, 3), True),
    "bce": (lambda m: m.BCEWithLogitsLoss(), (5, 3), False),
    "bce_sum": (lambda m: m.BCEWithLogitsLoss(reduction="sum"), (5, 3), False),
    "mse": (lambda m: m.MSELoss(), (5, 3), False),
    "mse_none": (lambda m: m.MSELoss(reduction="none"), (5, 3), False),
}


@pytest.mark.parametrize("make, shape, classes", LOSSES.values(), ids=LOSSES)
def test_loss_is_torchs(make, shape, classes):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    target = np.array([0, 2, 1, 1, 0], np.int32) if classes else rng.random(shape).astype(np.float32)
    graph = trace(make(nn), shape, target.shape, dtypes=["float32", str(target.dtype)])
    (ours,) = Interpreter(graph).run(x0=x, x1=target)
    theirs = make(torch.nn)(torch.tensor(x), torch.tensor(target).long() if classes else torch.tensor(target))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5)


# -- refusals -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, text", [
    (lambda: nn.Linear(0, 3), "Linear: in_features must be a whole number of at least 1\n  got:      in_features=0"),
    (lambda: nn.Linear(3, 2.5), "Linear: out_features must be a whole number of at least 1\n  got:      out_features=2.5"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels (=3) must be divisible by groups (=2)"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), "Conv2d: out_channels (=3) must be divisible by groups (=2)"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "Conv2d: kernel_size must be a whole number or a pair of them, each at least 1\n"
                                         "  got:      kernel_size=(3, 3, 3)"),
    (lambda: nn.Conv2d(3, 4, 3, stride=0), "Conv2d: stride must be a whole number or a pair of them, each at least 1"),
    (lambda: nn.Conv2d(3, 4, 3, padding="full"), "Conv2d: unknown padding\n  got:      padding='full'"),
    (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2, 3)), "Conv2d: padding is not understood\n  got:      padding=(1, 2, 3)"),
    (lambda: nn.Conv2d(3, 4, 3, padding=-1), "Conv2d: padding is not understood\n  got:      padding=-1"),
    (lambda: nn.BatchNorm2d(-1), "BatchNorm2d: num_features must be a whole number of at least 1"),
    (lambda: nn.BatchNorm1d(2, eps=0), "BatchNorm1d: eps is out of range\n  got:      eps=0\n  expected: 0 < eps, finite"),
    (lambda: nn.BatchNorm2d(2, momentum=1.5), "BatchNorm2d: momentum is out of range\n  got:      momentum=1.5"),
    (lambda: nn.BatchNorm2d(2, momentum=None), "BatchNorm2d: cumulative averages (momentum=None) are not supported"),
    (lambda: nn.MaxPool2d(3, padding=2), "MaxPool2d: padding (=(2, 2)) must be at most half of kernel_size (=(3, 3))"),
    (lambda: nn.MaxPool2d(2, return_indices=True), "MaxPool2d: indices are not available"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), "AvgPool2d: divisor_override must be a whole number of at least 1"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), "AdaptiveAvgPool2d: output_size must be a whole number or a pair of them"),
    (lambda: nn.Dropout(1.0), "Dropout: p is out of range\n  got:      p=1.0\n  expected: 0 <= p < 1"),
    (lambda: nn.Softmax(None), "Softmax: dim must be a whole number\n  got:      dim=None\n  try:      dim=1 for (N, classes)"),
    (lambda: nn.GELU("fast"), "GELU: unknown approximate\n  got:      approximate='fast'\n  expected: 'none' or 'tanh'"),
    (lambda: nn.LeakyReLU("a"), "LeakyReLU: negative_slope is out of range"),
    (lambda: nn.MSELoss("max"), "MSELoss: unknown reduction\n  got:      reduction='max'\n  expected: 'mean' or 'sum' or 'none'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), "CrossEntropyLoss: label_smoothing is out of range"),
    (lambda: nn.CrossEntropyLoss(ignore_index=0.5), "CrossEntropyLoss: ignore_index must be a whole number or None"),
])
def test_constructor_errors(make, text):
    with pytest.raises(ArgumentError) as error:
        make()
    assert str(error.value).startswith(text)


@pytest.mark.parametrize("layer, shape, text", [
    (nn.Conv2d(3, 4, 3), (2, 1, 8, 8), "0 (Conv2d): in_channels (=3) does not fit the input, which has 1 channels\n"
                                       "  got:      shape (2, 1, 8, 8)\n  expected: (N, 3, H, W)"),
    (nn.Conv2d(3, 4, 3), (2, 8, 8, 3), "0 (Conv2d): in_channels (=3) does not fit the input, which has 8 channels\n"
                                       "  got:      shape (2, 8, 8, 3)\n  expected: (N, 3, H, W)\n"
                                       "  try:      ops.transpose(x, (0, 3, 1, 2)), if the channels come last"),
    (nn.Conv2d(3, 4, 3), (3, 8, 8), "0 (Conv2d): a convolution needs an input with 4 axes, not 3\n  got:      shape (3, 8, 8)"),
    (nn.Linear(12, 2), (2, 3, 2, 2),
     "0 (Linear): in_features (=12) does not fit the last axis of the input\n  got:      shape (2, 3, 2, 2)\n"
     "  expected: (…, 12)\n  try:      put nn.Flatten() before it"),
    (nn.BatchNorm2d(3), (2, 3), "0 (BatchNorm2d): the input has 2 axes\n  got:      shape (2, 3)\n  expected: (N, 3, H, W)"),
    (nn.BatchNorm1d(3), (2, 4), "0 (BatchNorm1d): num_features (=3) does not fit the input, which has 4 channels\n"
                                "  got:      shape (2, 4)\n  expected: (N, 3) or (N, 3, L)"),
    (nn.BatchNorm1d(3), (1, 3), "0 (BatchNorm1d): batch_norm: expected more than 1 value per channel when training"),
    (nn.MaxPool2d(2), (2, 3), "0 (MaxPool2d): pooling needs an input with 4 axes, not 2"),
    (nn.AdaptiveAvgPool2d(1), (2, 3), "0 (AdaptiveAvgPool2d): pooling needs an input with 4 axes, not 2"),
    (nn.MaxPool2d(9), (2, 3, 4, 4), "0 (MaxPool2d): "),
])
def test_input_errors(layer, shape, text):
    with pytest.raises(ShapeError) as error:
        trace(nn.Sequential(layer), shape)
    assert str(error.value).startswith(text)
