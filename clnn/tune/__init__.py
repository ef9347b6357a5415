"""Finding the fastest way to run each operator on a device, remembering it, and using what is remembered.

space: the candidates of a problem · search: in which order to try them · measure: build, check, time · store: results on disk ·
lookup: what is known · chooser: puts it into a graph · estimate: what to expect where nothing is measured ·
costs: both, as passes ask for them · jobs: many problems within one budget.
"""

from .chooser import apply_choices
from .costs import DeviceCosts

__all__ = ["DeviceCosts", "apply_choices"]
