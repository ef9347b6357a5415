"""What `import clnn` gives: every public name, each part imported when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import clnn


def told(code: str) -> str:
    """What another Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", clnn.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(clnn) and getattr(clnn, name) is getattr(clnn, name)


def test_parts_need_no_imports_of_their_own():
    code = "import clnn; print(clnn.nn.Linear.__name__, clnn.data.digits.__name__, clnn.optim.SGD.__name__)"
    assert told(code) == "Linear digits SGD"


def test_importing_clnn_imports_no_part():
    """Not even numpy; what a program does not use, it does not wait for."""
    code = "import sys, clnn; print([n for n in sys.modules if n.startswith('clnn.') or n in ('numpy', 'pyopencl')])"
    assert told(code) == "['clnn.version']"


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="'clnn' has no attribute 'conv9d'"):
        _ = clnn.conv9d
    with pytest.raises(ImportError):
        from clnn import conv9d  # noqa: F401
