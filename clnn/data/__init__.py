"""Data sets, and batches of them."""

from .cifar10 import CIFAR10
from .dataset import ArrayDataset, Dataset
from .digits import digits
from .download import download
from .folder import ImageFolder
from .images import load_image
from .loader import DataLoader
from .mnist import MNIST
from .order import epoch_permutation
from .registry import NAMES, load
from .transforms import Compose, RandomCrop, RandomHorizontalFlip

__all__ = ["CIFAR10", "MNIST", "NAMES", "ArrayDataset", "Compose", "DataLoader", "Dataset", "ImageFolder", "RandomCrop",
           "RandomHorizontalFlip", "digits", "download", "epoch_permutation", "load", "load_image"]
