"""A client for asyncio.

    import dbss.aio

    async with dbss.aio.AsyncClient(region="cn-north-4", credentials="default") as client:
        call = client.download_report(instance_id, report_id)
        report = await asyncio.wait_for(call, timeout=60)

It has the calls of dbss.Client. Cancelling a task, also by a timeout, cancels its call.
The task continues when the call has ended, within 250 ms. Only the file system and your
own code can delay that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import queue
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar, cast

from . import errors, ffi
from .client import Client, encode_ids, hides_arguments
from .credentials import PasscodeProvider, TokenProvider
from .lists import Item, Items
from .log import LogFunction
from .operation import (
    Operation,
    ProgressFunction,
    cancelled_error,
    control_for,
    end_waiting,
)
from .settings import DEFAULT, Default, Seconds
from .stream import ReportStream, check_size

if TYPE_CHECKING:
    # New in Python 3.10.
    from typing import Concatenate, ParamSpec

    Parameters = ParamSpec("Parameters")

__all__ = ["AsyncClient", "AsyncItems", "AsyncReportStream"]

Result = TypeVar("Result")

MAX_THREADS = 32

_Job = Optional[tuple["Future[Any]", Callable[[], object]]]


class _ThreadPool:
    """A thread pool that starts its threads when they are needed.

    They are daemon threads, unlike those of concurrent.futures. So the interpreter's
    exit does not wait for a call; the package cancels it (see operation).
    """

    def __init__(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"max_threads: must be int, not {type(size).__name__}")
        if size < 1:
            raise errors.InvalidValueError(
                f"max_threads: must be at least 1, and is {size}", parameter="max_threads"
            )
        self._size = size
        self.is_shut_down = False
        self.total_timeout: Seconds = DEFAULT
        """That of the calls whose operation has none."""
        self.reset_after_fork()
        _pools.add(self)

    def reset_after_fork(self) -> None:
        """Resets the state; a child of fork() has neither threads nor calls."""
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._threads = 0
        self._futures: set[Future[Any]] = set()
        self.waiting: set[Callable[[errors.Error], object]] = set()
        """What ends the calls that wait for a thread."""

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Runs a function as soon as a thread is free."""
        future: Future[Result] = Future()
        with self._lock:
            if self.is_shut_down:
                raise errors.ClosedError("the client is closed", parameter="client")
            if self._threads <= len(self._futures) and self._threads < self._size:
                self._start_thread()
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)
            self._jobs.put((future, function))
        return future

    def _start_thread(self) -> None:
        thread = threading.Thread(
            # Not a method, which would keep the pool alive.
            target=_run_jobs,
            args=(self._jobs,),
            name="dbss async call",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            # Otherwise the call waits for one of the others.
            if self._threads == 0:
                raise errors.ResourceError(
                    f"cannot start a thread for the call: {error}"
                ) from error
        else:
            self._threads += 1

    def shutdown(self) -> list[Future[Any]]:
        """Ends the threads after the pending calls, and returns the futures of these."""
        with self._lock:
            self.is_shut_down = True
            self._jobs.put(None)
            return list(self._futures)

    def __del__(self) -> None:
        # __init__ may have failed before it set this.
        if hasattr(self, "_jobs"):
            self._jobs.put(None)


def _run_jobs(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        job = jobs.get()
        if job is None:
            # Pass it on to the next thread.
            jobs.put(None)
            return
        future, function = job
        if future.set_running_or_notify_cancel():
            try:
                result = function()
            except BaseException as error:
                # Any kind: the waiting task gets it, and this thread continues.
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        # Otherwise they would live until the next call.
        del job, future, function


_pools: weakref.WeakSet[_ThreadPool] = weakref.WeakSet()


def _reset_pools_after_fork() -> None:
    for pool in list(_pools):
        pool.reset_after_fork()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_pools_after_fork)


def _completion(future: Future[Any]) -> asyncio.Future[None]:
    """A future of the running loop that is done when the given one is done or failed."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def set_done() -> None:
        if not done.done():
            done.set_result(None)

    def wake(_: Future[Any]) -> None:
        # The loop may be closed by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(set_done)

    future.add_done_callback(wake)
    return done


class _Wait:
    """The wait of a task for its call, which may have to wait for a thread first."""

    def __init__(self, future: Future[Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self.future = future
        self.changed = asyncio.Event()
        self.error: errors.Error | None = None
        """Why end() ended it."""
        # Not a method, which would make a reference cycle of this object and the future, with
        # the report in it.
        future.add_done_callback(functools.partial(_wake, self._loop, self.changed))

    def end(self, error: errors.Error) -> None:
        """Ends the wait for a thread; does nothing if the call has one."""
        self.error = self.error or error
        self.future.cancel()

    def end_after(self, timeout: Seconds) -> asyncio.TimerHandle | None:
        if timeout is None or isinstance(timeout, Default):
            return None
        return self._loop.call_later(timeout, self.end, _timeout_error(timeout))


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event, _: Future[Any]) -> None:
    # The loop may be closed by now.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(changed.set)


def _timeout_error(timeout: float) -> errors.Error:
    return errors.TotalTimeoutError(
        f"total_timeout: the call waited longer than {timeout:g} s for a thread of the client; "
        "set a longer total_timeout or a larger max_threads",
        parameter="total_timeout",
    )


async def _run_in_pool(
    pool: _ThreadPool,
    operation: Operation,
    function: Callable[..., Result],
    *arguments: Any,
    is_stream: bool = False,
) -> Result:
    """Runs a function that makes a call with this operation; cancels it with the task."""
    if is_stream and pool.is_shut_down:
        # It does not block, and libdbss knows how the stream has ended.
        return function(*arguments)
    context = contextvars.copy_context()
    wait = _Wait(pool.submit(functools.partial(context.run, function, *arguments)))
    cancelled = timer = None
    operation._waiting.append(wait.end)
    pool.waiting.add(wait.end)
    try:
        if operation._is_cancelled:
            wait.end(cancelled_error("operation"))
        timeout = operation._total_timeout
        timer = wait.end_after(pool.total_timeout if timeout is DEFAULT else timeout)
        while not wait.future.done():
            try:
                await wait.changed.wait()
            except BaseException as error:
                # A call that has not started needs no cancel of its operation.
                if not wait.future.cancel():
                    operation.cancel()
                if not isinstance(error, asyncio.CancelledError):
                    # Such as GeneratorExit, after which await is not allowed.
                    raise
                cancelled = error
        if cancelled is not None:
            if not wait.future.cancelled():
                failure = wait.future.exception()
                # It has the id of a report that was created.
                if isinstance(failure, errors.Error) and failure.candidates:
                    cancelled.__cause__ = failure
                del failure
            raise cancelled
        if not wait.future.cancelled():
            try:
                return cast("Result", wait.future.result())
            except errors.ClosedError as error:
                # It was open when the call was made, and closed before libdbss had the call.
                if error.parameter == "operation" or not (is_stream or pool.is_shut_down):
                    raise
                wait.error = None
        raise _kept_error(operation, wait.error or cancelled_error("close"), is_stream)
    finally:
        operation._waiting.remove(wait.end)
        pool.waiting.discard(wait.end)
        if timer is not None:
            timer.cancel()
        # Otherwise the exception and this frame would be a reference cycle.
        del cancelled, wait


def _kept_error(operation: Operation, error: errors.Error, is_stream: bool) -> errors.Error:
    """The error of a call that libdbss never had, which is the operation's from now on."""
    control = operation._control
    # If another call has the operation, so has its error.
    if control is not None and (is_stream or not control.reservation.is_taken()):
        control.early_error = error
    return error


if TYPE_CHECKING:
    _Method = Callable[Concatenate[Client, Parameters], Result]
    _AsyncMethod = Callable[Concatenate["AsyncClient", Parameters], Coroutine[Any, Any, Result]]
    _ListMethod = Callable[Concatenate[Client, Parameters], Items[Item]]
    _AsyncListMethod = Callable[Concatenate["AsyncClient", Parameters], "AsyncItems[Item]"]


def _total_timeout(total_timeout: Seconds, options: Mapping[str, str] | None) -> Seconds:
    """That of a client with these arguments, which are valid."""
    text = (options or {}).get("total_timeout_ms")
    if total_timeout is not DEFAULT or text is None:
        return total_timeout
    return None if text == "-1" else int(text) / 1000


def _operation_for(operation: Operation | None) -> Operation:
    """The operation of a call, which is checked, or a new one."""
    if operation is None:
        return Operation()
    control_for(operation)
    return operation


def _check_arguments(bound: inspect.BoundArguments) -> None:
    """Checks the ids and the progress function of a call; the call itself checks the rest."""
    parameters = bound.signature.parameters
    for name, value in bound.arguments.items():
        # What has a default may be None.
        if value is None and parameters[name].default is None:
            continue
        if name in ("instance_id", "locale", "project_id", "report_id", "template_id"):
            ffi.encode(name, value)
        elif name == "progress":
            ffi.check_function(name, value)


def _async_call(method: _Method[Parameters, Result]) -> _AsyncMethod[Parameters, Result]:
    """A coroutine function for a method of Client, with its parameters and docstring."""
    function: Any = method
    signature = inspect.signature(function)

    @functools.wraps(function)
    async def call(
        self: AsyncClient, *args: Any, operation: Operation | None = None, **kwargs: Any
    ) -> Any:
        call_operation = _operation_for(operation)
        # Now, and not only when it has a thread.
        _check_arguments(signature.bind(self._client, *args, **kwargs))
        self._client._context_for_call()
        bound = functools.partial(function, self._client, *args, operation=call_operation, **kwargs)
        return await _run_in_pool(self._pool, call_operation, bound)

    return cast("_AsyncMethod[Parameters, Result]", call)


def _async_list(method: _ListMethod[Parameters, Item]) -> _AsyncListMethod[Parameters, Item]:
    """The same for a method that lists; only fetching a page is asynchronous."""
    function: Any = method

    @functools.wraps(function)
    def call(
        self: AsyncClient, *args: Any, operation: Operation | None = None, **kwargs: Any
    ) -> Any:
        call_operation = _operation_for(operation)
        items = function(self._client, *args, operation=call_operation, **kwargs)
        return AsyncItems(items, self._pool, call_operation, operation is None)

    return cast("_AsyncListMethod[Parameters, Item]", call)


class AsyncItems(ffi.Uncopyable, AsyncIterator[Item], Generic[Item]):
    """A list of the service for ``async for``; each page is fetched when it is needed.

    It can be iterated once, by one task at a time. While one task waits for a page,
    the others get BusyError. After any other exception, and after a cancel, the next
    read continues with the same page, as for dbss.Items.
    """

    def __init__(
        self, items: Items[Item], pool: _ThreadPool, operation: Operation, owned: bool
    ) -> None:
        """Internal; AsyncClient creates it."""
        self._items: Items[Item] = items
        self._pool = pool
        self._operation = operation
        self._owned = owned
        self._is_loading = False

    @property
    def total(self) -> int | None:
        """How many items the list has; as for dbss.Items."""
        return self._items.total

    async def __anext__(self) -> Item:
        while (item := self._items._pop()) is None:
            if self._is_loading:
                raise errors.BusyError("list: is being read by another task", parameter="list")
            self._is_loading = True
            try:
                if not await _run_in_pool(self._pool, self._operation, self._items._load_page):
                    raise StopAsyncIteration
            except asyncio.CancelledError:
                if self._owned:
                    self._operation.reset()
                raise
            finally:
                self._is_loading = False
        return item

    async def aclose(self) -> None:
        """Closes the list; it yields no more items."""
        self._items.close()

    def __repr__(self) -> str:
        return f"<dbss.aio.AsyncItems of {self._items!r}>"


class AsyncReportStream(ffi.Uncopyable, AsyncIterator[bytes]):
    """A report that is read in parts; see AsyncClient.open_report().

    Iteration yields chunks of bytes. It ends only when the report is complete and has
    the right length. Any other end is an exception, which later reads raise again. One
    task reads at a time. Cancelling it ends the stream, as bytes may be lost.
    """

    size: int | None
    """The size in bytes that the service announced; None if it announced none."""
    format: str | None
    """"pdf" or "zip", by its first bytes; None when it is neither."""
    filename: str
    """The name of the report, sanitized for use as a file name."""
    content_type: str | None
    """The header Content-Type."""
    request_id: str | None
    """The service's id of the request."""

    def __init__(self, stream: ReportStream, pool: _ThreadPool, operation: Operation) -> None:
        """Internal; AsyncClient creates it."""
        self.size = stream.size
        self.format = stream.format
        self.filename = stream.filename
        self.content_type = stream.content_type
        self.request_id = stream.request_id
        self._stream = stream
        self._pool = pool
        self._operation = operation
        self._is_reading = False

    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads ``size`` bytes, or all that remain; fewer only at the end."""
        return await self._run(self._stream.read, size)

    async def read1(self, size: int = -1, /) -> bytes:
        """Reads the available bytes, at least one and at most ``size``; none at the end."""
        return await self._run(self._stream.read1, size)

    async def _run(self, read: Callable[[Any], bytes], size: int | None) -> bytes:
        check_size(size)
        self._stream._check_open()
        if self._is_reading:
            raise errors.BusyError("stream: is being read by another task", parameter="stream")
        self._is_reading = True
        try:
            return await _run_in_pool(self._pool, self._operation, read, size, is_stream=True)
        finally:
            self._is_reading = False

    async def __anext__(self) -> bytes:
        chunk = await self.read1()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Closes the stream, read to its end or not. Closing it again does nothing."""
        self._stream.close()
        # A read that waits for a thread ends too.
        end_waiting(self._operation._waiting, "close")

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


class AsyncClient(ffi.Uncopyable):
    """A dbss.Client for asyncio: its calls are coroutines, its lists for ``async for``.

    A call runs in a thread of the client, with a new operation unless you pass one.
    Cancelling its task cancels the operation. The coroutine then raises
    asyncio.CancelledError when the call has ended, within 250 ms. Only the file system
    and your own code can delay that. No partial file is left. An operation that you
    passed stays cancelled until its reset().

    ``progress``, ``write``, ``log`` and a token provider run in other threads than the
    loop's.

    A client may be created outside of a loop, and several loops may use it one after
    the other. End it with ``async with`` or aclose().

    Args:
        max_threads: how many calls run at once; others wait. A stream or a list uses a
            thread only during a read. A call that waits longer than its ``total_timeout``
            fails with TotalTimeoutError; the time counts anew when it has a thread.
            If no thread can be started at all, calls raise ResourceError.

    The other arguments and the exceptions are those of dbss.Client.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        max_threads: int = MAX_THREADS,
        region: str | None = None,
        endpoint: str | Sequence[str] | None = None,
        project_id: str | None = None,
        token: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        security_token: str | None = None,
        iam_user: str | None = None,
        iam_password: str | None = None,
        iam_domain: str | None = None,
        iam_user_id: str | None = None,
        passcode_provider: PasscodeProvider | None = None,
        agency_name: str | None = None,
        agency_domain: str | None = None,
        agency_domain_id: str | None = None,
        agency_duration: float | Default = DEFAULT,
        credentials: str | None = None,
        token_provider: TokenProvider | None = None,
        iam_endpoint: str | None = None,
        sts_endpoint: str | None = None,
        metadata_endpoint: str | None = None,
        ca_file: str | bytes | os.PathLike[str] | None = None,
        connect_timeout: Seconds = DEFAULT,
        stall_timeout: Seconds = DEFAULT,
        total_timeout: Seconds = DEFAULT,
        allow_plaintext: bool = False,
        max_memory_bytes: int | None = None,
        user_agent_suffix: str | None = None,
        max_attempts: int | None = None,
        max_retry_after: float | Default = DEFAULT,
        follow_redirects: bool = False,
        proxy: str | None = None,
        proxy_from_environment: bool = False,
        wait_timeout: Seconds = DEFAULT,
        poll_interval: float | Default = DEFAULT,
        log: LogFunction | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        # First, when there are only the parameters.
        arguments = dict(locals())
        del arguments["self"], arguments["max_threads"]
        self._pool = _ThreadPool(max_threads)
        self._client = Client(**arguments)
        self._pool.total_timeout = _total_timeout(total_timeout, options)

    download_report = _async_call(Client.download_report)
    download_report_to = _async_call(Client.download_report_to)
    find_credentials = _async_call(Client.find_credentials)
    check = _async_call(Client.check)
    create_report = _async_call(Client.create_report)
    generate_report = _async_call(Client.generate_report)
    wait_for_report = _async_call(Client.wait_for_report)
    delete_report = _async_call(Client.delete_report)
    schedule = _async_call(Client.schedule)
    update_schedule = _async_call(Client.update_schedule)
    mirror = _async_call(Client.mirror)
    instances = _async_list(Client.instances)
    reports = _async_list(Client.reports)
    templates = _async_list(Client.templates)
    databases = _async_list(Client.databases)

    async def open_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> AsyncReportStream:
        """Opens an audit report for reading in parts; as Client.open_report()."""
        call_operation = _operation_for(operation)
        encode_ids(project_id, instance_id, report_id, locale)
        if progress is not None:
            ffi.check_function("progress", progress)
        self._client._context_for_call()
        opened: list[ReportStream] = []

        def call() -> None:
            opened.append(
                self._client.open_report(
                    instance_id,
                    report_id,
                    project_id=project_id,
                    locale=locale,
                    operation=call_operation,
                    progress=progress,
                )
            )

        try:
            await _run_in_pool(self._pool, call_operation, call)
        except BaseException:
            # The task may be cancelled after the stream was opened.
            for stream in opened:
                stream.close()
            raise
        return AsyncReportStream(opened[0], self._pool, call_operation)

    def cancel_all(self) -> None:
        """Cancels all running calls, and those that wait for a thread; as
        Client.cancel_all().
        """
        # First these, before they get the threads of the others.
        end_waiting(self._pool.waiting, "client")
        self._client.cancel_all()

    @hides_arguments
    def set_token(self, token: str) -> None:
        """Replaces the credentials with a token; as Client.set_token()."""
        self._client.set_token(token)

    async def aclose(self) -> None:
        """Closes the client and ends its threads. Running calls and streams end with
        dbss.CancelledError, and this method waits for them. Later calls raise ClosedError.
        """
        futures = self._pool.shutdown()
        end_waiting(self._pool.waiting, "close")
        self._client.close()
        for future in futures:
            await _completion(future)

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
        # __init__ may have failed before it set this.
        return f"<dbss.aio.AsyncClient of {getattr(self, '_client', None)!r}>"
