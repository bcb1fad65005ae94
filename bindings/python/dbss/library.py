"""Where the shared library is found, and what it is called through."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Callable

STATUS = object()
"""The result of a function that returns the status of its call."""


class Library:
    """The loaded library; ImportError says where it was looked for.

    Args:
        soname: the name of the library.
        oldest: the oldest version, as a number, that has all that is declared.
    """

    def __init__(self, soname: str, oldest: int) -> None:
        self._soname = soname
        self._oldest = oldest
        self.place, described = self._find()
        try:
            # Other threads of Python run while a call lasts.
            self._calls = ctypes.CDLL(self.place)
        except OSError as error:
            raise self._unusable(
                f"cannot load {soname}: looked for it by {described}: {error}"
            ) from error
        self.fail: Callable[[int, tuple[object, ...]], None]
        """Raises for a status that a function has returned, which had these arguments."""
        self.functions: dict[str, Any] = {}
        """What was declared, by its name in dbss.h."""
        # Other threads of Python wait.
        self._held = ctypes.PyDLL(self.place, handle=self._calls._handle)
        try:
            version = self.hold("dbss_version_number", ctypes.c_uint32)()
        except ImportError:
            raise self._unusable(f"{self.place} is not libdbss") from None
        self.check_version(version)

    def _find(self) -> tuple[str, str]:
        """The path or name to load, and how it was come by."""
        given = os.environ.get("DBSS_LIBRARY")
        beside = os.path.join(os.path.dirname(__file__), self._soname)
        if given:
            return os.path.abspath(given), f"DBSS_LIBRARY={given}"
        if os.path.exists(beside):
            return beside, beside
        return (
            self._soname,
            f"DBSS_LIBRARY (not set), {beside} (not there) and the system's loader",
        )

    def check_version(self, version: int) -> None:
        """Raises ImportError unless a library of this version number can be used."""
        if version < self._oldest or version // 10000 != self._oldest // 10000:
            raise self._unusable(
                f"{self.place} is libdbss {_dotted(version)}; this package needs "
                f"{_dotted(self._oldest)} or a newer one of the same major version"
            )

    def call(self, name: str, result: Any, *parameters: Any) -> Any:
        """A function during which other threads of Python run."""
        return self._declare(self._calls, name, result, parameters)

    def hold(self, name: str, result: Any, *parameters: Any) -> Any:
        """A function that keeps Python's lock."""
        return self._declare(self._held, name, result, parameters)

    def _declare(
        self, library: ctypes.CDLL, name: str, result: Any, parameters: tuple[Any, ...]
    ) -> Any:
        try:
            function = getattr(library, name)
        except AttributeError:
            raise self._unusable(f"{self.place} has no function {name}") from None
        function.restype = ctypes.c_int32 if result is STATUS else result
        function.argtypes = parameters
        if result is STATUS:
            function.errcheck = self._check
        self.functions[name] = function
        return function

    def _check(self, status: int, function: object, arguments: tuple[object, ...]) -> None:
        """Called by ctypes on the calling thread, right after the function."""
        if status != 0:
            self.fail(status, arguments)

    def _unusable(self, message: str) -> ImportError:
        return ImportError(message, name=self._soname, path=self.place)


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
