"""PyTorch on CUDA (cuDNN, cuBLAS) or on the CPU (oneDNN, MKL)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from bench.cases import Case, training_outputs
from bench.side import Prepared, Unable

try:
    import torch
    import torch.nn.functional as functional
except ImportError as error:
    raise Unable(f"PyTorch cannot be imported: {error}") from error

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PyTorch:
    """Prepares cases; ``variant`` has precision, layout (NCHW or channels_last) and mode (eager, graph or compile)."""

    def __init__(self, kind: str):
        if kind == "cuda" and not torch.cuda.is_available():
            raise Unable(f"PyTorch {torch.__version__} sees no CUDA device")
        self.device = torch.device(kind)
        torch.backends.cudnn.benchmark = True

    def about(self) -> dict:
        found = {"torch": torch.__version__}
        if self.device.type == "cuda":
            return {**found, "device": torch.cuda.get_device_name(), "cuda": torch.version.cuda,
                    "cudnn": torch.backends.cudnn.version()}
        return {**found, "threads": torch.get_num_threads(), "mkldnn": torch.backends.mkldnn.is_available()}

    def collect(self) -> None:
        """Give the memory of finished cases back to the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.compiler.reset()
            torch.cuda.empty_cache()

    def _sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _precision(self, precision: str) -> None:
        """Convolutions use TF32 unless told otherwise, matrix products do not: say it for both."""
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"

    def _events(self, run: Callable[[], object]) -> Callable[[int], float] | None:
        """Seconds per run by CUDA events."""
        if self.device.type != "cuda":
            return None

        def clock(repeats: int) -> float:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            run()
            start.record()
            for _ in range(repeats):
                run()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / repeats / 1e3
        return clock

    def prepare(self, case: Case, variant: dict) -> Prepared:
        if variant["precision"] != "fp32" and self.device.type != "cuda":
            raise Unable("PyTorch on the CPU takes part in fp32 only")
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        prepared = self._model(case, variant) if case.kind in ("train", "infer") else self._operator(case, variant)
        run, precision = prepared.run, variant["precision"]
        inner = prepared.device_seconds

        def set_and_sync() -> None:     # the flags are global, so they are set again before each turn
            self._precision(precision)
            self._sync()
        if self.device.type == "cuda":
            prepared.peak_bytes = torch.cuda.max_memory_allocated
        return Prepared(run, set_and_sync, prepared.output, inner, prepared.peak_bytes)

    # -- operators --------------------------------------------------------------------------------------------------

    def _tensors(self, case: Case, variant: dict, copy: int) -> dict[str, torch.Tensor]:
        layout = torch.channels_last if variant["layout"] == "channels_last" else torch.contiguous_format
        found = {}
        for name, array in case.arrays(copy).items():
            tensor = torch.from_numpy(array).to(self.device, DTYPES[variant["precision"]], copy=True)
            found[name] = tensor.contiguous(memory_format=layout) if tensor.dim() == 4 else tensor
        return found

    def _operator(self, case: Case, variant: dict) -> Prepared:
        self._precision(variant["precision"])
        sets = [self._tensors(case, variant, copy) for copy in range(case.copies)]
        make = OPERATORS.get(case.kind)
        if make is None:
            raise Unable(f"{case.kind} is not written for PyTorch")
        calls = [make(case.params, **tensors) for tensors in sets]
        if variant["mode"] == "compile":
            calls = [torch.compile(call) for call in calls]
        grad = torch.enable_grad if case.kind == "batch_norm_backward" else torch.no_grad
        with grad():
            result = calls[0]()
            for call in calls[1:]:
                call()
        turns = itertools.cycle(calls)

        def run():
            with grad():
                return next(turns)()

        def output(number: int) -> np.ndarray:
            found = result[number] if isinstance(result, tuple) else result
            return found.detach().to("cpu", torch.float32).contiguous().numpy()
        return Prepared(run, self._sync, output, self._events(run))

    # -- models -----------------------------------------------------------------------------------------------------

    def _model(self, case: Case, variant: dict) -> Prepared:
        from bench.opponents.pytorch_models import build
        precision, layout = variant["precision"], variant["layout"]
        self._precision(precision)
        if layout == "channels_last" and len(case.inputs["x"]) != 4:
            raise Unable("there is nothing to lay out")
        if layout == "channels_last" and case.inputs["x"][1] == 1:
            raise Unable("with one channel both layouts are the same")
        if variant["mode"] == "graph" and precision == "fp16" and case.kind == "train":
            raise Unable("loss scaling is not captured in a CUDA graph here")
        model = build(case.params["model"], case.params["options"])
        with np.load(case.params["state"]) as state:
            model.load_state_dict({name: torch.from_numpy(np.array(state[name])) for name in state.files})
        format_ = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        model = model.to(self.device, memory_format=format_)
        x = torch.from_numpy(case.arrays()["x"]).to(self.device)
        x = x.contiguous(memory_format=format_) if x.dim() == 4 else x
        if case.kind == "infer":
            return self._inference(model, x, variant)
        return self._training(model, x, case, variant)

    def _cast(self, precision: str):
        return torch.autocast(self.device.type, DTYPES[precision], enabled=precision in ("fp16", "bf16"))

    def _graphed(self, run: Callable[[], object]) -> Callable[[], object]:
        """Replays what ``run`` does. A graph does not own what was there before it was captured (parameters, inputs, the
        optimizer's state), so it keeps ``run``, which does."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            kept = run()

        def replay(owner=(run, kept, stream)):
            graph.replay()
        return replay

    def _inference(self, model, x: torch.Tensor, variant: dict) -> Prepared:
        model.eval()
        called = torch.compile(model) if variant["mode"] == "compile" else model

        def run():
            with torch.inference_mode(), self._cast(variant["precision"]):
                return called(x)
        first = run().float().cpu().numpy()
        if variant["mode"] == "graph":
            run = self._graphed(run)
        return Prepared(run, self._sync, lambda number: first, self._events(run))

    def _training(self, model, x: torch.Tensor, case: Case, variant: dict) -> Prepared:
        target = torch.from_numpy(np.load(case.params["target"])).to(self.device)
        model.train()
        called = torch.compile(model) if variant["mode"] == "compile" else model
        optimizer = torch.optim.SGD(model.parameters(), case.params["lr"], momentum=0.9, fused=True)
        scaler = torch.amp.GradScaler(self.device.type, init_scale=1024.0, enabled=variant["precision"] == "fp16")

        def run():
            optimizer.zero_grad(set_to_none=variant["mode"] != "graph")
            with self._cast(variant["precision"]):
                scores = called(x)
                loss = functional.cross_entropy(scores.float(), target)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss, scores
        steps = [run() for _ in range(3)]
        found = training_outputs([loss.item() for loss, _ in steps], steps[0][1].detach().float().cpu().numpy())
        del steps
        if variant["mode"] == "graph":
            run = self._graphed(run)
        return Prepared(run, self._sync, found.__getitem__, self._events(run))


# -- the operators of bench.suites.memory, gemm and layers ------------------------------------------------------------------

def _matmul(p, a, b):
    a, b = a.t() if p["a"] == "T" else a, b.t() if p["b"] == "T" else b
    return lambda: torch.mm(a, b)


def _fprop(p, x, w):
    return lambda: functional.conv2d(x, w, None, p["stride"], p["padding"], 1, p["groups"])


def _backward(p, dy, x, w, wanted):
    number = wanted.index(True)
    pair = [p["stride"]] * 2, [p["padding"]] * 2
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, *pair, [1, 1], False, [0, 0], p["groups"], wanted)[number]


def _dgrad(p, dy, w):
    x = torch.empty(p["image"], dtype=dy.dtype, device=dy.device)
    if dy.is_contiguous(memory_format=torch.channels_last) and not dy.is_contiguous():
        x = x.contiguous(memory_format=torch.channels_last)
    return _backward(p, dy, x, w, [True, False, False])


def _wgrad(p, x, dy):
    w = torch.empty((p["made"], p["channels"] // p["groups"], p["window"], p["window"]), dtype=x.dtype, device=x.device)
    return _backward(p, dy, x, w, [False, True, False])


def _batch_norm_backward(p, dy, x, weight, bias):
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    y = functional.batch_norm(x, None, None, weight, bias, True)
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)


OPERATORS: dict[str, Callable] = {
    "matmul": _matmul, "fprop": _fprop, "dgrad": _dgrad, "wgrad": _wgrad,
    "scale": lambda p, x: lambda: x * 2.0,
    "add": lambda p, x, y: lambda: x + y,
    "relu": lambda p, x: lambda: functional.relu(x),
    "bias_relu": lambda p, x, bias: lambda: functional.relu(x + bias.view(-1, 1, 1)),
    "batch_norm": lambda p, x, weight, bias: lambda: functional.batch_norm(x, None, None, weight, bias, True),
    "batch_norm_backward": _batch_norm_backward,
    "max_pool": lambda p, x: lambda: functional.max_pool2d(x, 3, 2, 1),
    "softmax": lambda p, x: lambda: torch.softmax(x, 1),
    "sum_rows": lambda p, x: lambda: x.sum(1),
    "sum_channels": lambda p, x: lambda: x.sum((0, 2, 3)),
    "transpose": lambda p, x: lambda: x.t().contiguous(),
    "dropout": lambda p, x: lambda: functional.dropout(x, 0.5, True),
}
