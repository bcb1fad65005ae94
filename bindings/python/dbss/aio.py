"""A client for asyncio.

    import dbss.aio

    async with dbss.aio.AsyncClient(region="cn-north-4", credentials="default") as client:
        call = client.download_report(None, instance_id, report_id)
        report = await asyncio.wait_for(call, timeout=60)

It has the calls of dbss.Client. A task that is cancelled, by a timeout as well, cancels
its call, and goes on when that has ended: within 250 ms, whatever it waits for but the
file system and your own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import queue
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar, cast

from . import errors
from .client import Client
from .lists import Item, Items
from .operation import Operation, ProgressFunction
from .stream import ReportStream

if TYPE_CHECKING:
    # Of Python 3.10.
    from typing import Concatenate, ParamSpec

    Parameters = ParamSpec("Parameters")

__all__ = ["AsyncClient", "AsyncItems", "AsyncReportStream"]

Result = TypeVar("Result")

MAX_THREADS = 32

_Job = Optional[tuple["Future[Any]", Callable[[], object]]]


class _Pool:
    """Threads that run calls, which are started as they are needed.

    They are daemon threads, unlike those of concurrent.futures, so the interpreter
    does not wait for a call to end by itself: the package cancels it (see operation).
    """

    def __init__(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"max_threads: must be int, not {type(size).__name__}")
        if size < 1:
            raise errors.InvalidValueError(
                f"max_threads: must be at least 1, and is {size}", parameter="max_threads"
            )
        self._size = size
        self._ended = False
        self.start_anew()
        _pools.add(self)

    def start_anew(self) -> None:
        """In a child of fork() there are neither the parent's threads nor its calls."""
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._threads = 0
        self._futures: set[Future[Any]] = set()

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Runs a function as soon as a thread is free."""
        future: Future[Result] = Future()
        with self._lock:
            if self._ended:
                raise errors.ClosedError("the client is closed")
            if self._threads <= len(self._futures) and self._threads < self._size:
                threading.Thread(
                    # Not a method, which would keep the pool.
                    target=_work,
                    args=(self._jobs,),
                    name="dbss async call",
                    daemon=True,
                ).start()
                self._threads += 1
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)
            self._jobs.put((future, function))
        return future

    def end(self) -> list[Future[Any]]:
        """Ends the threads after the calls that there are, and returns these."""
        with self._lock:
            self._ended = True
            self._jobs.put(None)
            return list(self._futures)

    def __del__(self) -> None:
        # It may have failed before it had any.
        if hasattr(self, "_jobs"):
            self._jobs.put(None)


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        if job is None:
            # For the next thread.
            jobs.put(None)
            return
        future, function = job
        if future.set_running_or_notify_cancel():
            try:
                result = function()
            except BaseException as error:
                # Of any kind: whoever waits must get it, and this thread goes on.
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        # Else they would live until the next call.
        del job, future, function


_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


def _start_anew() -> None:
    for pool in list(_pools):
        pool.start_anew()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_start_anew)


def _when_done(future: Future[Any]) -> asyncio.Future[None]:
    """For the running loop: is done when the other one is, whatever its result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not done.done():
            done.set_result(None)

    def wake(_: Future[Any]) -> None:
        # The loop may have been closed meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle)

    future.add_done_callback(wake)
    return done


async def _run(
    pool: _Pool, operation: Operation, function: Callable[..., Result], *arguments: Any
) -> Result:
    """Runs a function that makes a call under this operation, and cancels it with the task."""
    context = contextvars.copy_context()
    future = pool.submit(functools.partial(context.run, function, *arguments))
    cancelled = None
    try:
        done = _when_done(future)
        while not future.done():
            try:
                await asyncio.shield(done)
            except BaseException as error:
                # One that waits for a thread needs no cancel of its operation.
                if not future.cancel():
                    operation.cancel()
                if not isinstance(error, asyncio.CancelledError):
                    # Such as GeneratorExit, after which nothing can be waited for.
                    raise
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return future.result()
    finally:
        # Else an exception would keep this frame, and this frame it.
        del future, cancelled


if TYPE_CHECKING:
    _Method = Callable[Concatenate[Client, Parameters], Result]
    _AsyncMethod = Callable[Concatenate["AsyncClient", Parameters], Coroutine[Any, Any, Result]]
    _ListMethod = Callable[Concatenate[Client, Parameters], Items[Item]]
    _AsyncListMethod = Callable[Concatenate["AsyncClient", Parameters], "AsyncItems[Item]"]


def _call(method: _Method[Parameters, Result]) -> _AsyncMethod[Parameters, Result]:
    """A coroutine function for a method of Client, with its parameters and its text."""
    function: Any = method

    @functools.wraps(function)
    async def call(
        self: AsyncClient, *args: Any, operation: Operation | None = None, **kwargs: Any
    ) -> Any:
        own = Operation() if operation is None else operation
        bound = functools.partial(function, self._client, *args, operation=own, **kwargs)
        return await _run(self._pool, own, bound)

    return cast("_AsyncMethod[Parameters, Result]", call)


def _list(method: _ListMethod[Parameters, Item]) -> _AsyncListMethod[Parameters, Item]:
    """The same for a list. Only its pages are waited for."""
    function: Any = method

    @functools.wraps(function)
    def call(
        self: AsyncClient, *args: Any, operation: Operation | None = None, **kwargs: Any
    ) -> Any:
        own = Operation() if operation is None else operation
        items = function(self._client, *args, operation=own, **kwargs)
        return AsyncItems(items, self._pool, own, operation is None)

    return cast("_AsyncListMethod[Parameters, Item]", call)


class AsyncItems(AsyncIterator[Item], Generic[Item]):
    """A list of the service for ``async for``, read page by page, each when it is needed.

    It is iterated once, by one task at a time: while one waits for a page, the others
    get BusyError. After another exception, and after a cancel, the same page is asked
    for again.
    """

    def __init__(self, items: Items[Item], pool: _Pool, operation: Operation, owned: bool) -> None:
        """For the package itself."""
        self._items: Items[Item] = items
        self._pool = pool
        self._operation = operation
        self._owned = owned
        self._waiting = False

    @property
    def total(self) -> int | None:
        """How many items the list has; as for dbss.Items."""
        return self._items.total

    async def __anext__(self) -> Item:
        while (item := self._items.pop()) is None:
            if self._waiting:
                raise errors.BusyError("list: is being read by another task", parameter="cursor")
            self._waiting = True
            try:
                if not await _run(self._pool, self._operation, self._items.load):
                    raise StopAsyncIteration
            except asyncio.CancelledError:
                if self._owned:
                    self._operation.reset()
                raise
            finally:
                self._waiting = False
        return item

    async def aclose(self) -> None:
        """Ends the list; nothing more comes."""
        self._items.close()

    def __repr__(self) -> str:
        return f"<dbss.aio.AsyncItems of {self._items!r}>"


class AsyncReportStream(AsyncIterator[bytes]):
    """A report that is read part by part; see AsyncClient.open_report().

    Iteration gives chunks of bytes. The end comes only when the report was whole and
    its length right; everything else is an exception, which stays. One task reads at a
    time; when it is cancelled the stream ends with it, as bytes may be lost.
    """

    size: int | None
    """The size in bytes, as the service announced it; None where it did not."""
    format: str | None
    """"pdf" or "zip", by its first bytes; None when it is neither."""
    filename: str
    """The report's own name, made safe for a file."""
    content_type: str | None
    """The header Content-Type."""
    request_id: str | None
    """The service's id of the call."""

    def __init__(self, stream: ReportStream, pool: _Pool, operation: Operation) -> None:
        """For the package itself."""
        self.size = stream.size
        self.format = stream.format
        self.filename = stream.filename
        self.content_type = stream.content_type
        self.request_id = stream.request_id
        self._stream = stream
        self._pool = pool
        self._operation = operation

    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads so many bytes, or all that are left; fewer only at the end."""
        return await _run(self._pool, self._operation, self._stream.read, size)

    async def read1(self, size: int = -1, /) -> bytes:
        """Reads as many bytes as there are, at least one, at most ``size``; none at the end."""
        return await _run(self._pool, self._operation, self._stream.read1, size)

    async def __anext__(self) -> bytes:
        chunk = await self.read1()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Ends the stream, read to its end or not. Closing it again does nothing."""
        self._stream.close()

    async def __aenter__(self) -> AsyncReportStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<dbss.aio.AsyncReportStream of {self._stream!r}>"


class AsyncClient:
    """A dbss.Client for asyncio: its calls are coroutines, its lists for ``async for``.

    A call runs in a thread of the client's own, under its own operation unless one is
    given. When its task is cancelled, the operation is, and the coroutine raises
    asyncio.CancelledError once the call has ended: within 250 ms, whatever it waits for
    but the file system and your own code. Nothing is left half-saved. An operation that
    was given stays cancelled until its reset().

    ``progress``, ``write``, ``log`` and a token provider are called in other threads
    than the loop's.

    It may be made outside of a loop, and be used by one loop after the other. Use
    ``async with``, or aclose(), to end it.

    Args:
        max_threads: how many calls run at once; others wait for their turn. A stream
            or a list takes a thread only while it is read.

    The other arguments and the exceptions are those of dbss.Client.
    """

    def __init__(self, *, max_threads: int = MAX_THREADS, **arguments: Any) -> None:
        self._pool = _Pool(max_threads)
        self._client = Client(**arguments)

    download_report = _call(Client.download_report)
    download_report_to = _call(Client.download_report_to)
    find_credentials = _call(Client.find_credentials)
    check = _call(Client.check)
    create_report = _call(Client.create_report)
    generate_report = _call(Client.generate_report)
    wait_for_report = _call(Client.wait_for_report)
    delete_report = _call(Client.delete_report)
    mirror = _call(Client.mirror)
    instances = _list(Client.instances)
    reports = _list(Client.reports)
    templates = _list(Client.templates)

    async def open_report(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        locale: str | None = None,
        *,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> AsyncReportStream:
        """Opens an audit report to be read part by part; as Client.open_report()."""
        own = Operation() if operation is None else operation
        opened: list[ReportStream] = []

        def call() -> None:
            opened.append(
                self._client.open_report(
                    project_id, instance_id, report_id, locale, operation=own, progress=progress
                )
            )

        try:
            await _run(self._pool, own, call)
        except BaseException:
            # A cancel that came when it was open.
            for stream in opened:
                stream.close()
            raise
        return AsyncReportStream(opened[0], self._pool, own)

    def cancel_all(self) -> None:
        """Cancels all calls that are under way; as Client.cancel_all()."""
        self._client.cancel_all()

    def set_token(self, token: str) -> None:
        """Replaces the credentials by a token; as Client.set_token()."""
        self._client.set_token(token)

    async def aclose(self) -> None:
        """Ends the client and its threads. Calls under way end with dbss.CancelledError, which
        this waits for; streams too. Later ones end with ClosedError.
        """
        self._client.close()
        for future in self._pool.end():
            await _when_done(future)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<dbss.aio.AsyncClient of {self._client!r}>"
