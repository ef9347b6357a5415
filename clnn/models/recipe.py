"""Models by name: every model remembers how it was built, and can be built again from that."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

from ..errors import ArgumentError
from ..nn import Module, seeded

#: name → (builder, the builder's options for a data set)
_MODELS: dict[str, tuple[Callable[..., Module], Callable[..., dict]]] = {}


def model(for_data: Callable[..., dict]) -> Callable:
    """Decorator of the functions that build models.

    The function gains ``seed`` (initial values from a generator of this seed instead of clnn.nn.manual_seed's), and the module
    that it returns gains a ``recipe``.

    Args:
        for_data: (classes, sample_shape, further options of its own) → the options that fit a data set.
    """
    def decorate(function: Callable[..., Module]) -> Callable[..., Module]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def build(*args, seed: int | None = None, **options) -> Module:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            with seeded(seed):
                made = function(*bound.args, **bound.kwargs)
            made.recipe = {"name": function.__name__, "options": {key: _plain(value) for key, value in bound.arguments.items()}}
            return made

        keyword = inspect.Parameter("seed", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="int | None")
        vars(build)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), keyword])
        _MODELS[function.__name__] = (build, for_data)
        return build
    return decorate


def _plain(value: object) -> object:
    """Tuples as lists, so that a recipe is equal to what JSON makes of it."""
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def names() -> list[str]:
    """The models that :func:`build` knows."""
    return sorted(_MODELS)


def _find(name: str) -> tuple[Callable[..., Module], Callable[..., dict]]:
    if name not in _MODELS:
        near = difflib.get_close_matches(str(name).lower(), _MODELS, 1, 0.5)
        raise ArgumentError("unknown model", where="models", got=repr(name), expected=", ".join(names()),
                            hint=f"did you mean {near[0]!r}?" if near else None)
    return _MODELS[name]


def _call(name: str, builder: Callable[..., Module], options: Mapping) -> Module:
    signature = inspect.signature(builder)
    unknown = sorted(set(options) - set(signature.parameters))
    if unknown:
        raise ArgumentError("the model does not take these options", where=f"models.{name}", got=", ".join(unknown),
                            expected=", ".join(signature.parameters))
    options = dict(options)
    several = [key for key, parameter in signature.parameters.items() if parameter.kind is parameter.VAR_POSITIONAL]
    positional = [item for key in several for item in options.pop(key, ())]
    return builder(*positional, **options)


def build(name: str, classes: int, sample_shape: Sequence[int], **options) -> Module:
    """The named model for ``classes`` classes of samples (C, H, W) or (F,).

    Args:
        options: the builder's own, and ``seed``; they win over what the data set suggests.

    Raises:
        ArgumentError: unknown name (the nearest is suggested) or option, or samples that the model cannot take.
    """
    builder, for_data = _find(name)
    own = {key: options.pop(key) for key in list(inspect.signature(for_data).parameters)[2:] if key in options}
    suggested = for_data(classes, tuple(sample_shape), **own)
    return _call(name, builder, suggested | options)


def from_recipe(recipe: Mapping) -> Module:
    """A model of the same structure as the one whose ``recipe`` this is; load its state afterwards."""
    if not isinstance(recipe, Mapping) or not {"name", "options"} <= set(recipe):
        raise ArgumentError("not a model's recipe", where="models.from_recipe", got=recipe,
                            expected='{"name": …, "options": {…}}',
                            hint="only models of clnn.models have recipes; build others yourself and load their state")
    return _call(recipe["name"], _find(recipe["name"])[0], recipe["options"])


def image_shape(name: str, sample_shape: Sequence[int]) -> dict:
    """``channels`` and ``size`` of square images (C, H, W)."""
    if len(sample_shape) != 3 or sample_shape[1] != sample_shape[2]:
        raise ArgumentError("the model takes square images", where=f"models.{name}", got=tuple(sample_shape),
                            expected="(C, H, H)", hint="crop or pad the images, or use mlp, which takes any samples")
    return {"channels": sample_shape[0], "size": sample_shape[1]}
