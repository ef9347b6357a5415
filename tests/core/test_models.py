"""Ready-made models: shapes, torch's and torchvision's names, recipes, and building by name."""

import json

import numpy as np
import pytest
from interpreter import Interpreter, call, trace

from clnn import models, nn
from clnn.errors import ArgumentError, ShapeError
from clnn.nn.draws import Draw
from clnn.optim import SGD


@pytest.fixture
def no_numbers(monkeypatch):
    """Large models without the time and memory for their initial values."""
    monkeypatch.setattr(Draw, "make", lambda draw: np.zeros(draw.shape, np.float32))


def count(model):
    return sum(parameter.spec.size for parameter in model.parameters())


@pytest.mark.parametrize("build, shape, classes, parameters", [
    (lambda: models.mlp(784, 512, 256, 10), (2, 1, 28, 28), 10, 535818),
    (lambda: models.mlp(12, 3), (2, 12), 3, 39),
    (lambda: models.one_hidden(), (2, 784), 10, 238510),
    (lambda: models.two_hidden(classes=7), (2, 28, 28), 7, 535047),
    (lambda: models.lenet5(), (2, 1, 28, 28), 10, 61706),
    (lambda: models.lenet5(5, 3, 32), (2, 3, 32, 32), 5, 61581),
    (lambda: models.lenet5(size=12), (2, 1, 12, 12), 10, 15626),
    (lambda: models.vgg_small(), (2, 3, 32, 32), 10, 2197706),
    (lambda: models.vgg_small(4, 1, 9), (2, 1, 9, 9), 4, 1211972),
    (lambda: models.resnet18(), (2, 3, 32, 32), 10, 11173962),
    (lambda: models.resnet18(1000, 3, 224), (2, 3, 224, 224), 1000, 11689512),
    (lambda: models.resnet50(), (1, 3, 224, 224), 1000, 25557032),
    (lambda: models.resnet50(10, 3, 32), (2, 3, 32, 32), 10, 23520842),
    (lambda: models.mobilenet_v2(), (1, 3, 224, 224), 1000, 3504872),
    (lambda: models.mobilenet_v2(10, 1), (2, 1, 32, 32), 10, 2236106),
    (lambda: models.vgg16(), (1, 3, 224, 224), 1000, 138357544),
    (lambda: models.vgg16(10, 1), (1, 1, 32, 32), 10, 134300362),
])
def test_shapes_and_sizes(build, shape, classes, parameters):
    model = build()
    assert trace(model, shape).outputs[0].shape == (shape[0], classes)
    assert count(model) == parameters


def test_lenet_computes_torchs_numbers():
    torch = pytest.importorskip("torch")
    t = torch.nn
    theirs = t.Sequential()
    theirs.features = t.Sequential(t.Conv2d(1, 6, 5, padding=2), t.ReLU(), t.MaxPool2d(2),
                                   t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2))
    theirs.flatten = t.Flatten()
    theirs.classifier = t.Sequential(t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, 10))
    ours = models.lenet5()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(call(ours, x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_resnet_has_torchvisions_names(no_numbers):
    state = models.resnet18(1000, 3, 224).state_dict()
    assert len(state) == 122
    assert list(state)[:7] == ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                               "bn1.num_batches_tracked", "layer1.0.conv1.weight"]
    assert list(state)[-2:] == ["fc.weight", "fc.bias"]
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert "layer3.0.downsample.1.running_var" in state and "layer1.0.downsample.0.weight" not in state
    assert models.resnet18().conv1.weight.shape == (64, 3, 3, 3)


def test_resnet50_has_torchvisions_names(no_numbers):
    state = models.resnet50().state_dict()
    assert len(state) == 320
    assert list(state)[6:12] == ["layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias", "layer1.0.bn1.running_mean",
                                 "layer1.0.bn1.running_var", "layer1.0.bn1.num_batches_tracked"]
    assert [len([name for name in state if name.startswith(f"layer{i}.") and name.endswith("conv3.weight")])
            for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    shapes = {"layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer1.1.conv1.weight": (64, 256, 1, 1),
              "layer2.0.conv2.weight": (128, 128, 3, 3), "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.weight": (1000, 2048)}
    assert {name: state[name].shape for name in shapes} == shapes
    assert models.resnet50().layer2[0].conv2.stride == (2, 2)


def test_mobilenet_has_torchvisions_names(no_numbers):
    state = models.mobilenet_v2().state_dict()
    assert len(state) == 314
    assert list(state)[:7] == ["features.0.0.weight", "features.0.1.weight", "features.0.1.bias", "features.0.1.running_mean",
                               "features.0.1.running_var", "features.0.1.num_batches_tracked", "features.1.conv.0.0.weight"]
    assert list(state)[-2:] == ["classifier.1.weight", "classifier.1.bias"]
    shapes = {"features.1.conv.0.0.weight": (32, 1, 3, 3), "features.1.conv.1.weight": (16, 32, 1, 1),
              "features.2.conv.0.0.weight": (96, 16, 1, 1), "features.2.conv.1.0.weight": (96, 1, 3, 3),
              "features.17.conv.2.weight": (320, 960, 1, 1), "features.18.0.weight": (1280, 320, 1, 1),
              "classifier.1.weight": (1000, 1280)}
    assert {name: state[name].shape for name in shapes} == shapes


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "vgg16"])
def test_names_and_shapes_are_torchvisions(name, no_numbers):
    torchvision = pytest.importorskip("torchvision")
    both = getattr(torchvision.models, name)(weights=None), models.build(name, 1000, (3, 224, 224))
    theirs, ours = ([(key, tuple(value.shape)) for key, value in model.state_dict().items()] for model in both)
    assert ours == theirs


def test_vgg16_has_torchvisions_names():
    names = [name for name, _ in models.vgg16(10).named_parameters()]
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert names == [f"{layer}.{kind}" for layer in (*(f"features.{i}" for i in convolutions), "classifier.0", "classifier.3",
                                                     "classifier.6") for kind in ("weight", "bias")]


def test_resnet_block_computes_torchs_numbers():
    torch = pytest.importorskip("torch")
    from clnn.models.resnet import BasicBlock
    ours = BasicBlock(3, 4, 2)
    t = {name: torch.tensor(array) for name, array in ours.state_dict().items()}

    def norm(x, name):
        return torch.nn.functional.batch_norm(x, None, None, t[f"{name}.weight"], t[f"{name}.bias"], True)

    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    conv = torch.nn.functional.conv2d
    y = torch.relu(norm(conv(torch.tensor(x), t["conv1.weight"], stride=2, padding=1), "bn1"))
    shortcut = norm(conv(torch.tensor(x), t["downsample.0.weight"], stride=2), "downsample.1")
    y = torch.relu(norm(conv(y, t["conv2.weight"], padding=1), "bn2") + shortcut)
    np.testing.assert_allclose(call(ours, x), y.numpy(), rtol=1e-4, atol=1e-5)


def test_activations():
    kinds = [type(layer).__name__ for layer in models.mlp(4, 3, 3, 2, activation=["tanh", "gelu"])]
    assert kinds == ["Flatten", "Linear", "Tanh", "Linear", "GELU", "Linear"]
    assert isinstance(models.one_hidden(4)[2], nn.Sigmoid)


def test_seeds():
    one, two = models.mlp(4, 3, 2, seed=5), models.mlp(4, 3, 2, seed=5)
    np.testing.assert_array_equal(one[1].weight.array, two[1].weight.array)
    assert (one[1].weight.array != models.mlp(4, 3, 2, seed=6)[1].weight.array).all()


RECIPES = {
    "mlp": (lambda: models.mlp(6, 5, 4, activation=["tanh"]), {"sizes": [6, 5, 4], "activation": ["tanh"]}),
    "one_hidden": (lambda: models.one_hidden(6, 5), {"inputs": 6, "hidden": 5, "classes": 10, "activation": "sigmoid"}),
    "two_hidden": (lambda: models.two_hidden(6, (5, 4)), {"inputs": 6, "hidden": [5, 4], "classes": 10, "activation": "relu"}),
    "lenet5": (lambda: models.lenet5(3, size=32), {"classes": 3, "channels": 1, "size": 32}),
    "vgg_small": (lambda: models.vgg_small(size=8), {"classes": 10, "channels": 3, "size": 8}),
    "resnet18": (lambda: models.resnet18(3), {"classes": 3, "channels": 3, "size": 32}),
    "resnet50": (lambda: models.resnet50(3, size=32), {"classes": 3, "channels": 3, "size": 32}),
    "mobilenet_v2": (lambda: models.mobilenet_v2(3), {"classes": 3, "channels": 3, "dropout": 0.2}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_round_trip(name, no_numbers):
    make, options = RECIPES[name]
    model = make()
    assert model.recipe == {"name": name, "options": options}
    again = models.from_recipe(json.loads(json.dumps(model.recipe)))
    assert again.recipe == model.recipe
    assert repr(again) == repr(model)
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("name, shape, options", [
    ("mlp", (3, 8, 8), {"activation": "tanh"}), ("mlp", (64,), {"hidden": (20,)}), ("one_hidden", (1, 8, 8), {"hidden": 9}),
    ("two_hidden", (64,), {"hidden": [9, 8]}), ("lenet5", (1, 28, 28), {}), ("lenet5", (3, 32, 32), {"seed": 3}),
    ("vgg_small", (3, 32, 32), {}), ("resnet18", (3, 32, 32), {}), ("vgg16", (3, 32, 32), {"dropout": 0.2}),
    ("resnet50", (3, 32, 32), {}), ("mobilenet_v2", (3, 32, 32), {"dropout": 0.1}),
])
def test_build(name, shape, options):
    model = models.build(name, 5, shape, **options)
    assert trace(model, (2, *shape)).outputs[0].shape == (2, 5)
    assert model.recipe["name"] == name


def test_build_takes_its_hidden_sizes():
    assert models.build("mlp", 5, (2, 3), hidden=(20, 7)).recipe["options"]["sizes"] == [6, 20, 7, 5]
    assert models.names() == ["lenet5", "mlp", "mobilenet_v2", "one_hidden", "resnet18", "resnet50", "two_hidden", "vgg16",
                              "vgg_small"]


@pytest.mark.parametrize("act, text", [
    (lambda: models.build("resnet", 10, (3, 32, 32)),
     "models: unknown model\n  got:      'resnet'\n"
     "  expected: lenet5, mlp, mobilenet_v2, one_hidden, resnet18, resnet50, two_hidden, vgg16, vgg_small\n"
     "  try:      did you mean"),
    (lambda: models.build("LeNet", 10, (1, 28, 28)), "models: unknown model\n  got:      'LeNet'"),
    (lambda: models.build("lenet5", 10, (1, 28, 28), depth=3),
     "models.lenet5: the model does not take these options\n  got:      depth\n  expected: classes, channels, size, seed"),
    (lambda: models.build("lenet5", 10, (1, 28, 20)), "models.lenet5: the model takes square images\n  got:      (1, 28, 20)"),
    (lambda: models.build("resnet18", 10, (64,)), "models.resnet18: the model takes square images\n  got:      (64,)"),
    (lambda: models.build("lenet5", 10, (1, 8, 8)),
     "models.lenet5: the images are too small\n  got:      size=8\n  expected: at least 12\n"
     "  try:      use mlp, or enlarge the images"),
    (lambda: models.vgg_small(size=7), "models.vgg_small: the images are too small\n  got:      size=7\n  expected: at least 8"),
    (lambda: models.build("vgg16", 10, (3, 28, 28)), "models.vgg16: the images are too small\n  got:      size=28"),
    (lambda: models.build("mobilenet_v2", 10, (3, 28, 28)), "models.mobilenet_v2: the images are too small\n  got:      size=28"),
    (lambda: models.mlp(10), "models.mlp: needs at least an input and an output size\n  got:      (10,)"),
    (lambda: models.mlp(10, 5, 2, activation=["relu", "relu"]), "models.mlp: needs one activation per hidden layer\n"
                                                               "  got:      2 activations\n  expected: 1, or one name for all"),
    (lambda: models.mlp(10, 5, 2, activation="swosh"), "models.mlp: unknown activation\n  got:      activation='swosh'"),
    (lambda: models.two_hidden(hidden=5), "models.two_hidden: hidden must be a pair of widths\n  got:      hidden=5"),
    (lambda: models.lenet5(classes=0), "Linear: out_features must be a whole number of at least 1\n  got:      out_features=0"),
    (lambda: models.from_recipe({"name": "mlp"}), "models.from_recipe: not a model's recipe"),
    (lambda: models.from_recipe(None), "models.from_recipe: not a model's recipe"),
])
def test_errors(act, text):
    with pytest.raises(ArgumentError) as error:
        act()
    assert str(error.value).startswith(text)


def test_images_of_another_size_are_refused_with_the_layer():
    with pytest.raises(ShapeError, match=r"classifier.0 \(Linear\): in_features \(=400\) does not fit the last axis"):
        trace(models.lenet5(), (2, 1, 20, 20))


def test_a_model_learns():
    """Model, loss, gradients and optimiser in one graph, by the references."""
    from clnn.autodiff import differentiate
    from clnn.ir import Variable
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((16, 6)).astype(np.float32), rng.integers(0, 3, 16)
    model, criterion, optimizer = models.mlp(6, 16, 3, seed=1), nn.CrossEntropyLoss(), SGD(0.2, momentum=0.9)
    model.name_variables()
    graph = trace(lambda a, b: criterion(model(a), b), x.shape, labels.shape, dtypes=["float32", "int32"])
    lr, step = graph.variable(Variable(np.float32(0.2), "lr")), graph.variable(Variable(np.int32(0), "step"))
    wanted = [graph.variable(parameter) for parameter in model.parameters()]
    for value, gradient in zip(wanted, differentiate(graph, graph.outputs, [graph.constant(1.0)], wanted), strict=True):
        optimizer.update(graph, value, gradient, lr, step)
    interpreter = Interpreter(graph)
    losses = [float(interpreter.run(x0=x, x1=labels)[0]) for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]
