"""What a problem should take on a device, from nothing but the device's peak speeds: the cost model.

Every launch takes the longer of computing and moving plus its own start, on CPUs both, as they have too few threads to compute
with some while others wait; launches follow each other. A product of matrices counts with the multiplications that it really
does, tiles filled up, which is what sets Winograd, strides and narrow matrices apart from the definition. Kernels reach a share
of the peaks that depends on their kind: :data:`SHARES`. The model ranks where nothing is measured, weighs layouts, and shares
out the tuner's time; a measured time always counts more.
"""

from __future__ import annotations

import math
from itertools import chain
from types import SimpleNamespace

from ..codegen.kernel import KernelSpec
from ..codegen.lowering import Launch, Offer
from ..codegen.template import declaration
from ..codegen.views import View, run_of
from ..ir import Node, TensorSpec
from ..ops.reduce import Reduce
from ..runtime import Session
from ..runtime.speed import Peak, peak
from .problem import Problem, problem_of

#: kernels that, beside others, only join a few partial sums or turn filters
BESIDE = ("reduce/rows", "pointwise/transpose")
#: seconds between two launches of one queue, beyond what an empty kernel takes itself
BETWEEN = 3e-6
#: the name in the table of depthwise kernels that take vectors of channels
CHANNEL_VECTORS = "conv/depthwise, vectors of channels"
#: kernels by the beginning of their templates' names → share of the peak flops that they reach on CPUs and elsewhere, where
#: their tiles are large, their operands plain, and all compute units busy
SHARES: dict[str, tuple[float, float]] = {
    "gemm/packed": (0.9, 0.1),
    "gemm/tiled": (0.02, 0.8),
    "gemm/simple": (0.012, 0.04),
    "conv/direct": (0.013, 0.08),
    "conv/direct_blocks": (0.9, 0.08),
    "conv/direct_channels": (0.8, 0.08),
    "conv/direct_planes": (0.42, 0.08),
    "conv/direct_planes_wgrad": (0.8, 0.08),
    "conv/depthwise": (0.12, 0.15),
    CHANNEL_VECTORS: (0.4, 0.15),
    "conv/winograd_blocks": (0.95, 0.1),
    "conv/winograd_fused": (0.01, 0.6),
    "conv/strips": (0.01, 0.6),
    "conv/window_sums": (0.01, 0.6),
    "conv/": (0.5, 0.4),
    "": (0.25, 0.25),
}
#: the same for the bandwidth of plain copies; copies that gather single elements are slower than their bytes
BANDWIDTHS: dict[str, tuple[float, float]] = {
    "conv/im2col": (0.125, 0.6),
    "conv/col2im": (0.15, 0.6),
    "conv/winograd": (0.5, 0.8),
    "conv/winograd_blocks": (1.0, 0.8),
    "conv/depthwise": (0.9, 0.9),
    "conv/depthwise_wgrad": (0.45, 0.9),
    "conv/direct_blocks": (0.7, 0.9),
    "conv/direct_planes": (0.6, 0.9),
    "conv/direct_planes_wgrad": (0.6, 0.9),
    "": (0.45, 0.9),
}
#: share of the bandwidth that changes of layout reach on CPUs and elsewhere
RELAYOUT = (0.2, 0.6)
#: items that a compute unit other than a CPU's needs at least to hide what its loads take
AWAKE = 256
#: what is left of a GEMM's share where an operand is gathered through windows, or the result is scattered
GATHERED, SCATTERED = 0.75, 0.8
#: operations that take as long as transforming an element of a tile in a kernel that multiplies them, too: where channels lie
#: side by side, where they are a plane apart
TRANSFORMED, TRANSFORMED_APART = 80, 130
#: channels that a GPU reads and multiplies in the time that it takes to transform the results of such a kernel back
FINISHED = 12
#: how much faster than from memory the filters come that every item of it reads
NEARER = 4
#: what is left of a CPU's GEMM where sums are stored after each 64 products
SHALLOW = 0.75
#: multiply-adds that take as long as packing an element
PACKING = 4
#: elements of a vector that packing reads on CPUs
VECTOR = 8
#: what is left of the first on CPUs where the result is narrower than half of one
NARROW = 0.45
#: the first on CPUs, by what packing reads as vectors: runs of the depth (channels), rows of pixels, or nothing
GATHERED_DEPTH, GATHERED_ROWS, GATHERED_SINGLY = 0.9, 0.75, 0.6


def speeds(session: Session) -> Peak:
    """The peak speeds of the session's device, to half an octave: so that what is chosen by them does not depend on how busy the
    device was when they were measured."""
    found = peak(session)
    return Peak(*(2.0 ** (round(2 * math.log2(value)) / 2) for value in (found.flops, found.bandwidth, found.launch)))


def estimate(node: Node, session: Session) -> float:
    """Seconds that a node should take, by the offer it has; 0 for nodes that launch nothing."""
    if not isinstance(node.offer, Offer) or not node.offer.launches:
        return 0.0
    return bound(problem_of(node), node.offer, speeds(session), session.target.compute_units, session.target.is_cpu)


def bound(problem: Problem, offer: Offer, speeds: Peak, units: int, cpu: bool) -> float:
    """Seconds of the launches of an offer, one after the other."""
    main = [launch for launch in offer.launches if not declaration(launch.kernel.template).auxiliary]
    if not isinstance(getattr(problem.op, "base", problem.op), Reduce):
        main = [launch for launch in main if launch.kernel.template not in BESIDE] or main
    if any(_product(launch) or _tiles(launch) for launch in main):      # the others only prepare or finish a product
        main = []
    tensors = {"in": problem.inputs, "out": problem.outputs, "work": offer.work}

    def nbytes(operands) -> int:
        return sum(tensors[operand.kind][operand.index].nbytes for operand in dict.fromkeys(operands))

    total = 0.0
    for launch in offer.launches:
        kernel = launch.kernel
        product, tiles = _product(launch), _tiles(launch)
        if product is not None:
            flops = _padded(product, kernel.t) + (_packing(product, kernel.t) if kernel.template == "gemm/packed" else 0.0)
            share = _of(SHARES, kernel.template, cpu) * _eased(product, kernel.t, cpu)
        elif tiles:
            flops, share = _through_tiles(kernel, tiles), _of(SHARES, kernel.template, cpu)
        else:
            flops = problem.flops / len(main) if launch in main else 0.0
            share = _of(SHARES, _name(kernel), cpu) * _filled(kernel)
        moved = nbytes(launch.reads) + _reached(launch) * nbytes(chain.from_iterable(launch.stores))
        if tiles and cpu:
            moved += nbytes(launch.reads[1:]) * (math.prod(kernel.global_size) - 1) / NEARER
        awake = 1.0 if cpu or product is not None else min(1.0, math.prod(kernel.global_size) / (AWAKE * units))
        computing = flops / (speeds.flops * share * min(awake, _busy(kernel, units)))
        moving = moved / (speeds.bandwidth * awake * _of(BANDWIDTHS, kernel.template, cpu))
        total += computing + moving if cpu else max(computing, moving)
        total += speeds.launch + BETWEEN
    return total


def relayout_seconds(spec: TensorSpec, speeds: Peak, cpu: bool) -> float:
    """Seconds that changing the layout of a tensor takes."""
    return 2 * spec.nbytes / (speeds.bandwidth * RELAYOUT[0 if cpu else 1]) + speeds.launch + BETWEEN


def _of(table: dict[str, tuple[float, float]], template: str, cpu: bool) -> float:
    """The entry with the longest matching beginning."""
    return table[max((name for name in table if template.startswith(name)), key=len)][0 if cpu else 1]


def _name(kernel) -> str:
    """The kernel's name in the table of shares."""
    t = kernel.t
    if getattr(kernel.p, "beside", 0) and kernel.template == "conv/depthwise":
        return CHANNEL_VECTORS
    if getattr(kernel.p, "inner", "") == "channels" and (getattr(t, "ACROSS", 1) > 1 or getattr(t, "LANES", 0) == 1 < t.VECTOR):
        return CHANNEL_VECTORS
    return kernel.template


def _filled(kernel) -> float:
    """The share of the lanes that are not idle."""
    p, t = kernel.p, kernel.t
    if kernel.template == "conv/direct_channels_wgrad":
        run = p.window[1] * p.C
        return run / _up(run, t.ACROSS)
    return min(1.0, t.ACROSS / VECTOR) if kernel.template == "conv/direct_channels" else 1.0


def _product(launch: Launch) -> SimpleNamespace | None:
    """The problem of a launch, if it is a product of matrices."""
    names = {name for name, _ in launch.kernel.problem}
    return launch.kernel.p if {"M", "N", "K", "batch", "a", "b"} <= names else None


def _tiles(launch: Launch) -> int:
    """The tiles of a launch that transforms and multiplies them, else 0."""
    p = launch.kernel.p
    return p.N * p.rows * p.cols if launch.kernel.template in ("conv/winograd_blocks", "conv/winograd_fused") else 0


def _through_tiles(kernel: KernelSpec, tiles: int) -> float:
    """Operations of the products of all tiles, and of what else takes as long."""
    p, elements = kernel.p, len(kernel.p.images) ** 2
    if kernel.template == "conv/winograd_fused":
        return 2.0 * elements * _up(tiles, kernel.t.TILES) * p.outs * (p.ins + FINISHED)
    transforms = sum(channels * (TRANSFORMED if strides[1] == 1 or p.beside else TRANSFORMED_APART)
                     for channels, strides in ((p.ins, p.x_strides), (p.outs, p.y_strides)))
    return elements * tiles * (2.0 * p.ins * p.outs + transforms)


def _reached(launch: Launch) -> float:
    """The share of its results that a launch stores: one of several may leave some to the others."""
    p, (_, store) = launch.kernel.p, launch.kernel.stores[0]
    if _product(launch) is not None:
        stored = p.batch * getattr(p, "splits", 1) * p.M * p.N
    elif launch.kernel.template == "pointwise/fill":
        stored = math.prod(extent for extent, _ in p.axes)
    else:
        return 1.0
    return min(1.0, stored / max(store.result.size, 1))


def _padded(p: SimpleNamespace, t: SimpleNamespace) -> float:
    """Multiplications and additions with the edges of the matrices filled up to whole tiles."""
    rows, cols = getattr(t, "BM", getattr(t, "MR", 1)), getattr(t, "BN", 16 if hasattr(t, "NV") else 1)
    if cols > p.N:      # narrow results are computed by narrower kernels, or the other way round
        cols = min(cols, 16)
    return 2.0 * p.batch * p.K * _up(p.M, rows) * _up(p.N, cols)


def _packing(p: SimpleNamespace, t: SimpleNamespace) -> float:
    """Operations that take as long as packing the operands that do not lie as they are read, for each tile that reads them."""
    elements = 0 if p.a.straight or p.a.transposed.in_panels(t.MR) else p.M * p.K * -(-p.N // t.NC)
    elements += 0 if p.b.in_panels(16 * t.NV) else p.K * p.N * -(-p.M // t.MC)
    return 2.0 * PACKING * p.batch * elements


def _up(extent: int, step: int) -> int:
    return -(-extent // step) * step


def _eased(p: SimpleNamespace, t: SimpleNamespace, cpu: bool) -> float:
    """What is left of a GEMM's share with these operands and register tiles."""
    left = 1.0
    if hasattr(t, "TM") and hasattr(t, "TN"):
        left *= min(1.0, (t.TM * t.TN / (t.TM + t.TN) / 4) ** 0.6)
    windows = [view for view in (p.a, p.b) if isinstance(view, View) and view.window is not None]
    if windows:
        left *= min(_gathered(view) for view in windows) if cpu else GATHERED
    c = getattr(p, "c", None)
    if isinstance(c, View) and c.cols and c.cols[-1].stride != 1 and p.N > 1:
        left *= SCATTERED
    if cpu and windows and p.N < VECTOR // 2:
        left *= NARROW
    if getattr(t, "KC", p.K) <= 64 < p.K:
        left *= SHALLOW
    return left


def _gathered(view: View) -> float:
    """What packing a view leaves of a GEMM's share on CPUs."""
    (down, step_down), (across, step_across) = run_of(view, view.rows), run_of(view, view.cols)
    if max(0 if step_down else down, 0 if step_across else across) >= VECTOR:
        return GATHERED_DEPTH
    return GATHERED_ROWS if max(down, across) >= VECTOR else GATHERED_SINGLY


def _busy(kernel, units: int) -> float:
    """The share of the compute units that has work, averaged over the rounds that a launch takes."""
    pieces = math.prod(kernel.grid)
    return pieces / (units * -(-pieces // units))
