"""The templates of a folder, with what Mako makes of them kept in the cache folder: parsing them anew takes half a second of
every start.

Mako makes Python modules. A module is kept under a digest of all that decides what is in it, so that a changed template, or
another Mako, finds nothing and makes a file of its own; Python keeps its byte code beside it. The file ends with a digest of the
rest, so that a damaged one is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import mako
from mako.exceptions import TopLevelLookupException
from mako.lookup import TemplateCollection
from mako.template import ModuleTemplate, Template

from ..config import config
from ..files import replacing

#: what stands between a module and its digest
SEAL = b"\n# sha256 "


class Templates(TemplateCollection):
    """Finds templates by their place in a folder, ``/gemm/packed.cl``; reads each once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._known: dict[str, Template] = {}

    def get_template(self, uri: str, relativeto: str | None = None) -> Template:
        """The template of this name; names in templates, too, count from the folder, and not from ``relativeto``.

        Raises:
            TopLevelLookupException: if there is none.
        """
        if uri not in self._known:
            self._known[uri] = self._load(uri)
        return self._known[uri]

    def _load(self, uri: str) -> Template:
        path = self._folder / uri.lstrip("/")
        try:
            text = path.read_bytes()
        except FileNotFoundError as error:
            raise TopLevelLookupException(f"there is no template {path}") from error
        facts = repr((str(path), uri, mako.__version__)).encode()        # a module names the template that it was made of
        kept = config.cache / "templates" / f"{path.stem}_{hashlib.sha256(facts + text).hexdigest()[:32]}.py"
        if (module := _imported(kept)) is None:
            made = Template(text=text.decode(), uri=uri, filename=str(path), lookup=self, strict_undefined=True)
            _keep(kept, made.code.encode())
            if (module := _imported(kept)) is None:
                return made
        return ModuleTemplate(module, template_filename=str(path), lookup=self)


def _imported(path: Path) -> ModuleType | None:
    """The module in a file, or None if there is no such file, or it is not as it was written."""
    try:
        source, _, digest = path.read_bytes().rpartition(SEAL)
        if digest != _digest(source):
            return None
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except OSError:
        return None
    except (EOFError, TypeError, ValueError):       # from byte code that is damaged
        with contextlib.suppress(OSError):
            os.unlink(importlib.util.cache_from_source(path))
        return None


def _keep(path: Path, source: bytes) -> None:
    """Put a module into a file. Where nothing can be written, the next process parses again."""
    with contextlib.suppress(OSError), replacing(path, "wb") as file:
        file.write(source + SEAL + _digest(source))


def _digest(source: bytes) -> bytes:
    return hashlib.sha256(source).hexdigest().encode()
