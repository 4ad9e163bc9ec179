"""Data sets: names and Fashion-MNIST, where they are found, and how they are fetched and checked."""

from .catalogue import DATASETS, fetch, sources
from .fashion_mnist import MEAN as FASHION_MNIST_MEAN
from .fashion_mnist import STD as FASHION_MNIST_STD
from .fashion_mnist import FashionMNIST, ImageSplit, load_fashion_mnist
from .fetching import Source
from .idx import read_idx
from .image_files import IMAGE_SUFFIXES, need_pillow
from .names import CHARACTERS, Names, NameSplit, load_names

__all__ = [
    "CHARACTERS",
    "DATASETS",
    "FASHION_MNIST_MEAN",
    "FASHION_MNIST_STD",
    "FashionMNIST",
    "ImageSplit",
    "NameSplit",
    "Names",
    "Source",
    "fetch",
    "load_fashion_mnist",
    "load_names",
    "read_idx",
    "sources",
]
