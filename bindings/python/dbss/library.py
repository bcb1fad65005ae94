"""Finds and loads the shared library, and declares its functions."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Callable

STATUS = object()
"""Marks the result type of a function that returns the status of its call."""


class Library:
    """The loaded library.

    Raises ImportError, which says where it looked, when the library cannot be used.

    Args:
        soname: the name of the library.
        min_version: the first version, as a number, that has all declared functions.
    """

    def __init__(self, soname: str, min_version: int) -> None:
        self._soname = soname
        if _interpreter_id() != 0:
            # ctypes runs callbacks in the main interpreter, and the first would wait for ever.
            raise ImportError("dbss cannot be used in a subinterpreter", name="dbss")
        self._min_version = min_version
        self.path, description = self._find()
        try:
            # Releases the GIL during a call, so that other threads run.
            self._releasing_gil = ctypes.CDLL(self.path)
        except OSError as error:
            raise self._import_error(
                f"cannot load {soname}: looked for it by {description}: {error}"
            ) from error
        self.raise_for_status: Callable[[int, tuple[object, ...]], None]
        """Raises the exception for a status; called with the arguments of the call too."""
        self.functions: dict[str, Any] = {}
        """The declared functions by their names in dbss.h."""
        # Holds the GIL during a call.
        self._holding_gil = ctypes.PyDLL(self.path, handle=self._releasing_gil._handle)
        try:
            version = self.declare_nonblocking("dbss_version_number", ctypes.c_uint32)()
        except ImportError:
            raise self._import_error(f"{self.path} is not libdbss") from None
        self.check_version(version)

    def _find(self) -> tuple[str, str]:
        """The path or name to load, and a description of where it came from."""
        configured = os.environ.get("DBSS_LIBRARY")
        bundled = os.path.join(os.path.dirname(__file__), self._soname)
        if configured:
            return os.path.abspath(configured), f"DBSS_LIBRARY={configured}"
        if os.path.exists(bundled):
            return bundled, bundled
        return (
            self._soname,
            f"DBSS_LIBRARY (not set), {bundled} (not there) and the system's loader",
        )

    def check_version(self, version: int) -> None:
        """Raises ImportError unless this version of the library can be used."""
        if version < self._min_version or version // 10000 != self._min_version // 10000:
            raise self._import_error(
                f"{self.path} is libdbss {_format_version(version)}; this package needs "
                f"{_format_version(self._min_version)} or a newer one of the same major version"
            )

    def declare_blocking(self, name: str, result: Any, *parameters: Any) -> Any:
        """Declares a function that may block; other threads run during its calls."""
        return self._declare(self._releasing_gil, name, result, parameters)

    def declare_nonblocking(self, name: str, result: Any, *parameters: Any) -> Any:
        """Declares a function that never blocks; its calls hold the GIL."""
        return self._declare(self._holding_gil, name, result, parameters)

    def _declare(
        self, library: ctypes.CDLL, name: str, result: Any, parameters: tuple[Any, ...]
    ) -> Any:
        try:
            function = getattr(library, name)
        except AttributeError:
            raise self._import_error(f"{self.path} has no function {name}") from None
        function.restype = ctypes.c_int32 if result is STATUS else result
        function.argtypes = parameters
        if result is STATUS:
            function.errcheck = self._check_status
        self.functions[name] = function
        return function

    def _check_status(self, status: int, function: object, arguments: tuple[object, ...]) -> None:
        """Called by ctypes on the calling thread, right after the C function."""
        try:
            if status != 0:
                self.raise_for_status(status, arguments)
        finally:
            # They may hold a token, which must not be visible in the traceback.
            del arguments

    def _import_error(self, message: str) -> ImportError:
        return ImportError(message, name=self._soname, path=self.path)


def _interpreter_id() -> int:
    """Which interpreter of this process runs this; 0 for the main one."""
    # Functions of its own: others may use those of pythonapi with other types.
    current = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyInterpreterState_Get", ctypes.pythonapi))
    id_of = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(
        ("PyInterpreterState_GetID", ctypes.pythonapi)
    )
    found: int = id_of(current())
    return found


def _format_version(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
