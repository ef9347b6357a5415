"""Devices, programs, buffers and bound executables. The only importer of pyopencl."""

from .devices import Device, devices, select_device
from .executable import Executable
from .session import Session, session

__all__ = ["Device", "Executable", "Session", "devices", "select_device", "session"]
