"""Operators. Functions are called as in torch.nn.functional, inside a traced function; classes are what graphs are made of."""

from .average_pool import (
                          AdaptiveAvgPool2d,
                          AdaptiveAvgPool2dGrad,
                          AvgPool2d,
                          AvgPool2dGrad,
                          adaptive_avg_pool2d,
                          avg_pool2d,
                          global_avg_pool2d,
)
from .conv import Conv2d, Conv2dDgrad, Conv2dWgrad, conv2d
from .cross_entropy import CrossEntropy, CrossEntropyGrad, Hits, SoftmaxCrossEntropy
from .elementwise import (
                          abs,
                          add,
                          clip,
                          div,
                          dropout,
                          elu,
                          exp,
                          gelu,
                          hardsigmoid,
                          hardswish,
                          leaky_relu,
                          log,
                          maximum,
                          minimum,
                          mul,
                          neg,
                          pow,
                          relu,
                          relu6,
                          sigmoid,
                          silu,
                          sqrt,
                          sub,
                          tanh,
)
from .loss import accuracy_hits, binary_cross_entropy_with_logits, cross_entropy, mse_loss
from .matmul import Matmul, linear, matmul
from .max_pool import MaxPool2d, MaxPool2dGrad, max_pool2d
from .move import Concat, Embed, Slice, Transpose, concat, pad, slice, transpose
from .norm import BatchNorm, BatchNormGrad, batch_norm
from .pointwise import Map
from .reduce import Reduce, max, mean, sum
from .relayout import Relayout
from .shape import Expand, Reshape, expand, flatten, reshape
from .softmax import LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad, log_softmax, softmax
from .step import EndStep, GatherBatch, StepState

#: every operator class; the generic tests run the samples of each
OPERATORS = (Map, Reduce, Reshape, Transpose, Slice, Embed, Concat, Expand, Relayout, Matmul, Conv2d, Conv2dDgrad, Conv2dWgrad,
             BatchNorm, BatchNormGrad, Softmax, SoftmaxGrad, LogSoftmax, LogSoftmaxGrad,
             CrossEntropy, CrossEntropyGrad, Hits, SoftmaxCrossEntropy, MaxPool2d, MaxPool2dGrad, AvgPool2d, AvgPool2dGrad,
             AdaptiveAvgPool2d, AdaptiveAvgPool2dGrad, GatherBatch, EndStep)
