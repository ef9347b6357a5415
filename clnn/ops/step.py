"""What a training step does beside the network: taking its batch from a data set on the device, counting, and moving the
clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..codegen.lowering import Context, Lowering
from ..codegen.philox import uniform
from ..errors import ShapeError
from ..ir import Graph, Op, Sample, TensorSpec, Value, Variable
from ..ir.op import integers, normal, positive
from .tracing import apply


class StepState:
    """The small variables that steps read and advance on the device, so that nothing is re-bound or read back between steps.

    ``seed`` and ``step`` key the random numbers; ``cursor`` is the position in the epoch's ``order``; ``rates`` holds the
    learning rate of each batch of the epoch and ``rate`` that of the present one; ``totals`` sums (loss · images, hits, images)
    until somebody reads and clears it.
    """

    def __init__(self, seed: int = 0, rates: int = 1):
        self.seed = Variable(np.int32(seed & 0x7FFFFFFF), "seed")
        self.step = Variable(np.int32(0), "step")
        self.cursor = Variable(np.int32(0), "cursor")
        self.rate = Variable(np.float32(0), "rate")
        self.rates = Variable(np.zeros(rates, np.float32), "rates")
        self.totals = Variable(np.zeros(3, np.float32), "totals")

    @property
    def variables(self) -> list[Variable]:
        return [self.seed, self.step, self.cursor, self.rate, self.rates, self.totals]


@dataclass(frozen=True)
class GatherBatch(Op):
    """images (D, …), labels (D,), order (D,), cursor (), seed (), step () → x (batch, …) float32, y (batch,): samples
    order[cursor …].

    uint8 images are scaled to [0, 1]; then (v − mean) / std per channel. With ``crop`` the image moves by up to that many
    pixels in each direction over a border of zeros (before normalisation), with ``flip`` every other one is mirrored; both are
    functions of (seed, step, position in the batch).
    """

    batch: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop: int = 0
    flip: bool = False

    def infer(self, images, labels, order, cursor, seed, step):
        if images.rank < 2 or labels.shape != images.shape[:1]:
            raise ShapeError("images and labels do not fit together", where="gather_batch", got=f"{images.shape}, {labels.shape}")
        if (self.crop or self.flip) and images.rank != 4:
            raise ShapeError("augmentation needs images (D, C, H, W)", where="gather_batch", got=images.shape)
        if len(self.mean) not in (1, images.shape[1]) or len(self.std) != len(self.mean):
            raise ShapeError(
                "mean and std must have one value, or one per channel", where="gather_batch", got=(self.mean, self.std)
            )
        return TensorSpec((self.batch, *images.shape[1:]), "float32"), TensorSpec((self.batch,), "int32")

    def _scale(self, dtype: str) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset per channel."""
        unit = 1 / 255 if dtype == "uint8" else 1.0
        std = np.asarray(self.std, dtype=np.float64)
        return unit / std, -np.asarray(self.mean, dtype=np.float64) / std

    def reference(self, images, labels, order, cursor, seed, step):
        picked = order[(int(cursor) + np.arange(self.batch)) % len(order)]
        x = images[picked].astype(np.float64)
        factor, offset = self._scale(str(images.dtype))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if self.crop or self.flip:
            # the fill of the border is the raw value 0
            draws = [uniform(int(seed), int(step), 0xC0DE, np.arange(self.batch) * 4 + k) for k in range(3)]
            height, width = x.shape[2:]
            for b in range(self.batch):
                image = x[b]
                if self.crop:
                    dy, dx = (int(draws[k][b] * (2 * self.crop + 1)) - self.crop for k in range(2))
                    padded = np.pad(image, ((0, 0), (self.crop,) * 2, (self.crop,) * 2))
                    image = padded[:, self.crop + dy : self.crop + dy + height, self.crop + dx : self.crop + dx + width]
                x[b] = image[:, :, ::-1] if self.flip and draws[2][b] < 0.5 else image
        return x * factor.reshape(shape) + offset.reshape(shape), labels[picked]

    @property
    def lowerings(self):
        return (Lowering("gather", emit_gather),)

    @classmethod
    def samples(cls):
        f = TensorSpec
        rest = (f((11,), "int32"), f((11,), "int32"), f((), "int32"), f((), "int32"), f((), "int32"))
        fill = {
            0: integers(0, 256),
            1: integers(0, 10),
            2: lambda rng, spec: rng.permutation(11).astype(np.int32),
            3: integers(0, 6),
            4: integers(0, 9999),
            5: integers(0, 99),
        }
        return [
            Sample(cls(5, (0.5,), (0.25,)), (f((11, 1, 4, 3), "uint8"), *rest), fill, differentiable=False),
            Sample(
                cls(4, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), 2, True), (f((11, 3, 5, 6), "uint8"), *rest), fill, differentiable=False
            ),
            Sample(cls(3), (f((11, 7)), *rest), fill | {0: normal}, differentiable=False),
        ]


def emit_gather(op: GatherBatch, context: Context) -> None:
    images = context.inputs[0]
    factor, offset = op._scale(images.dtype)
    channels, inner = images.shape[1], math.prod(images.shape[2:])
    height, width = images.shape[2:] if images.rank == 4 else (1, inner)
    context.launch(
        "data/gather",
        {
            "batch": op.batch,
            "total": images.shape[0],
            "C": channels,
            "H": height,
            "W": width,
            "factor": tuple(float(v) for v in factor),
            "offset": tuple(float(v) for v in offset),
            "crop": op.crop,
            "flip": op.flip,
        },
        {name: context.input(i) for i, name in enumerate(("images", "labels", "order", "cursor", "seed", "step"))},
        {"x": context.output(0), "y": context.output(1)},
    )


@dataclass(frozen=True)
class EndStep(Op):
    """loss (), hits (B,), totals (3,), step (), cursor (), rates (T,) → totals, step, cursor and rate after a step of ``batch``
    images.

    ``stride`` is the batch size of the epoch, by which the cursor counts batches.
    """

    batch: int
    stride: int

    def infer(self, loss, hits, totals, step, cursor, rates):
        return totals, step, cursor, TensorSpec((), "float32")

    def reference(self, loss, hits, totals, step, cursor, rates):
        added = np.array([float(loss) * self.batch, hits.astype(np.float64).sum(), self.batch])
        following = int(cursor) + self.batch
        return totals + added, step + 1, cursor + self.batch, np.float64(rates[min(following // self.stride, len(rates) - 1)])

    @property
    def lowerings(self):
        return (Lowering("single", emit_end_step),)

    @classmethod
    def samples(cls):
        f = TensorSpec
        return [
            Sample(
                cls(5, 5),
                (f(()), f((5,)), f((3,)), f((), "int32"), f((), "int32"), f((4,))),
                {1: positive, 3: integers(0, 9), 4: integers(0, 15)},
                differentiable=False,
            )
        ]


def emit_end_step(op: EndStep, context: Context) -> None:
    context.launch(
        "update/end_step",
        {"batch": op.batch, "stride": op.stride, "hits": context.inputs[1].size, "rates": context.inputs[5].size},
        {name: context.input(i) for i, name in enumerate(("loss", "hits", "totals", "step", "cursor", "rates"))},
        {name: context.output(i) for i, name in enumerate(("new_totals", "new_step", "new_cursor", "rate"))},
    )


def gather_batch(
    graph: Graph, images: Value, labels: Value, order: Value, state: StepState, batch: int, **options
) -> tuple[Value, Value]:
    """The batch at the cursor: (x, labels)."""
    return apply(
        GatherBatch(batch, **options), images, labels, order, *(graph.variable(v) for v in (state.cursor, state.seed, state.step))
    )


def end_step(graph: Graph, loss: Value, hits: Value, state: StepState, batch: int, stride: int) -> None:
    """Register the updates of the counters that a step of ``batch`` images makes."""
    old = [graph.variable(v) for v in (state.totals, state.step, state.cursor)]
    totals, step, cursor, rate = apply(EndStep(batch, stride), loss, hits, *old, graph.variable(state.rates))
    graph.updates |= {old[0]: totals, old[1]: step, old[2]: cursor, graph.variable(state.rate): rate}
