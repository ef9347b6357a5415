"""The base class of layers and models: registration, calling, walking, state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from ..errors import ArgumentError, ClnnError
from ..ir import Graph, Value, Variable
from .parameter import Parameter
from .state import LoadResult, load_state


class Module:
    """A layer or a model, as torch.nn.Module. Parameters and modules assigned to attributes are registered by name.

    A subclass defines ``forward`` on symbolic values. Calling the module runs it inside a scope with the module's name, so that
    errors, plans and profiles carry paths such as ``features.0``.
    """

    #: how :mod:`clnn.models` built this module, JSON-able; None for others
    recipe: dict | None = None

    def __init__(self) -> None:
        put = super().__setattr__
        put("_parameters", {})
        put("_buffers", {})
        put("_transient", set())
        put("_modules", {})
        put("_scope", "")
        put("training", True)

    # -- registration -----------------------------------------------------------------------------------------------

    def _registry(self, name: str) -> dict | None:
        """The dict that holds the name."""
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(kind, ()):
                return self.__dict__[kind]
        return None

    def _register(self, kind: str, name: str, value: object) -> None:
        where = type(self).__name__
        if "_modules" not in self.__dict__:
            raise ArgumentError("attributes cannot be set before Module.__init__() has run", where=where, got=name,
                                hint="call super().__init__() first in __init__")
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError("not a name for a parameter, buffer or module", where=where, got=repr(name),
                                expected="a text without dots, not empty")
        present = self._registry(name)
        if (present is not None and present is not self.__dict__[kind]) or (present is None and hasattr(type(self), name)):
            raise ArgumentError("the name is taken", where=where, got=name, hint="choose another name")
        self.__dict__.pop(name, None)
        self.__dict__[kind][name] = value

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Same as assigning it to an attribute; None keeps the name without a parameter."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise ArgumentError("not a parameter", where=f"{type(self).__name__}.{name}", got=type(parameter).__name__,
                                hint="wrap the array: clnn.nn.Parameter(array)")
        self._register("_parameters", name, parameter)

    def register_buffer(self, name: str, array: np.ndarray | Variable | None, persistent: bool = True) -> None:
        """State that is not trained, such as running statistics. Only persistent buffers are part of the state."""
        if array is not None and not isinstance(array, Variable):
            array = Variable(np.array(array), trainable=False)
        self._register("_buffers", name, array)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Same as assigning it to an attribute, for names that are not identifiers."""
        if module is not None and not isinstance(module, Module):
            raise ArgumentError("not a module", where=f"{type(self).__name__}.{name}", got=type(module).__name__,
                                hint="a function becomes a module by a subclass whose forward calls it")
        self._register("_modules", name, module)
        if module is not None:
            module._set_scope(name)

    def _set_scope(self, name: str) -> None:
        self.__dict__["_scope"] = name

    def __setattr__(self, name: str, value: object) -> None:
        present = self._registry(name)
        if isinstance(value, Parameter) or (value is None and present is self.__dict__.get("_parameters", 0)):
            self.register_parameter(name, value)
        elif isinstance(value, Module) or (value is None and present is self.__dict__.get("_modules", 0)):
            self.add_module(name, value)
        elif present is None:
            super().__setattr__(name, value)
        elif present is self._buffers and (value is None or isinstance(value, Variable)):
            present[name] = value
        else:
            raise ArgumentError("the attribute is registered and cannot hold this", where=f"{type(self).__name__}.{name}",
                                got=type(value).__name__, hint=f"write into {name}.array instead, or use load_state_dict")

    def __getattr__(self, name: str):
        for kind in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(kind, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        present = self._registry(name)
        if present is None:
            super().__delattr__(name)
        else:
            del present[name]

    # -- calling ----------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The computation; subclasses define it."""
        raise ArgumentError("the module defines no forward", hint="define forward(self, x), or call the modules that it holds")

    def __call__(self, *inputs, **options):
        """``forward`` inside this module's scope.

        Raises:
            ArgumentError: for arrays; modules take symbolic values, and :func:`clnn.evaluate` makes them.
        """
        graph = self._graph_of(inputs + tuple(options.values()))
        with graph.scope(self._scope):
            try:
                return self.forward(*inputs, **options)
            except ClnnError as error:
                _locate(error, graph.path, type(self).__name__)
                raise

    def _graph_of(self, inputs: tuple) -> Graph:
        for value in inputs:
            if isinstance(value, Value):
                return value.graph
        array = next((value for value in inputs if hasattr(value, "__array__")), None)
        if array is not None:
            raise ArgumentError("a module takes symbolic values, not arrays", where=type(self).__name__,
                                got=f"{type(array).__name__} of shape {np.shape(array)}", hint="clnn.evaluate(model, x)")
        raise ArgumentError("a module needs at least one symbolic value", where=type(self).__name__,
                            got=[type(value).__name__ for value in inputs],
                            hint="call it inside a function given to clnn.evaluate, clnn.vjp or clnn.compile")

    # -- walking ----------------------------------------------------------------------------------------------------

    def children(self) -> Iterator[Module]:
        """The modules held directly."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Names and modules held directly, each module once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._walk(f"{prefix}.{name}" if prefix else name)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Paths and modules, this one (path "") first, each module once."""
        seen: set[Module] = set()
        for path, module in self._walk():
            if module not in seen:
                seen.add(module)
                yield path, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _named(self, kind: str, once: bool = True, persistent: bool = False) -> Iterator[tuple[str, Variable]]:
        seen: set[Variable] = set()
        for path, module in self._walk():
            for name, variable in module.__dict__[kind].items():
                if variable is None or (once and variable in seen) or (persistent and name in module._transient):
                    continue
                seen.add(variable)
                yield f"{path}.{name}" if path else name, variable

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Paths and parameters, each parameter once."""
        return cast("Iterator[tuple[str, Parameter]]", self._named("_parameters"))

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Variable]]:
        """Paths and buffers, each buffer once."""
        return self._named("_buffers")

    def buffers(self) -> Iterator[Variable]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def name_variables(self) -> None:
        """Give every parameter and buffer its dotted path as ``name``, for messages, plans and checkpoints."""
        for name, variable in (*self.named_parameters(), *self.named_buffers()):
            variable.name = name

    def apply(self, function: Callable[[Module], object]) -> Module:
        """Call ``function`` on every module below and then on this one, for example to initialise."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    # -- modes and state --------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Set what dropout and batch normalisation do in graphs traced from now on."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters."""
        for parameter in self.parameters():
            parameter.trainable = bool(requires_grad)
        return self

    def state_variables(self) -> dict[str, Variable]:
        """The variables of the state by name, module by module, parameters before buffers, as torch orders them."""
        found: dict[str, Variable] = {}
        for path, module in self._walk():
            own = {**module._parameters, **{name: b for name, b in module._buffers.items() if name not in module._transient}}
            found.update({f"{path}.{name}" if path else name: v for name, v in own.items() if v is not None})
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and persistent buffers under torch's names."""
        return {name: variable.array.copy() for name, variable in self.state_variables().items()}

    def load_state_dict(self, state: Mapping[str, object], strict: bool = True) -> LoadResult:
        """Take over arrays by name; torch's state_dict works as it is. All or nothing.

        Raises:
            ArgumentError: lists the missing, unexpected and wrong-shaped entries at once.
        """
        return load_state(type(self).__name__, self.state_variables(), state, strict)

    # -- text -------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses; layers give their arguments."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}(", *([extra] if extra else []), *lines]) + "\n)"


def _locate(error: ClnnError, path: str, kind: str) -> None:
    """Put the layer path before the place that an error names; the innermost module wins."""
    if "layer" in error.__dict__:
        return
    error.__dict__["layer"] = place = f"{path} ({kind})" if path else kind
    error.where = place if error.where in (None, "", path) else f"{place}: {error.where}"
    error.args = (error._text(),)
