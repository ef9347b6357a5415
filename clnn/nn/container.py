"""Modules that hold modules: Sequential and ModuleList."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..errors import ArgumentError
from ..ir import Value
from .checks import is_whole
from .module import Module


class _Listed(Module):
    """What Sequential and ModuleList share: children in order, named by position."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def _key(self, index: int) -> str:
        if not is_whole(index):
            raise ArgumentError("modules are indexed by whole numbers", where=type(self).__name__, got=repr(index))
        if not -len(self) <= index < len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} modules, index {index} is out of range")
        return list(self._modules)[index]

    def __getitem__(self, index: int | slice):
        if not isinstance(index, slice):
            return self._modules[self._key(index)]
        part = type(self)()
        for name, module in list(self._modules.items())[index]:
            part.add_module(name, module)
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._key(index), module)

    def append(self, module: Module):
        """Add a module at the end; returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]):
        """Add several modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self


class Sequential(_Listed):
    """Modules one after the other.

    Args:
        modules: the modules, named 0, 1, …; or one mapping from names to modules.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        mapping = modules[0] if len(modules) == 1 else None
        named: Iterable = mapping.items() if isinstance(mapping, Mapping) else enumerate(modules)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, x: Value) -> Value:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Listed):
    """A list of registered modules; its owner calls them."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def add_module(self, name: str, module: Module | None) -> None:
        super().add_module(name, module)
        self._set_scope(self._scope)

    def _set_scope(self, name: str) -> None:
        """A list is never called, so its children carry its name."""
        super()._set_scope(name)
        for key, module in self._modules.items():
            if module is not None:
                module._set_scope(f"{name}.{key}" if name else key)
