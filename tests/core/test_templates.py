"""Every kernel template: its header, that some operator uses it, and that its text comes out whole and always the same."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from clnn.codegen.kernel import KernelSpec
from clnn.codegen.lowering import Offer
from clnn.codegen.template import declaration, render, template_names
from clnn.errors import LoweringError
from clnn.ops import OPERATORS
from clnn.target import GENERIC_CPU, GENERIC_GPU

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"cpu": GENERIC_CPU, "gpu": GENERIC_GPU}
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def offers(operator: type) -> Iterator[Offer]:
    """What the operator's lowerings offer for its samples, in every layout, on a CPU and a GPU, also with odd tunables."""
    for sample in operator.samples():
        outputs = sample.op.infer(*sample.inputs)
        for lowering in sample.op.lowerings:
            for given, made in lowering.layouts(sample.op, sample.inputs, outputs):
                specs = (*sample.inputs, *outputs)
                if not all(layout.fits(spec.shape) for layout, spec in zip((*given, *made), specs, strict=True)):
                    continue
                inputs = tuple(spec.with_layout(layout) for spec, layout in zip(sample.inputs, given, strict=True))
                results = tuple(spec.with_layout(layout) for spec, layout in zip(outputs, made, strict=True))
                for target in TARGETS.values():
                    try:
                        plain = lowering.offer(sample.op, inputs, results, target, forced=True)
                        yield plain
                        odd = {choice.name: choice.values[-1] for choice in plain.choices}
                        for launch in lowering.offer(sample.op, inputs, results, target, config=odd, forced=True).launches:
                            odd |= declaration(launch.kernel.template).odd()
                        yield lowering.offer(sample.op, inputs, results, target, config=odd, forced=True)
                    except LoweringError:
                        continue


@functools.cache
def kernels_of(operator: type) -> tuple[KernelSpec, ...]:
    """The distinct kernels of an operator's offers."""
    return tuple(dict.fromkeys(launch.kernel for offer in offers(operator) for launch in offer.launches))


@functools.cache
def kernels_by_template() -> dict[str, list[KernelSpec]]:
    found: dict[str, list[KernelSpec]] = {}
    for operator in OPERATORS:
        for spec in kernels_of(operator):
            found.setdefault(spec.template, []).append(spec)
    return found


@pytest.mark.parametrize("name", template_names())
def test_header_is_well_formed(name):
    kernel = declaration(name)
    assert kernel.summary.endswith(".") and not kernel.summary.endswith("..") and "\n" not in kernel.summary
    assert kernel.stores, "a kernel writes something"
    names = [*kernel.reads, *kernel.stores]
    assert all(IDENTIFIER.fullmatch(n) for n in names) and len(set(names)) == len(names)
    for constant, meaning in kernel.problem.items():
        assert IDENTIFIER.fullmatch(constant) and meaning.strip(), f"{constant} is not explained"
    assert len({t.name for t in kernel.tunables}) == len(kernel.tunables)
    assert not {t.name for t in kernel.tunables} & set(kernel.problem)
    for store, read in kernel.in_place:
        assert store in kernel.stores and read in kernel.reads
    for constraint in kernel.constraints:
        assert constraint.reason and not constraint.reason.endswith("."), "the reason of a refusal is a clause, not a sentence"


@pytest.mark.parametrize(("name", "tunable"), [(name, t) for name in template_names() for t in declaration(name).tunables],
                         ids=lambda value: getattr(value, "name", value))
def test_tunable_is_well_formed(name, tunable):
    assert tunable.name.isupper() and tunable.help
    assert tunable.default in tunable.values and len(set(tunable.values)) == len(tunable.values)
    assert all(type(value) is type(tunable.default) for value in (*tunable.values, tunable.odd))
    if tunable.odd == tunable.default:
        # only where the other odd values leave no choice
        kernel = declaration(name)
        for value in set(tunable.values) - {tunable.odd}:
            config = SimpleNamespace(**kernel.odd() | {tunable.name: value})
            refused = [kernel.refuse(spec.p, config, GENERIC_GPU) for spec in kernels_by_template()[name]]
            assert all(refused), f"{value} would be odd too"


@pytest.mark.parametrize("name", template_names())
def test_some_operator_uses_the_template(name):
    assert name in kernels_by_template(), "no sample of any operator leads to this template on a CPU or a GPU"


@pytest.mark.parametrize("name", template_names())
def test_declaration_holds_for_every_kernel(name):
    kernel = declaration(name)
    tunables = {t.name for t in kernel.tunables}
    for spec in kernels_by_template()[name]:
        assert set(dict(spec.problem)) == set(kernel.problem) and set(dict(spec.config)) == tunables
        local, everything = spec.local_size, spec.global_size
        assert len(local) <= len(everything) <= 3 and all(n > 0 for n in (*local, *everything))
        whole = all(total % part == 0 for total, part in zip(everything, local, strict=False))
        assert whole, f"{spec.label}: {everything} items in groups of {local}"
        assert kernel.local_bytes(spec.p, spec.t) >= 0


@pytest.mark.parametrize("name", [name for name in template_names() if declaration(name).tunables])
def test_odd_tunables_run_somewhere(name):
    odd = declaration(name).odd()
    run = any(dict(spec.config) == odd for spec in kernels_by_template()[name])
    assert run, "the odd values break the template's own constraints"


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.__name__)
def test_text_comes_out_whole(operator):
    for spec in kernels_of(operator):
        name, text = render(spec)
        assert name.startswith(spec.template.replace("/", "_") + "_") and f"void {name}(" in text
        assert text.count("__kernel") == 1, spec.label
        for mark in ("${", "<%", "%>", "</%", "##", "UNDEFINED", "index_t", "None", "inff", "nanf", "SimpleNamespace"):
            assert mark not in text, f"{spec.label}: {mark} is left in\n{text}"
        assert not re.search(r"^\s*%", text, re.MULTILINE), f"{spec.label}: a line of Mako is left in\n{text}"
        bare = re.sub(r"//.*", "", text)
        for opening, closing in ("()", "[]", "{}"):
            assert bare.count(opening) == bare.count(closing), f"{spec.label}: unbalanced {opening}{closing}\n{text}"
        local = (*spec.local_size, 1, 1)[:3]
        assert f"reqd_work_group_size({', '.join(map(str, local))})" in text


@pytest.mark.parametrize("name", template_names())
def test_local_memory_is_declared(name):
    """The header's count of local memory is not less than what the text declares."""
    for spec in kernels_by_template()[name]:
        declared = 0
        for kind, rest in re.findall(r"__local (float|int|uint)\d* ((?:\w+\[\d+\][^;,]*,?\s*)+);", render(spec)[1]):
            declared += {"float": 4, "int": 4, "uint": 4}[kind] * sum(int(n) for n in re.findall(r"\[(\d+)\]", rest))
        assert declared <= declaration(name).local_bytes(spec.p, spec.t), f"{spec.label} declares {declared} bytes"


@pytest.mark.parametrize("name", template_names())
def test_rendering_again_gives_the_same_text(name):
    for spec in kernels_by_template()[name][:3]:
        assert render.__wrapped__(spec) == render(spec)


def test_text_does_not_depend_on_the_order_of_hashes():
    """Names carry digests of the texts, and compilers keep programs by them: another process must find the same."""
    code = ("import sys; sys.path[:0] = sys.argv[1:]\n"
            "from test_templates import kernels_of, render\n"
            "from clnn import ops\n"
            "chosen = (ops.Map, ops.Conv2d, ops.BatchNorm, ops.SoftmaxCrossEntropy)\n"
            "print(*(render(spec)[0] for op in chosen for spec in kernels_of(op)))")
    command = [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent)]
    found = {subprocess.run(command, capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")}
    assert len(found) == 1 and found.pop().strip()
