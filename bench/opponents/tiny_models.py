"""The networks of clnn.models in tinygrad, over a state with the same parameter names."""

from __future__ import annotations

from collections.abc import Callable

from tinygrad import Tensor

from bench.side import Unable

MOMENTUM, EPSILON = 0.1, 1e-5


class _State:
    """Layers that take their parameters out of a state by name."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x.linear(self.tensors[f"{name}.weight"].T, self.tensors[f"{name}.bias"])

    def conv(self, name: str, x: Tensor, padding: int, stride: int = 1) -> Tensor:
        return x.conv2d(self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"), stride=stride, padding=padding)

    def norm(self, name: str, x: Tensor, training: bool) -> Tensor:
        """As tinygrad.nn.BatchNorm, with the mode given."""
        t = self.tensors
        mean, variance = t[f"{name}.running_mean"], t[f"{name}.running_var"]
        if training:
            batch_mean = x.mean((0, 2, 3))
            centred = x - batch_mean.detach().reshape(1, -1, 1, 1)
            batch_variance = (centred * centred).mean((0, 2, 3))
            count = x.numel() // x.shape[1]
            mean.assign((1 - MOMENTUM) * mean + MOMENTUM * batch_mean.detach())
            variance.assign((1 - MOMENTUM) * variance + MOMENTUM * count / (count - 1) * batch_variance.detach())
            mean, variance = batch_mean, batch_variance
        return x.batchnorm(t[f"{name}.weight"], t[f"{name}.bias"], mean, (variance + EPSILON).rsqrt())


def _mlp(s: _State, x: Tensor, training: bool) -> Tensor:
    names = sorted((name.removesuffix(".weight") for name in s.tensors if name.endswith(".weight")), key=int)
    x = x.flatten(1)
    for name in names[:-1]:
        x = s.linear(name, x).relu()
    return s.linear(names[-1], x)


def _lenet5(s: _State, x: Tensor, training: bool) -> Tensor:
    x = s.conv("features.0", x, 2).relu().max_pool2d()
    x = s.conv("features.3", x, 0).relu().max_pool2d().flatten(1)
    x = s.linear("classifier.0", x).relu()
    return s.linear("classifier.4", s.linear("classifier.2", x).relu())


def _resnet18(s: _State, x: Tensor, training: bool) -> Tensor:
    if s.tensors["conv1.weight"].shape[2] != 3:
        raise Unable("ResNet-18 for large images is not written for tinygrad")
    x = s.norm("bn1", s.conv("conv1", x, 1), training).relu()
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            y = s.norm(f"{name}.bn1", s.conv(f"{name}.conv1", x, 1, stride), training).relu()
            y = s.norm(f"{name}.bn2", s.conv(f"{name}.conv2", y, 1), training)
            if f"{name}.downsample.0.weight" in s.tensors:
                x = s.norm(f"{name}.downsample.1", s.conv(f"{name}.downsample.0", x, 0, stride), training)
            x = (x + y).relu()
    return s.linear("fc", x.mean((2, 3)))


NETWORKS: dict[str, Callable[[_State, Tensor, bool], Tensor]] = {"mlp": _mlp, "lenet5": _lenet5, "resnet18": _resnet18}


def build(name: str, tensors: dict[str, Tensor]) -> tuple[Callable[[Tensor, bool], Tensor], list[Tensor]]:
    """The network as a function of (images, training), and the parameters that are learned."""
    network = NETWORKS.get(name)
    if network is None:
        raise Unable(f"{name} is not written for tinygrad")
    state = _State(tensors)
    learned = [tensor for key, tensor in tensors.items() if key.endswith((".weight", ".bias"))]
    return (lambda x, training: network(state, x, training)), learned
