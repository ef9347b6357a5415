"""Every exception a user of clnn can meet.

An error says four things: where it happened, what was got, what was expected, and what to do about it.
"""

from __future__ import annotations


class ClnnError(Exception):
    """Base of all errors raised by clnn.

    Args:
        what: one sentence that names the problem.
        where: the place: a layer path (``features.0``), an argument, a file.
        got: the offending value.
        expected: what would have been accepted.
        hint: what the user can do next.
    """

    def __init__(self, what: str, *, where: object = None, got: object = None,
                 expected: object = None, hint: str | None = None):
        self.what, self.where, self.got, self.expected, self.hint = what, where, got, expected, hint
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where not in (None, "") else self.what]
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.hint is not None:
            lines.append(f"  try:      {self.hint}")
        return "\n".join(lines)


class ShapeError(ClnnError):
    """A tensor's shape or rank does not fit an operator, a layer or a model."""


class DTypeError(ClnnError):
    """A tensor's element type does not fit."""


class ArgumentError(ClnnError):
    """An argument, an option or a configuration value is not acceptable."""


class DeviceError(ClnnError):
    """No OpenCL device, an unknown device, or a device that refused."""


class BuildError(ClnnError):
    """The OpenCL compiler refused a generated kernel."""


class DeviceMemoryError(DeviceError):
    """The device cannot hold what a plan needs."""


class DataError(ClnnError):
    """A data set or a batch holds something that cannot be trained on."""


class FileError(ClnnError):
    """A file is missing, truncated, malformed or unsafe."""


class DownloadError(FileError):
    """A download failed, or its checksum did not match."""


class NumericsError(ClnnError):
    """A value that must be finite is not, or a validated kernel disagrees with its reference."""


class LoweringError(ClnnError):
    """No kernel can be offered for an operator on this device."""


class InternalError(ClnnError):
    """A rule that clnn itself must keep was broken; a defect to report."""
