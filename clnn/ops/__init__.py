"""Operators. Functions are called as in torch.nn.functional, inside a traced function; classes are what graphs are made of."""

from .elementwise import (abs, add, clip, div, dropout, elu, exp, gelu, hardsigmoid, hardswish, leaky_relu, log, maximum, minimum, mul, neg,
                          pow, relu, relu6, sigmoid, silu, sqrt, sub, tanh)
from .reduce import max, mean, sum
from .shape import concat, expand, flatten, pad, reshape, slice, transpose
from .pointwise import Map
from .reduce import Reduce
from .shape import Concat, Embed, Expand, Relayout, Reshape, Slice, Transpose

#: every operator class; the generic tests run the samples of each
OPERATORS = (Map, Reduce, Reshape, Transpose, Slice, Embed, Concat, Expand, Relayout)
