"""The one orchestrator: trace, differentiate, run the passes, plan, build and bind."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import ops
from .autodiff import differentiate
from .config import config
from .errors import ArgumentError
from .ir import Graph, TensorSpec, Value, Variable
from .ops.step import StepState
from .passes import FROZEN, INFERENCE, TRAINING, Pass, run_passes
from .passes.choose_lowerings import describe_lowerings, offer_for
from .plan import make_plan
from .runtime import Device, Executable, select_device, session
from .runtime.program import KernelBuildError
from .runtime.session import Session
from .step import Step
from .tune import DeviceCosts, apply_choices
from .tune.estimate import speeds

DTYPES = {"f": "float32", "i": "int32", "u": "int32", "b": "int32"}
PRECISIONS = ("fp32",)


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ArgumentError("this precision is not available", where="precision", got=precision, expected=" or ".join(PRECISIONS))


def as_input(array: np.ndarray) -> np.ndarray:
    """An array in the type in which the device takes it: float32, int32 or uint8."""
    array = np.asarray(array)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in DTYPES:
        raise ArgumentError("arrays of this type cannot be used", got=array.dtype, expected="floats or whole numbers")
    return array.astype(DTYPES[array.dtype.kind], copy=False)


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Keeps Python from looking for cyclic garbage: tracing and passes make so many objects that stay, nodes and values, that it
    would look through all of the process again and again and find little."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@without_collections()
def trace(function: Callable, specs: Sequence[TensorSpec], names: Sequence[str] | None = None) -> tuple[Graph, list[Value]]:
    """The graph of ``function`` called with symbolic inputs, and its results."""
    graph = Graph()
    inputs = [graph.input(spec, names[i] if names else f"x{i}") for i, spec in enumerate(specs)]
    result = function(*inputs)
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    for value in results:
        if not isinstance(value, Value):
            raise ArgumentError("the traced function must return symbolic values", got=type(value).__name__)
    graph.outputs = results
    return graph, results


def optimise(graph: Graph, target_session: Session, passes: Sequence[Pass]) -> Graph:
    """The graph after all passes, with what was measured on the device put in."""
    with without_collections():
        graph = run_passes(graph, target_session.target, passes, DeviceCosts(target_session, config.tune != "off"))
    apply_choices(graph, target_session, config.tune)
    return graph


def build(graph: Graph, target_session: Session, passes: Sequence[Pass]) -> tuple[Graph, Executable]:
    """Passes, plan, programs, binding; returns the final graph too. A lowering whose kernel does not build gives way to the
    next one, with a message."""
    if config.tune == "search":         # which measures, so nothing may run beside it
        return _bind(optimise(graph, target_session, passes), target_session)
    speeds(target_session)              # are measured, too, where they are not known yet
    for value in graph.variables:
        value.source.begin()
    occasion = "\n".join(map(str, [*graph.inputs, *graph.variables, len(graph.nodes)]))
    with target_session.programs.foreseen(occasion):
        with ThreadPoolExecutor(1) as aside:
            aside.submit(target_session.send, [value.source for value in graph.updates])
            graph = optimise(graph, target_session, passes)
        return _bind(graph, target_session)


def _bind(graph: Graph, target_session: Session) -> tuple[Graph, Executable]:
    target = target_session.target
    banned: dict[int, frozenset[str]] = {}
    while True:
        try:
            with without_collections():
                plan = make_plan(graph, target)
                executable = Executable(plan, target_session)
        except KernelBuildError as error:
            culprits = [node for node in graph.nodes if any(launch.kernel == error.spec for launch in node.offer.launches)]
            if not culprits or config.lowering:
                raise
            for number, node in enumerate(graph.nodes):
                if node in culprits:
                    banned[number] = banned.get(number, frozenset()) | {node.lowering}
                    failed = node.lowering
                    offer_for(node, target, banned[number], DeviceCosts(target_session))
                    print(
                        f"clnn: {node.path} {node.op.name}: {failed} does not build on {target.name}, using {node.lowering}",
                        file=sys.stderr,
                        flush=True,
                    )
            continue
        if config.debug >= 1:
            print(plan.summary(), file=sys.stderr, flush=True)
        if config.debug >= 3:
            print(describe_lowerings(graph), file=sys.stderr, flush=True)
        return graph, executable


def open_session(device: str | Device | None) -> Session:
    """The session of the device that the user named."""
    return session(select_device(device))


# -- functions ----------------------------------------------------------------------------------------------------------


def evaluate(fn: Callable, *arrays: np.ndarray, device: str | Device | None = None, precision: str = "fp32"):
    """Run ``fn`` on the device: it is called with symbolic values of the arrays' shapes.

    Returns:
        The result as numpy array, or a tuple of them if ``fn`` returns several.
    """
    check_precision(precision)
    arrays = [as_input(array) for array in arrays]
    graph, results = trace(fn, [TensorSpec(a.shape, str(a.dtype)) for a in arrays])
    outputs = _run(graph, arrays, device, INFERENCE)
    return outputs[0] if len(results) == 1 else tuple(outputs)


def _run(graph: Graph, arrays: Sequence[np.ndarray], device: str | Device | None, passes: Sequence[Pass]) -> list[np.ndarray]:
    names = [value.name for value in graph.inputs]
    _, executable = build(graph, open_session(device), passes)
    for name, array in zip(names, arrays, strict=True):
        executable.write(name, array)
    executable.run()
    return [executable.read(value) for value in executable.plan.outputs]


def vjp(
    fn: Callable,
    *arrays: np.ndarray,
    cotangent: np.ndarray | None = None,
    device: str | Device | None = None,
    precision: str = "fp32",
) -> tuple[np.ndarray, tuple[np.ndarray | None, ...]]:
    """Output of ``fn`` and the gradients of ⟨cotangent, output⟩ in its arguments.

    Args:
        fn: takes symbolic values, returns one.
        cotangent: of the output's shape; ones by default.

    Returns:
        (output, gradients): one gradient per array, None for whole-number arrays.
    """
    check_precision(precision)
    arrays = [as_input(array) for array in arrays]
    graph, results = trace(fn, [TensorSpec(a.shape, str(a.dtype)) for a in arrays])
    if len(results) != 1:
        raise ArgumentError("the function must return one value", where="vjp", got=f"{len(results)} values")
    given = graph.input(results[0].spec, "cotangent")
    seed = np.ones(results[0].shape, np.float32) if cotangent is None else np.asarray(cotangent, np.float32)
    wanted = [value for value in graph.inputs[:-1] if value.dtype == "float32"]
    found = dict(zip(wanted, differentiate(graph, results, [given], wanted), strict=True))
    graph.outputs = [*results, *(g for g in found.values() if g is not None)]
    output, *gradients = _run(graph, [*arrays, seed], device, TRAINING)
    rest = iter(gradients)
    return output, tuple(
        (next(rest) if found[v] is not None else np.zeros(v.shape, np.float32)) if v in found else None for v in graph.inputs[:-1]
    )


# -- models -------------------------------------------------------------------------------------------------------------

LOSSES: dict[str, Callable] = {
    "cross_entropy": ops.cross_entropy,
    "mse": ops.mse_loss,
    "binary_cross_entropy_with_logits": ops.binary_cross_entropy_with_logits,
}


def loss_function(loss: str | Callable) -> Callable:
    """A loss by name, or a function (output, target) → scalar."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ArgumentError(
            "unknown loss", where="loss", got=loss, expected=", ".join(LOSSES), hint="or a function (output, target) -> scalar"
        )
    return LOSSES[loss]


def _named(model: Callable) -> None:
    """Give the parameters of a module their dotted paths as names."""
    if hasattr(model, "name_variables"):
        model.name_variables()


@without_collections()
def append_training(graph: Graph, loss: Value, parameters: Sequence[Variable], optimizer, rate: Value, step: Value) -> None:
    """Append gradients and updates of the parameters."""
    if loss.shape != ():
        raise ArgumentError("the loss must be one number", where="loss", got=loss.shape, hint="use reduction='mean'")
    values = [graph.variable(p) for p in parameters if p.trainable and id(p) in graph._variables]
    gradients = differentiate(graph, [loss], [graph.constant(1.0)], values)
    for value, gradient in zip(values, gradients, strict=True):
        if gradient is not None:
            optimizer.update(graph, value, gradient, rate, step)


def compile(
    model: Callable,
    input_spec,
    loss: str | Callable | None = None,
    optimizer=None,
    device: str | Device | None = None,
    precision: str = "fp32",
    freeze: bool = False,
) -> Step:
    """Compile a model for one input shape.

    Args:
        model: a module, or any function from a symbolic value to one.
        input_spec: shape of the input with the batch, e.g. (64, 1, 28, 28), or a TensorSpec.
        loss: a name or a function (output, target) → scalar; the step then takes (x, target) and returns (loss, output).
        freeze: without a loss, take the weights as constants: batch norms vanish into the layers before them, and later changes
            of the weights are
            not seen.
        optimizer: with it, run() also updates the parameters. Its learning rate may be a schedule of the step.

    Returns:
        A :class:`clnn.step.Step`: ``run(x)`` → output, or ``run(x, target)`` → (loss, output).
    """
    check_precision(precision)
    graph, passes, state = program(model, input_spec, loss, optimizer, freeze)
    final, executable = build(graph, open_session(device), passes)
    return Step(final, executable, state, optimizer)


def program(
    model: Callable, input_spec, loss: str | Callable | None = None, optimizer=None, freeze: bool = False
) -> tuple[Graph, Sequence[Pass], StepState]:
    """The graph of a model before all passes, the passes that it needs, and the counters that it reads; the arguments are those
    of :func:`compile`."""
    _named(model)
    if optimizer is not None and loss is None:
        raise ArgumentError("an optimizer needs a loss", where="compile")
    if freeze and loss is not None:
        raise ArgumentError("frozen weights cannot be trained", where="compile", hint="leave out the loss, or freeze")
    spec = input_spec if isinstance(input_spec, TensorSpec) else TensorSpec(tuple(input_spec))
    graph, state = Graph(), StepState()
    graph.random = (state.seed, state.step)
    x = graph.input(spec, "x")
    output = model(x)
    if loss is None:
        graph.outputs = [output]
        passes = FROZEN if freeze else INFERENCE
    else:
        target = graph.input(_target_spec(output, loss), "target")
        value = loss_function(loss)(output, target)
        if optimizer is not None:
            rate, step = graph.variable(state.rate), graph.variable(state.step)
            state.rate.array[...] = optimizer.lr_at(0)
            append_training(graph, value, [v.source for v in graph.variables], optimizer, rate, step)
        graph.outputs = [value, output]
        passes = TRAINING
    return graph, passes, state


def _target_spec(output: Value, loss: str | Callable) -> TensorSpec:
    """Class indices for cross-entropy, otherwise numbers of the output's shape."""
    if loss_function(loss) is ops.cross_entropy and len(output.shape) >= 2:
        return TensorSpec((output.shape[0], *output.shape[2:]), "int32")
    return TensorSpec(output.shape)
