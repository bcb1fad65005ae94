"""The client: what a program uses."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, Union, overload

from . import _abi as abi
from . import credentials as credentials_module
from . import errors, ffi, settings
from .credentials import Credentials, Provider, TokenProvider
from .lists import Management
from .log import Log, LogFunction
from .mirror import Mirroring
from .operation import CallMonitor, Control, Operation, ProgressFunction, Result
from .settings import DEFAULT, Default, Seconds
from .stream import Handle, ReportStream

if TYPE_CHECKING:
    # A third of what an import of this package would cost; few calls need it.
    from pathlib import Path

# Union[...]: evaluated by Python 3.9 too.
PathLike = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]


# The project, the instance, the report and the locale, for C.
Names = tuple[Optional[bytes], bytes, bytes, Optional[bytes]]


class Writer(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Takes bytes; a number that is less than their length asks for the rest again."""


def version() -> str:
    """The version of libdbss that is loaded, such as "0.1.0"."""
    return ffi.decode(abi.version()) or ""


def has_feature(name: str) -> bool:
    """Whether the loaded libdbss has a feature, such as "download"."""
    if not isinstance(name, str):
        raise TypeError(f"name: must be str, not {type(name).__name__}")
    # No feature has a name that C could not be given whole.
    encoded = name.encode("utf-8", "replace")
    return b"\0" not in encoded and bool(abi.has_feature(encoded))


def features() -> dict[str, str]:
    """The features of the loaded libdbss, and what each of them is."""
    return {
        ffi.decode(abi.feature_name(index)) or "": ffi.decode(abi.feature_help(index)) or ""
        for index in range(abi.feature_count())
    }


class _Context(ffi.Owned[abi.Context]):
    """Owns a context of libdbss, and what its calls need.

    Each call holds a reference while it lasts. So the context outlives every
    call that uses it without a lock, which a fork could leave locked for ever.
    """

    def __init__(self, config: abi.Config, log: Log | None, provider: Provider | None) -> None:
        super().__init__(abi.Context, abi.context_free)
        self.log = log
        self.provider = provider
        monitor = CallMonitor(None, log=log)
        try:
            monitor.run(abi.context_new, config, ffi.byref(self.pointer))
        finally:
            monitor.detach()


def _endpoints(given: str | Iterable[str]) -> bytes:
    """One URL or several, for C."""
    if isinstance(given, str):
        return ffi.encode("endpoint", given)
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"endpoint: must be str or a sequence of them, not {type(given).__name__}")
    encoded = [ffi.encode("endpoint", one) for one in given]
    if not encoded:
        raise errors.InvalidEndpointError("endpoint: the sequence is empty", parameter="endpoint")
    # Where C would see two.
    if any(b"," in one for one in encoded):
        raise errors.InvalidEndpointError(
            "endpoint: a URL must not hold a comma", parameter="endpoint"
        )
    return b",".join(encoded)


def _refuse_several(kinds: Mapping[str, Iterable[object]]) -> None:
    """Raises where more than one kind of credentials is given."""
    given = [kind for kind, values in kinds.items() if any(one is not None for one in values)]
    if len(given) > 1:
        raise TypeError(f"{given[0]} and {given[1]} exclude each other; give one of them")


def _names(project_id: str | None, instance_id: str, report_id: str, locale: str | None) -> Names:
    """What names a report, for C."""
    return (
        None if project_id is None else ffi.encode("project", project_id),
        ffi.encode("instance", instance_id),
        ffi.encode("id", report_id),
        None if locale is None else ffi.encode("locale", locale),
    )


def _descriptor(target: object) -> int | None:
    """The descriptor of a file object that does nothing but write to it."""
    if type(target) is io.FileIO:
        return target.fileno()
    if type(target) in (io.BufferedWriter, io.BufferedRandom):
        # Through Any: its type is one of the two.
        buffered: Any = target
        if type(buffered.raw) is io.FileIO:
            buffered.flush()
            return buffered.fileno()  # type: ignore[no-any-return]
    return None


def _write_all(target: Writer, chunk: bytes) -> None:
    if not isinstance(target, io.RawIOBase):
        target.write(chunk)
        return
    # These may take a part, or nothing.
    while chunk:
        length = target.write(chunk)
        if not length:
            raise BlockingIOError("the file object takes nothing at the moment")
        chunk = chunk[length:]


class Client(Management, Mirroring):
    """A connection to the Database Security Service, with credentials for it.

    Make one and share it: any number of threads may use it at once, and a
    child process may go on using it after os.fork(). It keeps connections open
    between calls; close() or a ``with`` block ends them.

    Args:
        region: such as "cn-north-4"; gives the service's public endpoint, and
            the project where none is given.
        endpoint: the URL of the service, in place of the region's. Or several,
            in the order of preference: where one cannot be reached the next is
            tried, and used from then on.
        project_id: the id of the project for calls that are given None. Without
            it that of the credentials, else that of the region's name, which is
            looked up once.
        token: the IAM token (X-Auth-Token). It may also come later, through
            set_token(). Of a token, an access key, an IAM user, credentials and
            token_provider a client has one.
        access_key: the access key ID (AK), with secret_key: each request is
            signed.
        secret_key: the secret access key (SK).
        security_token: the security token of a temporary access key.
        iam_user: the name of an IAM user, with iam_password and iam_domain. The
            first call logs in, for all; the token is renewed in time, and once
            when it is refused.
        iam_password: the user's password. When IAM refuses it, it is not sent
            again by this client, since several wrong ones lock a user.
        iam_domain: the name of the user's account.
        credentials: where to find credentials, as the official SDKs do:
            "environment" (HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN,
            _PROJECT_ID), "profile" (~/.huaweicloud/credentials, or the file
            that HUAWEICLOUD_SDK_CREDENTIALS_FILE names), "metadata" (the
            temporary key of the instance's agency), or "default", which is
            the three in this order.
        token_provider: a function, plain or a coroutine function, that gives
            tokens: by the first call, before one expires, and when one is
            refused. It is called with ``refused``, whether the service has
            refused the last one it gave, and returns the token, a str, or a
            Token, which has also when it expires. It runs in a thread of the
            client's own, once for all calls that wait, each of which obeys its
            own timeouts and cancel meanwhile. What it raises becomes the
            ``__cause__`` of their NoTokenError. It must not use this client.
            The thread ends with the client, so close() a client whose provider
            refers to it.
        iam_endpoint: the URL of IAM, for logins and for looking up a project,
            in place of the profile's, of the one that the variable
            HUAWEICLOUD_SDK_IAM_ENDPOINT names, and of the region's.
        metadata_endpoint: the URL of the instance's metadata service, in place
            of http://169.254.169.254.
        ca_file: a PEM file of the certificates to trust, in place of the
            system's and the built-in ones.
        connect_timeout: seconds until a connection must stand.
        stall_timeout: seconds without a byte in or out.
        total_timeout: seconds for a whole call. For each of the three, None
            is no limit and DEFAULT the default of libdbss.
        allow_plaintext: allow plain http to another host, which shows the
            token and the report to the network.
        max_memory_bytes: the largest report to take into memory; None for the
            default of libdbss, 1 GiB.
        user_agent_suffix: text after "libdbss/VERSION" in User-Agent.
        max_attempts: how many attempts a call makes when the connection fails
            or breaks, or the service is overloaded; None for the default of
            libdbss, 3; 1 for no retries.
        max_retry_after: the longest wait, in seconds, that the service may ask
            for before another attempt.
        follow_redirects: follow redirects. Credentials never go to another
            origin.
        proxy: the URL of an HTTP proxy for all connections, such as
            "http://user:password@proxy.example.com:3128".
        proxy_from_environment: take the proxy from https_proxy, http_proxy,
            all_proxy and no_proxy, as they are now.
        wait_timeout: seconds to wait for a report that the service makes; None
            is no limit and DEFAULT the default of libdbss, an hour.
        poll_interval: seconds until such a report is looked at again; it grows
            with each look.
        log: a function that is called with a LogRecord for each thing that
            happens in a call, on the thread of the call; or a logging.Logger,
            whose records have the same facts as attributes (dbss_status,
            dbss_attempt and so on). No record holds a secret. What it raises
            goes to sys.unraisablehook.
        options: any other option of libdbss, as text; options() lists them.

    Raises:
        ArgumentError: an argument cannot be right.
        NotConfiguredError: there is neither a region nor an endpoint; a part of
            an access key or user is missing; ``credentials`` names a place that
            has none.
        InvalidCredentialsError: what it names is there, and malformed.
        FileError: the CA file, or the file of credentials, cannot be read.
        TypeError: an argument has the wrong type, or excludes another.
    """

    def __init__(
        self,
        *,
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
        credentials: str | None = None,
        token_provider: TokenProvider | None = None,
        iam_endpoint: str | None = None,
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
        # First, so that __repr__ and close() work on a client that failed.
        self._context: _Context | None = None
        self._service = region
        given: dict[str, Any] = {
            "region": region,
            "ca_file": ca_file,
            "connect_timeout": connect_timeout,
            "stall_timeout": stall_timeout,
            "total_timeout": total_timeout,
            "max_retry_after": max_retry_after,
            "wait_timeout": wait_timeout,
            "poll_interval": poll_interval,
            "allow_plaintext": allow_plaintext,
            "follow_redirects": follow_redirects,
            "proxy_from_environment": proxy_from_environment,
            "max_memory_bytes": max_memory_bytes,
            "max_attempts": max_attempts,
            "user_agent_suffix": user_agent_suffix,
            "proxy": proxy,
            "project_id": project_id,
            "iam_endpoint": iam_endpoint,
            "metadata_endpoint": metadata_endpoint,
            # One by one: what is missing of a key or user, making the context tells.
            "token": token,
            "access_key": access_key,
            "secret_key": secret_key,
            "security_token": security_token,
            "iam_user": iam_user,
            "iam_password": iam_password,
            "iam_domain": iam_domain,
            "credentials": credentials,
        }
        _refuse_several(
            {
                "a token": (token,),
                "an access key": (access_key, secret_key, security_token),
                "an IAM user": (iam_user, iam_password, iam_domain),
                "credentials to be found": (credentials,),
                "a token provider": (token_provider,),
            }
        )
        if token_provider is not None and not callable(token_provider):
            raise TypeError("token_provider: must be callable")
        kept = None if log is None else Log(log)
        with ffi.made(abi.Config, abi.config_new, abi.config_free) as config:
            for key, text in (options or {}).items():
                abi.config_set(config, ffi.encode("key", key), settings.text("config", key, text))
            if endpoint is not None:
                endpoints = _endpoints(endpoint)
                abi.config_set_endpoint(config, endpoints)
                self._service = ffi.decode(endpoints)
            for encoded_key, value in settings.encoded("config", given):
                abi.config_set(config, encoded_key, value)
            if kept is not None:
                ffi.set_log(config, kept.relay)
            provider = None
            if token_provider is not None:
                provider = Provider(config, token_provider)
            self._context = _Context(config, kept, provider)

    def download_report(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        locale: str | None = None,
        *,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> bytes:
        """Downloads an audit report into memory (the service's call DownloadAuditReport).

        A transfer that breaks is resumed, or begun again.

        Args:
            project_id: the id of the project; None for the client's.
            instance_id: the id of the audit instance.
            report_id: the id of the report.
            locale: its language, "en-us" or "zh-cn"; None leaves the choice to
                the service, which takes en-us.
            operation: options, progress, cancel and result of this call.
            progress: called with a Progress when the call starts, at least ten
                times a second while it runs, whether bytes arrive or not, and
                when all bytes are there. When it returns False the call ends
                with CancelledError; what it raises comes out of the call.

        Returns:
            The whole report, a PDF or a ZIP file. Anything less is an error.

        Raises:
            NotConfiguredError: there are no credentials, or no project.
            NoTokenError: the token provider gave none.
            Error: the call failed. Its class and attributes say why.
            ClosedError: the client is closed.

        Other threads run while it waits. In the main thread, what the handler
        of a signal raises, such as KeyboardInterrupt, ends the call and comes
        out of it, within 250 ms and whatever it waits for.
        """
        names = _names(project_id, instance_id, report_id, locale)
        buffer = abi.Buffer()

        def call(context: abi.Context, control: abi.Operation) -> bytes:
            abi.report_download_to_memory(context, *names, control, ffi.byref(buffer))
            return ffi.copy(buffer)

        try:
            return self._perform(call, operation, progress)
        finally:
            abi.buffer_free(ffi.byref(buffer))

    @overload
    def download_report_to(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        path: PathLike,
        *,
        locale: str | None = None,
        replace: bool = False,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> Path: ...

    @overload
    def download_report_to(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        path: int | Writer,
        *,
        locale: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> None: ...

    def download_report_to(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        path: PathLike | int | Writer,
        *,
        locale: str | None = None,
        replace: bool = False,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> Path | None:
        """Downloads an audit report to a file, or to what else can take bytes.

        A file appears under its name only when it is whole and on the disk;
        until then, and after every failure, what stood there stands there
        still. While it arrives it is a file without a name beside the target, or,
        where the file system has none, a hidden ``.dbss-XXXXXX.part``. Its
        permissions are those of the option ``file_mode``, 0600 unless set.

        Args:
            path: where to save it. A directory that exists, or a path that ends
                with a slash, gets a file of the report's own name, made safe.
                It may also be a descriptor or a file object that is open for
                writing bytes, or any object with a method ``write`` that takes
                them; what it took before a failure cannot be taken back, and
                what it raises comes out of the call. Neither is closed.
            replace: replace an existing file, in one step, when the new one is
                whole.

        The other arguments are those of download_report().

        Returns:
            Where the report lies now; None when that is no path.

        Raises:
            FileExistsError: a file of this name exists, and may not be replaced.
            NotRegularFileError: the name is that of a directory, a link, a device.
            FileError: the file cannot be written.
            BrokenPipeError: whoever reads from the pipe has gone.
            NotResumableError: a transfer that cannot be taken back broke for good.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        names = _names(project_id, instance_id, report_id, locale)
        settings.flag("replace", replace)
        if isinstance(path, (str, bytes, os.PathLike)):
            return self._download_to_path(names, path, replace, operation, progress)
        if replace:
            raise ValueError("replace: only a path can be replaced")
        writable = isinstance(path, int) or callable(getattr(path, "write", None))
        if not writable or isinstance(path, (bool, io.TextIOBase)):
            raise TypeError(
                "path: must be a path, a descriptor, or an object that bytes can be written to, "
                f"not {type(path).__name__}"
            )
        if isinstance(path, int):
            self._download_to_descriptor(names, path, operation, progress)
            return None
        descriptor = _descriptor(path)
        if descriptor is not None:
            self._download_to_descriptor(names, descriptor, operation, progress)
            return None
        with self._open(names, operation, progress) as stream:
            for chunk in stream:
                _write_all(path, chunk)
        return None

    def _download_to_path(
        self,
        names: Names,
        path: PathLike,
        replace: bool,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Path:
        target = ffi.encode_path("path", path)
        inside = target.endswith(b"/") or os.path.isdir(target)
        download = abi.report_download_to_directory if inside else abi.report_download_to_file

        def call(context: abi.Context, control: abi.Operation) -> Path:
            download(context, *names, target, abi.FILE_REPLACE if replace else 0, control)
            return ffi.decode_path(abi.operation_path(control) or target)

        return self._perform(call, operation, progress)

    def _download_to_descriptor(
        self,
        names: Names,
        descriptor: int,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> None:
        # C has no larger ones, and ctypes would cut it.
        if not 0 <= descriptor < 2**31:
            raise errors.ArgumentError("fd: is not an open descriptor", parameter="fd")

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_download_to_fd(context, *names, descriptor, control)

        self._perform(call, operation, progress)

    def open_report(
        self,
        project_id: str | None,
        instance_id: str,
        report_id: str,
        locale: str | None = None,
        *,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> ReportStream:
        """Opens an audit report to be read part by part, as a file.

        Waits until its first bytes are there. A transfer that breaks later is
        resumed where the service can; where it cannot, the read fails. The
        stream ends when it or the client is closed. Until then the operation
        belongs to it.

        The arguments and exceptions are those of download_report(). What
        ``progress`` or a signal's handler raises comes out of the read under
        way, and ends the stream.
        """
        return self._open(_names(project_id, instance_id, report_id, locale), operation, progress)

    def _open(
        self,
        names: Names,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> ReportStream:
        context = self._open_context()
        control = Control() if operation is None else operation.control()
        monitor = CallMonitor(control, progress, context.log, context.provider)
        handle = Handle(abi.ReportStream, abi.report_stream_free)
        control.begin()
        try:
            monitor.attach()
            monitor.run(
                abi.report_open, context.pointer, *names, control.pointer, ffi.byref(handle.pointer)
            )
            return ReportStream(handle, control, monitor)
        except BaseException:
            # First, as the operation belongs to the stream, should there be one.
            del handle
            monitor.detach()
            control.end()
            raise
        finally:
            # Else whoever keeps the exception would keep the context, too.
            del context

    def _perform(
        self,
        call: Callable[[abi.Context, abi.Operation], Result],
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Result:
        """Runs a call of libdbss from its beginning to its end."""
        context = self._open_context()
        control = Control() if operation is None else operation.control()
        monitor = CallMonitor(control, progress, context.log, context.provider)
        # Nobody else would hear a tick.
        needed = (
            progress is not None
            or operation is not None
            or context.log is not None
            or threading.get_ident() == threading.main_thread().ident
        )
        control.begin()
        try:
            if needed:
                monitor.attach()
            return monitor.run(call, context.pointer, control.pointer)
        finally:
            monitor.detach()
            control.end()
            # Else whoever keeps the exception would keep the context, too.
            del context

    def find_credentials(self, *, operation: Operation | None = None) -> Credentials:
        """Finds the credentials that a call would use now, as it would.

        Asks the token provider, IAM or the metadata service, where that is
        configured and has not been done yet. Whether the service takes the
        credentials, check() tells.

        Args:
            operation: options and cancel of this call.

        Raises:
            NotConfiguredError: there are none.
            NoTokenError: the token provider gave none.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        found = abi.Credentials()

        def call(context: abi.Context, control: abi.Operation) -> Credentials:
            abi.context_find_credentials(context, control, ffi.byref(found))
            return credentials_module.found(found)

        try:
            return self._perform(call, operation, None)
        finally:
            abi.credentials_free(found)

    def check(self, project_id: str | None = None, *, operation: Operation | None = None) -> None:
        """Asks the service whether it takes the credentials; nothing is downloaded or changed.

        Args:
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            UnauthenticatedError: it does not.
            ForbiddenError: it knows them, and does not allow this.
            Error: they could not be had, or the call failed otherwise.
            ClosedError: the client is closed.
        """
        project = None if project_id is None else ffi.encode("project", project_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.context_check(context, project, control)

        self._perform(call, operation, None)

    def cancel_all(self) -> None:
        """Cancels all calls of this client that are under way, open streams included.

        Each ends with CancelledError, as by its operation's cancel(). Calls that
        start afterwards run. It does nothing when the client is closed.
        """
        context = self._context
        if context is not None:
            abi.context_cancel_all(context.pointer)

    def set_token(self, token: str) -> None:
        """Replaces the credentials by a token.

        Calls that start afterwards use the new one, calls under way finish
        with the old one. On failure the old one stays.

        Raises:
            InvalidTokenError: no header could hold it.
            ClosedError: the client is closed.
        """
        context = self._open_context()
        try:
            abi.context_set_token(context.pointer, ffi.encode("token", token))
        finally:
            del context

    def _open_context(self) -> _Context:
        context = self._context
        if context is None:
            raise errors.ClosedError("the client is closed")
        return context

    def close(self) -> None:
        """Ends the client. Calls under way in other threads end with CancelledError, open
        streams too, and later ones with ClosedError. Closing it again does nothing.
        """
        context, self._context = self._context, None
        if context is not None:
            abi.context_close(context.pointer)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._context is None else self._service or "open"
        return f"<dbss.Client {state}>"
