"""Ready-made networks. Each is a function that returns a module; ``seed`` fixes its initial values."""

from .lenet import lenet5
from .mlp import mlp, one_hidden, two_hidden
from .mobilenet import mobilenet_v2
from .recipe import build, from_recipe, names
from .resnet import resnet18, resnet50
from .vgg import vgg16, vgg_small

__all__ = ["build", "from_recipe", "lenet5", "mlp", "mobilenet_v2", "names", "one_hidden", "resnet18", "resnet50", "two_hidden",
           "vgg16", "vgg_small"]
