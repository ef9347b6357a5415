"""clnn as a contestant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

import clnn
from bench.cases import Case, training_outputs
from bench.side import Prepared, Unable
from clnn import models, ops, optim
from clnn.compiler import PRECISIONS, build, open_session
from clnn.errors import ClnnError
from clnn.ir import NHWC, Graph, Layout, TensorSpec, Value, Variable, blocked
from clnn.ops.step import StepState
from clnn.ops.tracing import apply
from clnn.passes import INFERENCE, choose_lowerings
from clnn.runtime import Device, Executable
from clnn.runtime.profiler import profile


def _convolution(p: dict) -> dict:
    return {"stride": (p["stride"],) * 2, "padding": (p["padding"],) * 4, "groups": p["groups"]}


#: kind → function of the case's parameters and its symbolic inputs, in their order
PROGRAMS: dict[str, Callable] = {
    "matmul": lambda p, a, b: apply(ops.Matmul(p["a"] == "T", p["b"] == "T"), a, b)[0],
    "fprop": lambda p, x, w: apply(ops.Conv2d(**_convolution(p)), x, w)[0],
    "dgrad": lambda p, dy, w: apply(ops.Conv2dDgrad(**_convolution(p), size=tuple(p["image"][2:])), dy, w)[0],
    "wgrad": lambda p, x, dy: apply(ops.Conv2dWgrad(**_convolution(p), window=(p["window"],) * 2), x, dy)[0],
    "scale": lambda p, x: ops.mul(x, 2.0),
    "add": lambda p, x, y: ops.add(x, y),
    "relu": lambda p, x: ops.relu(x),
    "bias_relu": lambda p, x, bias: ops.relu(ops.add(x, ops.reshape(bias, (-1, 1, 1)))),
    "batch_norm": lambda p, x, weight, bias: ops.batch_norm(x, None, None, weight, bias, training=True),
    "batch_norm_backward": lambda p, dy, x, weight, mean, var: apply(ops.BatchNormGrad(1e-5), dy, x, mean, var, weight),
    "max_pool": lambda p, x: ops.max_pool2d(x, 3, 2, 1),
    "softmax": lambda p, x: ops.softmax(x, 1),
    "sum_rows": lambda p, x: ops.sum(x, 1),
    "sum_channels": lambda p, x: ops.sum(x, (0, 2, 3)),
    "transpose": lambda p, x: ops.transpose(x, (1, 0)),
    "dropout": lambda p, x: ops.dropout(x, 0.5, True),
}


class Ours:
    """Prepares cases for one device. Filters are variables, as in a network; everything else is an input."""

    def __init__(self, device: Device):
        self.device, self.session = device, open_session(device)
        self._models: dict[tuple, object] = {}

    def about(self) -> dict:
        return {"clnn": clnn.__version__, "device": str(self.device)}

    def prepare(self, case: Case, variant: dict) -> Prepared:
        if variant["precision"] not in PRECISIONS:
            raise Unable(f"clnn has no {variant['precision']}")
        try:
            if case.kind in ("train", "infer"):
                return self._model(case, variant)
            return self._operator(case, variant["layout"])
        except ClnnError as error:
            raise Unable(" ".join(str(error).split())) from error

    def _clock(self, executables: Sequence[Executable]) -> Callable[[int], float] | None:
        """Seconds by OpenCL's event clock, without the gaps between launches."""
        if self.session.target.is_cpu:
            return None
        return lambda repeats: profile(executables[0], min(repeats, 20)).seconds

    # -- operators --------------------------------------------------------------------------------------------------

    def _operator(self, case: Case, layout: str) -> Prepared:
        executables = [self._compile(case, copy, layout) for copy in range(case.copies)]
        for executable in executables:
            executable.run()
        self.session.finish()
        turns = itertools.cycle(executables)
        first = executables[0]
        return Prepared(lambda: next(turns).run(), self.session.finish, lambda number: first.read(first.plan.outputs[number]),
                        self._clock(executables), lambda: first.plan.peak_bytes, _facts(first))

    def _compile(self, case: Case, copy: int, layout: str) -> Executable:
        arrays = dict(case.arrays(copy))
        if case.kind == "batch_norm_backward":
            mean, var = arrays["x"].mean((0, 2, 3)), arrays["x"].var((0, 2, 3))
            arrays = {"dy": arrays["dy"], "x": arrays["x"], "weight": arrays["weight"], "mean": mean, "var": var}
        graph, state = Graph(), StepState()
        graph.random = (state.seed, state.step)
        values = [graph.variable(Variable(array.copy(), name)) if name == "w" else graph.input(TensorSpec(array.shape), name)
                  for name, array in arrays.items()]
        result = PROGRAMS[case.kind](case.params, *values)
        graph.outputs = list(result) if isinstance(result, tuple) else [result]
        passes = INFERENCE
        if layout != "NCHW":        # as layers of a network find their images where it pays; inputs would be row-major otherwise
            passes = (choose_lowerings,)
            images = [*values, *(value for node in graph.nodes for value in node.outputs if case.kind != "wgrad")]
            for value in images:
                if value.kind != "variable":
                    value.spec = value.spec.with_layout(self._layout(layout, case, value))
        _, executable = build(graph, self.session, passes)
        for name, array in arrays.items():
            if name != "w":
                executable.write(name, array)
        return executable

    def _layout(self, layout: str, case: Case, value: Value) -> Layout:
        """How an image lies; one that cannot be cut into blocks has its channels innermost."""
        if layout == "NHWC":
            return NHWC
        if case.kind == "wgrad":
            raise Unable("there are no kernels for gradients of filters in blocks of channels")
        blocks = blocked(self.session.target.channel_block)
        if blocks.fits(value.shape):
            return blocks
        if value.kind == "input":
            return NHWC
        raise Unable("the channels of the result are no whole blocks")

    # -- models -----------------------------------------------------------------------------------------------------

    def _model(self, case: Case, variant: dict) -> Prepared:
        p, x = case.params, case.arrays()["x"]
        model = make_model(p["model"], p["options"])
        if case.kind == "infer":
            model.eval()
            step = clnn.compile(model, x.shape, device=self.device, precision=variant["precision"],
                                freeze=variant["mode"] == "frozen")
            found = [step.run(x)]
        else:
            model.train()
            step = clnn.compile(model, x.shape, loss="cross_entropy", optimizer=optim.SGD(lr=p["lr"], momentum=0.9),
                                device=self.device, precision=variant["precision"])
            target = np.load(p["target"]).astype(np.int32)
            steps = [step.run(x, target) for _ in range(3)]
            found = training_outputs([float(loss) for loss, _ in steps], steps[0][1])
        executable, session = step.executable, self.session
        facts = {**_facts(executable), **_work(executable), "arena_bytes": step.plan.arena_bytes,
                 "temporary_bytes": step.plan.temporary_bytes, "peak_bytes": step.plan.peak_bytes}
        return Prepared(executable.run, session.finish, found.__getitem__, self._clock([executable]),
                        lambda: step.plan.peak_bytes, facts)


def make_model(name: str, options: dict):
    """A model of clnn.models with reproducible initial values."""
    options = dict(options)
    return getattr(models, name)(*options.pop("sizes", ()), seed=0, **options)


def _facts(executable: Executable) -> dict:
    """What ran."""
    launches = executable.plan.launches
    names = dict.fromkeys(launch.node.lowering for launch in launches if getattr(launch.node, "lowering", None))
    return {"lowering": " + ".join(names), "launches": len(launches)}


def _work(executable: Executable) -> dict:
    """Flops and bytes of each launch, for the bound of a network."""
    return {"kernels": [[launch.flops, launch.bytes] for launch in executable.plan.launches]}
