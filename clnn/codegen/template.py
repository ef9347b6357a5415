"""Finding, reading and rendering kernel templates."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LoweringError
from .header import Kernel
from .store import C_TYPES

if TYPE_CHECKING:
    from .kernel import KernelSpec
    from .templates import Templates

#: what stands for a kernel's name until its text is known
NAME = "NAME"
#: arrays in local memory begin where a line of the cache does
ALIGNED = "__attribute__((aligned(64)))"
#: some CPU runtimes crash where functions of kernels are left to their compiler, that is, to its estimate of what inlining costs
INLINED = "__attribute__((always_inline))"


@functools.cache
def folder() -> Path:
    """The folder of the templates: the package ``clnn.kernels``, or ``kernels/`` beside the package in a plain checkout."""
    try:
        return Path(str(importlib.resources.files("clnn.kernels")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[2] / "kernels"


@functools.cache
def _templates() -> Templates:
    from .templates import Templates  # not above: Mako takes a fifth of the import of clnn, which renders nothing yet

    return Templates(folder())


def template_names() -> list[str]:
    """The ids of all templates, e.g. ``gemm/tiled``."""
    return sorted(str(path.relative_to(folder()).with_suffix("")) for path in folder().rglob("*.cl"))


@functools.cache
def _load(name: str):
    from mako.exceptions import TopLevelLookupException

    try:
        return _templates().get_template(f"/{name}.cl")
    except TopLevelLookupException as error:
        raise LoweringError("there is no such kernel template", got=name, expected=template_names()) from error


@functools.cache
def declaration(name: str) -> Kernel:
    """What the template declares about itself."""
    return _load(name).module.KERNEL


@functools.cache
def render(spec: KernelSpec) -> tuple[str, str]:
    """The name and the OpenCL C text of a kernel. The name carries a digest of the text."""
    size = ", ".join(map(str, (*spec.local_size, 1, 1)[:3]))
    head = f"__kernel __attribute__((reqd_work_group_size({size})))\nvoid {NAME}({', '.join(parameters(spec))})"
    return named(spec.template, _body(spec, head, lambda kind, name, count: f"__local {kind} {name}[{count}] {ALIGNED};"))


def render_function(spec: KernelSpec, more: str, local: Callable[[str, str, int], str]) -> str:
    """The text of a kernel as a function, not named yet, that takes ``more`` behind the kernel's parameters, and that is called
    for each work-group, which is one item. ``local`` gives the C text by which an array (type, name, elements) in local memory
    becomes known."""
    given = ", ".join([*parameters(spec), more])
    return _body(spec, f"static inline {INLINED} void {NAME}({given})", local, alone=False)


def parameters(spec: KernelSpec) -> list[str]:
    """The declarations of a kernel's parameters."""
    overwritten = {read for _, read in declaration(spec.template).in_place}
    declared = [f"__global const {C_TYPES[dtype]}* {'' if name in overwritten else 'restrict '}{name}"
                for name, dtype in spec.reads]
    return [*declared, *(text for name, store in spec.stores for text in store.parameters(name))]


def named(what: str, text: str) -> tuple[str, str]:
    """A name with a digest of the text, and the text with it."""
    name = f"{what.replace('/', '_')}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    return name, text.replace(f"void {NAME}(", f"void {name}(")


def _body(spec: KernelSpec, head: str, local: Callable[[str, str, int], str], alone: bool = True) -> str:
    """The text of a kernel with that head. ``alone``, work-groups that there are fewer of than pieces of work draw these."""
    stores = dict(spec.stores)

    def store_hook(name: str, index: str, value: str, row: str | None = None) -> str:
        return stores[name].statements(name, index, value, row)

    def vector_store_hook(name: str, index: str, values: Sequence[str]) -> str:
        return stores[name].vector_statements(name, index, values)

    def run_store_hook(name: str, index: str, value: str, lanes: int, run: int) -> str | None:
        return stores[name].run_statements(name, index, value, lanes, run)

    body = _load(spec.template).render_unicode(
        p=spec.p,
        t=spec.t,
        signature=head,
        store=store_hook,
        store_vector=vector_store_hook,
        store_run=run_store_hook,
        needed_ahead=lambda name, index: stores[name].needed_ahead(name, index),
        has=lambda name: name in stores or name in dict(spec.reads),
        c_types=C_TYPES,
        dtypes=dict(spec.reads),
        local_size=(*spec.local_size, 1, 1)[:3],
        local_array=local,
        alone=alone,
    )
    if "clnn_uniform(" in body and "define CLNN_PHILOX" not in body:  # any store may draw random numbers
        body = _templates().get_template("/lib/philox.mako").get_def("functions").render_unicode() + body
    text = "\n".join(line.rstrip() for line in body.splitlines() if line.strip())
    return text.replace("index_t", "long" if spec.wide else "int")
