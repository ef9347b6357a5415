"""How batch normalisation and its gradient run: from registers that hold what was read, or in launches that read it twice."""

from __future__ import annotations

from collections.abc import Callable

from ..codegen.channels import channel_problem, split_channels
from ..codegen.held import PAIRS, SINGLE, Sizes, board_size, count_parts, default_size, held_problem, most_parts
from ..codegen.lowering import Context, Operand
from ..errors import LoweringError
from ..ir import Op, TensorSpec
from ..target import Target


def emit_forward(op: Op, context: Context) -> None:
    """Statistics of the parts; their join; the normalisation.

    The last launch reads the mean and the slope from scratch: a tail on the outputs may have replaced them.
    """
    x = context.inputs[0]
    problem = channel_problem(x, context.target)
    channels, parts, inner = problem["C"], problem["parts"], problem["inner"]
    means, squares = context.scratch((parts, channels)), context.scratch((parts, channels))
    center, slope = context.scratch((channels,)), context.scratch((channels,))
    context.launch("norm/statistics", problem, {"x": context.input(0)}, {"means": means, "squares": squares})
    last = problem["outer"] - problem["span"] * (parts - 1)
    context.launch("norm/join_statistics",
                   {"C": channels, "parts": parts, "size": problem["span"] * inner, "last": last * inner, "eps": op.eps},
                   {"means": means, "squares": squares, "gamma": context.input(1)},
                   {"mean": context.output(1), "var": context.output(2), "center": center, "slope": slope})
    context.launch("norm/apply", {"C": channels, "outer": problem["outer"], "inner": inner},
                   {"x": context.input(0), "center": center, "slope": slope, "offset": context.input(2)},
                   {"y": context.output(0)})


def emit_gradient(op: Op, context: Context) -> None:
    """Sums of the parts; their join; the gradient of x.

    Only the first launch reads gamma, so that the second may overwrite it with the updated weight.
    """
    x = context.inputs[1]
    problem = channel_problem(x, context.target)
    channels, parts = problem["C"], problem["parts"]
    sums, dots = context.scratch((parts, channels)), context.scratch((parts, channels))
    scale, slope, offset = (context.scratch((channels,)) for _ in range(3))
    dy, x_in, mean, var, gamma = map(context.input, range(5))
    context.launch("norm/gradient_sums", problem | {"eps": op.eps},
                   {"dy": dy, "x": x_in, "mean": mean, "var": var, "gamma": gamma},
                   {"sums": sums, "dots": dots, "scale": scale})
    context.launch("norm/join_gradient", {"C": channels, "parts": parts, "count": x.size // channels, "eps": op.eps},
                   {"sums": sums, "dots": dots, "var": var, "scale": scale},
                   {"dgamma": context.output(1), "dbeta": context.output(2), "slope": slope, "offset": offset})
    context.launch("norm/apply", {"C": channels, "outer": problem["outer"], "inner": problem["inner"]},
                   {"x": x_in, "center": mean, "slope": slope, "offset": offset, "dy": dy, "scale": scale},
                   {"y": context.output(0)})


def refuse_held(sizes: Sizes) -> Callable:
    """Why groups of such sizes should not hold their part of a channel until they know what others hold."""
    def refuse(op: Op, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], target: Target) -> str | None:
        if target.is_cpu:
            return "a CPU runs a work-group from start to end, and its caches hold what is read twice"
        extents = split_channels(outputs[0])
        parts = count_parts(*extents, *default_size(*extents, sizes, target))
        if parts > 1 and not target.has("resident"):
            return "needs the feature resident: groups that run at a time"
        if parts > most_parts(target):
            return f"a channel needs {parts} groups that hold it, of which {most_parts(target)} run at a time"
        return None
    return refuse


def emit_forward_held(op: Op, context: Context) -> None:
    """One launch that reads x once."""
    problem, stores = _held(context, context.inputs[0], op.eps, SINGLE)
    context.launch("norm/held", problem, {"x": context.input(0), "gamma": context.input(1), "beta": context.input(2)},
                   {"y": context.output(0), "mean": context.output(1), "var": context.output(2), **stores})


def emit_gradient_held(op: Op, context: Context) -> None:
    """One launch that reads dy and x once."""
    problem, stores = _held(context, context.inputs[1], op.eps, PAIRS, others=1)
    reads = dict(zip(("dy", "x", "mean", "var", "gamma"), map(context.input, range(5)), strict=True))
    context.launch("norm/held_gradient", problem, reads,
                   {"dx": context.output(0), "dgamma": context.output(1), "dbeta": context.output(2), **stores})


def _held(
    context: Context, x: TensorSpec, eps: float, sizes: Sizes, others: int = 0
) -> tuple[dict[str, object], dict[str, Operand]]:
    """The problem constants of parts of ``x`` that are held, and the board between them, if there are several."""
    channels, outer, inner = extents = split_channels(x)
    if outer * inner >= 2**31:
        raise LoweringError("a channel has more elements than an int counts")
    default = default_size(*extents, sizes, context.target)
    limit = max(most_parts(context.target), count_parts(*extents, *default))
    offered = {f"{items}x{held}": (items, held) for items, held in sizes.possible(inner, context.target)
               if count_parts(*extents, items, held) <= limit}
    problem = held_problem(*extents, *offered[context.choice("size", "{}x{}".format(*default), tuple(offered))], eps)
    if problem["parts"] == 1:
        return problem, {}
    return problem, {"board": context.board(board_size(channels, problem["parts"], others))}
