"""The client."""

from __future__ import annotations

import functools
import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol, TypeVar, Union, cast, overload

from . import _abi as abi
from . import credentials as credentials_module
from . import errors, ffi, settings
from .credentials import CallbackProvider, Credentials, PasscodeProvider, TokenProvider
from .lists import ReportMethods
from .log import LogForwarder, LogFunction
from .mirror import MirrorMethods
from .operation import (
    CallMonitor,
    Operation,
    ProgressFunction,
    Result,
    control_for,
    keep_control,
)
from .settings import DEFAULT, Default, Seconds
from .stream import Handle, ReportStream

if TYPE_CHECKING:
    # Importing pathlib takes a third of this package's import time; few calls need it.
    from pathlib import Path

# Union[...]: evaluated by Python 3.9 too.
PathLike = Union[str, bytes, os.PathLike[str], os.PathLike[bytes]]


# The ids of the project, the instance and the report, and the locale, for C.
ReportIds = tuple[Optional[bytes], bytes, bytes, Optional[bytes]]


Method = TypeVar("Method", bound=Callable[..., Any])


def hides_arguments(method: Method) -> Method:
    """Decorates a method whose arguments are secrets.

    Reports of errors often include the local variables of each frame. So the traceback of
    an exception begins here, without the frames of the method.
    """

    @functools.wraps(method)
    def call(self: object, *args: Any, **more: Any) -> Any:
        try:
            return method(self, *args, **more)
        except BaseException as error:
            failure = error.with_traceback(None)
        finally:
            del args, more
        try:
            raise failure
        finally:
            # Otherwise the exception and this frame would be a reference cycle.
            del failure

    return cast("Method", call)


class Writer(Protocol):
    """An object that bytes can be written to."""

    def write(self, data: bytes, /) -> object:
        """Writes bytes. If it returns a number below their length, as a raw file may, it
        is called again with the rest. Anything else but a number means all of them."""


def version() -> str:
    """The version of libdbss that is loaded, such as "0.1.0"."""
    return ffi.decode(abi.version()) or ""


def has_feature(name: str) -> bool:
    """Whether the loaded libdbss has a feature, such as "download"."""
    if not isinstance(name, str):
        raise TypeError(f"name: must be str, not {type(name).__name__}")
    # No feature has a name that cannot be passed to C.
    encoded = name.encode("utf-8", "replace")
    return b"\0" not in encoded and bool(abi.has_feature(encoded))


def features() -> dict[str, str]:
    """The features of the loaded libdbss, with a description of each."""
    return {
        ffi.decode(abi.feature_name(index)) or "": ffi.decode(abi.feature_help(index)) or ""
        for index in range(abi.feature_count())
    }


class _Context(ffi.OwnedHandle[abi.Context]):
    """Owns a context of libdbss, and the objects that its calls need.

    Each running call holds a reference. So the context outlives its calls without
    a lock, which a fork could leave locked for ever.
    """

    def __init__(
        self, config: abi.Config, log: LogForwarder | None, provider: CallbackProvider | None
    ) -> None:
        super().__init__(abi.Context, abi.context_free)
        self.log = log
        self.provider = provider
        monitor = CallMonitor(None, log=log)
        try:
            monitor.run(abi.context_new, config, ffi.byref(self.pointer))
        finally:
            monitor.detach()


def _encode_endpoints(endpoint: str | Iterable[str]) -> bytes:
    """Encodes one URL or several for C."""
    if isinstance(endpoint, str):
        return ffi.encode("endpoint", endpoint)
    if isinstance(endpoint, bytes) or not isinstance(endpoint, Iterable):
        raise TypeError(
            f"endpoint: must be str or a sequence of them, not {type(endpoint).__name__}"
        )
    encoded = [ffi.encode("endpoint", one) for one in endpoint]
    if not encoded:
        raise errors.InvalidEndpointError("endpoint: the sequence is empty", parameter="endpoint")
    # C would read a URL with a comma as two.
    if any(b"," in one for one in encoded):
        raise errors.InvalidEndpointError(
            "endpoint: a URL must not hold a comma", parameter="endpoint"
        )
    return b",".join(encoded)


def _reject_several_credentials(kinds: Mapping[str, Iterable[object]]) -> None:
    """Raises TypeError if more than one kind of credentials is given."""
    kinds_given = [kind for kind, values in kinds.items() if any(one is not None for one in values)]
    if len(kinds_given) > 1:
        raise TypeError(
            f"{kinds_given[0]} and {kinds_given[1]} exclude each other; give one of them"
        )


def encode_ids(
    project_id: str | None, instance_id: str, report_id: str, locale: str | None
) -> ReportIds:
    """Encodes the ids of a report for C."""
    return (
        None if project_id is None else ffi.encode("project_id", project_id),
        ffi.encode("instance_id", instance_id),
        ffi.encode("report_id", report_id),
        None if locale is None else ffi.encode("locale", locale),
    )


def _plain_file_descriptor(target: object) -> int | None:
    """The descriptor of a file object that only writes to it; None for other objects."""
    if type(target) is io.FileIO:
        return target.fileno()
    if type(target) in (io.BufferedWriter, io.BufferedRandom):
        # Any, because it has one of two types.
        buffered: Any = target
        if type(buffered.raw) is io.FileIO:
            buffered.flush()
            return buffered.fileno()  # type: ignore[no-any-return]
    return None


def _writer(target: Any) -> Writer:
    """An object that bytes can be written to; raises an exception for others."""
    write = getattr(target, "write", None)
    if not callable(write) or isinstance(target, io.TextIOBase):
        raise TypeError(
            "path: must be a path, a descriptor, or an object that bytes can be written to, "
            f"not {type(target).__name__}"
        )
    ffi.check_function("path.write", write)
    if isinstance(target, io.IOBase) and not target.writable():
        raise ValueError("path: is a file object that is not open for writing")
    return target  # type: ignore[no-any-return]


def _write_all(target: Writer, chunk: bytes) -> None:
    # A raw file, or an object that wraps one, may write only a part, or nothing.
    while chunk:
        length = target.write(chunk)
        if length is None and isinstance(target, io.RawIOBase):
            length = 0
        if not isinstance(length, int) or isinstance(length, bool):
            return
        if length == 0:
            raise BlockingIOError("the file object takes nothing at the moment")
        if length < 0:
            raise OSError(f"write() returned {length}, which is no number of bytes")
        chunk = chunk[length:]


class Client(ReportMethods, MirrorMethods):
    """A connection to the Database Security Service, with credentials for it.

    Create one and share it. Any number of threads may use it at once, and a child
    process may use it after os.fork(). It keeps connections open between calls;
    close() or a ``with`` block ends them.

    Args:
        region: such as "cn-north-4". It selects the service's public endpoint,
            and the default project.
        endpoint: the URL of the service, instead of the region's; without a
            scheme it is https. Or several, in the order of preference: if one is
            unreachable, the client tries the next one, and uses it from then on.
        project_id: the id of the project for calls whose project is None. The
            default is the project of the credentials, or that of the region,
            which is looked up once.
        token: the IAM token (X-Auth-Token). You may also set it later, with
            set_token(). A client has only one of: a token, an access key, an IAM
            user, credentials and token_provider.
        access_key: the access key ID (AK), with secret_key. It signs each
            request.
        secret_key: the secret access key (SK).
        security_token: the security token of a temporary access key.
        iam_user: the name of an IAM user, with iam_password and iam_domain. The
            first call logs in. The token is renewed before it expires, and once
            when it is rejected.
        iam_password: the user's password. If IAM rejects it, the client does not
            send it again, because several wrong passwords lock a user. With
            passcode_provider the next call logs in again with a new passcode,
            so a wrong password is sent again.
        iam_domain: the name of the user's account.
        iam_user_id: the user's id, which IAM needs with a passcode.
        passcode_provider: a function, plain or a coroutine function, that returns a
            passcode of the user's MFA device, as a str. It is called before each
            login; its argument is whether IAM refused the last one. A passcode
            is sent once. It runs as token_provider does.
        agency_name: an agency to assume with the other credentials. Calls then
            use its temporary keys, and the projects of its account.
        agency_domain: the name of the agency's account.
        agency_domain_id: the id of the agency's account, instead of its name.
        agency_duration: seconds that a key of the agency is valid, 900 to 86400;
            the default is an hour. It is renewed before it expires.
        credentials: where to find credentials, as the official SDKs do:
            "oidc" (an agency for an OIDC token: HUAWEICLOUD_OIDC_PROVIDER_URN,
            _AGENCY_URN, _ID_TOKEN or _TOKEN_FILE and others), "environment"
            (HUAWEICLOUD_SDK_IDP_ID and _ID_TOKEN_FILE for a federated identity,
            else HUAWEICLOUD_SDK_AK, _SK, _SECURITY_TOKEN; with _PROJECT_ID),
            "profile" (~/.huaweicloud/credentials, or the file that
            HUAWEICLOUD_SDK_CREDENTIALS_FILE names), "metadata" (the temporary
            key of the agency of this machine, a cloud server), "pod_identity" (that of a pod's:
            HC_CONTAINER_CREDENTIALS_FULL_URI and
            HC_CONTAINER_AUTHORIZATION_TOKEN_FILE), or "default": these in this
            order. "federation" uses only the federated identity of the
            environment or the profile.
        token_provider: a function, plain or a coroutine function, that returns a
            token. It is called in the first call, before a token expires, and
            when a token is rejected. Its argument is whether the service
            rejected the last token. It returns a str, or a Token, which also has
            the expiry. It runs in a thread of the client, once for all waiting
            calls, each of which keeps its own timeouts and cancel. An exception
            that it raises is the ``__cause__`` of their NoTokenError. It must not
            use this client: a call in its thread raises BusyError. The thread
            ends with the client, so close() a client whose provider refers to it.
        iam_endpoint: the URL of IAM, for logins and for the lookup of a project.
            The default is that of the profile, of the variable
            HUAWEICLOUD_SDK_IAM_ENDPOINT, or of the region.
        sts_endpoint: the URL of STS, for "oidc". The default is that of the variable
            HUAWEICLOUD_SDK_STS_ENDPOINT, or of the region.
        metadata_endpoint: the URL of this machine's metadata service; the
            default is http://169.254.169.254.
        ca_file: a PEM file of the certificates to trust, instead of those of the
            system and the built-in ones.
        connect_timeout: seconds to establish a connection, 0.001 to 86400; the
            default is 10.
        stall_timeout: seconds without a byte in or out, 0.001 to 86400; the default
            is 60.
        total_timeout: seconds for a whole call, 0.001 to 2592000; the default is no
            limit. For each of the three, None is no limit.
        allow_plaintext: allow plain http to another host, which exposes the
            token and the report to the network.
        max_memory_bytes: the largest report to download into memory; None for
            the default of libdbss, 1 GiB.
        user_agent_suffix: text after "libdbss/VERSION" in User-Agent.
        max_attempts: how many attempts a call makes when the connection fails
            or breaks, or the service is overloaded, 1 to 1000; None for the
            default of libdbss, 3; 1 for no retries.
        max_retry_after: the longest wait, in seconds, that the service may
            request before another attempt, 0 to 86400; the default is 60.
        follow_redirects: follow redirects. Credentials never go to another
            origin.
        proxy: the URL of an HTTP proxy for all connections, such as
            "http://user:password@proxy.example.com:3128"; without a scheme it is
            http.
        proxy_from_environment: take the proxy from https_proxy, http_proxy,
            all_proxy and no_proxy, as they are now.
        wait_timeout: seconds to wait for a report that the service makes, 0.001 to
            2592000; None is no limit, and the default is an hour.
        poll_interval: seconds between checks for such a report, 0.001 to 86400; the
            default is 2. It grows with each check.
        log: a function that is called with a LogRecord for each event of a call,
            on the thread of the call. Or a logging.Logger, whose records have the
            same data as attributes (dbss_status, dbss_attempt and so on). No
            record holds a secret. An exception that it raises goes to
            sys.unraisablehook. It must not be a coroutine function.
        options: any other option of libdbss, by its key and as text; options()
            lists them.

    Raises:
        ArgumentError: an argument is invalid.
        NotConfiguredError: there is neither a region nor an endpoint; a part of
            an access key or user is missing; ``credentials`` names a place that
            has none.
        InvalidCredentialsError: the credentials in that place are malformed.
        FileError: the CA file, or the file of credentials, cannot be read.
        TypeError: an argument has the wrong type, or conflicts with another.
    """

    @hides_arguments
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
        # First, so that __repr__ and close() work if __init__ fails.
        self._context: _Context | None = None
        self._label = region
        values: dict[str, Any] = {
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
            "sts_endpoint": sts_endpoint,
            "metadata_endpoint": metadata_endpoint,
            # One by one; context_new() reports missing parts of a key or a user.
            "token": token,
            "access_key": access_key,
            "secret_key": secret_key,
            "security_token": security_token,
            "iam_user": iam_user,
            "iam_password": iam_password,
            "iam_domain": iam_domain,
            "iam_user_id": iam_user_id,
            "agency_name": agency_name,
            "agency_domain": agency_domain,
            "agency_domain_id": agency_domain_id,
            "agency_duration": agency_duration,
            "credentials": credentials,
        }
        _reject_several_credentials(
            {
                "a token": (token,),
                "an access key": (access_key, secret_key, security_token),
                "an IAM user": (iam_user, iam_password, iam_domain, iam_user_id, passcode_provider),
                "credentials to be found": (credentials,),
                "a token provider": (token_provider,),
            }
        )
        for name, function in (
            ("token_provider", token_provider),
            ("passcode_provider", passcode_provider),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: must be a function, not {type(function).__name__}")
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(f"options: must be a mapping, not {type(options).__name__}")
        log_forwarder = None if log is None else LogForwarder(log)
        with ffi.temporary_handle(abi.Config, abi.config_new, abi.config_free) as config:
            for key, text in (options or {}).items():
                abi.config_set(
                    config, ffi.encode("options", key), settings.encode_text("config", key, text)
                )
            if endpoint is not None:
                endpoints = _encode_endpoints(endpoint)
                abi.config_set_endpoint(config, endpoints)
                self._label = ffi.decode(endpoints)
            for encoded_key, value in settings.encode_options("config", values):
                abi.config_set(config, encoded_key, value)
            if log_forwarder is not None:
                ffi.set_log(config, log_forwarder.relay)
            provider = None
            if token_provider is not None:
                provider = CallbackProvider(config, token_provider)
            elif passcode_provider is not None:
                provider = CallbackProvider(config, passcode_provider, for_passcodes=True)
            self._context = _Context(config, log_forwarder, provider)

    def download_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> bytes:
        """Downloads an audit report into memory (the service's call DownloadAuditReport).

        A transfer that breaks is resumed or restarted.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            report_id: the id of the report, 16 to 64 characters.
            project_id: the id of the project; None for the client's.
            locale: its language, "en-us" or "zh-cn"; None for the service's
                default, en-us.
            operation: options, progress, cancel and result of this call.
            progress: a function, and no coroutine function, that is called with a
                Progress when the call starts, at least ten times a second while it
                runs, even if no bytes arrive, and when all bytes have arrived. If it
                returns False, the call ends with CancelledError. If it raises, the
                call raises that exception.

        Returns:
            The complete report, a PDF or a ZIP file. Anything less is an error.

        Raises:
            NotConfiguredError: there are no credentials, or no project.
            NoTokenError: the token provider returned no token.
            Error: the call failed. Its class and attributes say why.
            ClosedError: the client is closed.

        Other threads run while it waits. In the main thread, an exception of a
        signal handler, such as KeyboardInterrupt, ends the call within 250 ms,
        and the call raises it.
        """
        ids = encode_ids(project_id, instance_id, report_id, locale)
        buffer = abi.Buffer()

        def call(context: abi.Context, control: abi.Operation) -> bytes:
            abi.report_download_to_memory(context, *ids, control, ffi.byref(buffer))
            return ffi.buffer_bytes(buffer)

        try:
            return self._run_call(call, operation, progress)
        finally:
            abi.buffer_free(ffi.byref(buffer))

    @overload
    def download_report_to(
        self,
        instance_id: str,
        report_id: str,
        path: PathLike,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        replace: bool = False,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> Path: ...

    @overload
    def download_report_to(
        self,
        instance_id: str,
        report_id: str,
        path: int | Writer,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> None: ...

    def download_report_to(
        self,
        instance_id: str,
        report_id: str,
        path: PathLike | int | Writer,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        replace: bool = False,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> Path | None:
        """Downloads an audit report to a file, or to another target for bytes.

        A file appears under its name only when it is complete and on the disk.
        Until then, and after every failure, an existing file stays unchanged.
        During the transfer the data is in an unnamed file in the same directory.
        If the file system has no such files, it is a hidden ``.dbss-XXXXXX.part``.
        The option ``file_mode`` sets the permissions; the default is 0600.

        Args:
            path: where to save it. If it is a directory, or ends with a slash, the
                file gets the report's own sanitized name. The directory must exist.
                It may also be a descriptor or a file object that is open for
                writing bytes, or any object with a method ``write`` for bytes.
                Bytes written before a failure stay written, and the call raises
                what ``write`` raises. If ``write`` returns fewer bytes than it got,
                it is called again with the rest; 0, or None from a raw file, is a
                BlockingIOError. The call does not close the object.
            replace: replace an existing file, atomically, when the new one is
                complete.

        The other arguments are those of download_report().

        Returns:
            The path of the report; None if the target is not a path.

        Raises:
            FileExistsError: a file of this name exists, and ``replace`` is False.
            NotRegularFileError: the name is that of a directory, a link, a device.
            FileNotFoundError: the directory does not exist.
            PermissionError: the file must not be written.
            FileError: the file cannot be written for another reason.
            BrokenPipeError: the reader of the pipe has closed it.
            NotResumableError, TruncatedError: the transfer broke, and could be
                neither resumed nor restarted.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = encode_ids(project_id, instance_id, report_id, locale)
        settings.check_bool("replace", replace)
        if isinstance(path, (str, bytes, os.PathLike)):
            return self._download_to_path(ids, path, replace, operation, progress)
        if replace:
            raise ValueError("replace: only a path can be replaced")
        if isinstance(path, int) and not isinstance(path, bool):
            self._download_to_descriptor(ids, path, operation, progress)
            return None
        target = _writer(path)
        descriptor = _plain_file_descriptor(target)
        if descriptor is not None:
            self._download_to_descriptor(ids, descriptor, operation, progress)
            return None
        with self._open_stream(ids, operation, progress) as stream:
            for chunk in stream:
                _write_all(target, chunk)
        return None

    def _download_to_path(
        self,
        ids: ReportIds,
        path: PathLike,
        replace: bool,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Path:
        target = ffi.encode_path("path", path)
        is_directory = target.endswith(b"/") or os.path.isdir(target)
        download = abi.report_download_to_directory if is_directory else abi.report_download_to_file

        def call(context: abi.Context, control: abi.Operation) -> Path:
            download(context, *ids, target, abi.FILE_REPLACE if replace else 0, control)
            return ffi.decode_path(abi.operation_path(control) or target)

        return self._run_call(call, operation, progress)

    def _download_to_descriptor(
        self,
        ids: ReportIds,
        descriptor: int,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> None:
        # A C int has no larger values, and ctypes would truncate them.
        if not 0 <= descriptor < 2**31:
            raise errors.ArgumentError("path: is not an open descriptor", parameter="path")

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_download_to_fd(context, *ids, descriptor, control)

        self._run_call(call, operation, progress)

    def open_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        locale: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> ReportStream:
        """Opens an audit report for reading in parts, as a file.

        Waits until its first bytes arrive. If the transfer breaks later, it is
        resumed. If the service cannot resume it, the read fails. The stream ends
        when it or the client is closed. Until then it uses the operation.

        The arguments and exceptions are those of download_report(). If
        ``progress`` or a signal handler raises, the running read raises that
        exception, and the stream ends: later reads raise CancelledError.
        """
        return self._open_stream(
            encode_ids(project_id, instance_id, report_id, locale), operation, progress
        )

    def _open_stream(
        self,
        ids: ReportIds,
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> ReportStream:
        context = self._context_for_call()
        control = control_for(operation)
        monitor = CallMonitor(control, progress, context.log, context.provider)
        handle = Handle(abi.ReportStream, abi.report_stream_free)
        opening = threading.Lock()
        stream = None
        try:
            with opening:
                control.acquire(opening)
                try:
                    monitor.attach()
                    monitor.run(
                        abi.report_open,
                        context.pointer,
                        *ids,
                        control.pointer,
                        ffi.byref(handle.pointer),
                    )
                    stream = ReportStream(handle, control, monitor)
                    return stream
                except BaseException:
                    # First close the stream, if there is one, because it uses the operation.
                    # The exception may keep it alive.
                    abi.report_stream_close(handle.pointer)
                    del handle
                    if stream is None:
                        monitor.detach()
                    else:
                        stream.close()
                    raise
        finally:
            # Otherwise the exception would keep the context alive.
            del context

    def _run_call(
        self,
        call: Callable[[abi.Context, abi.Operation], Result],
        operation: Operation | None,
        progress: ProgressFunction | None,
    ) -> Result:
        """Runs a call of libdbss with an operation, a log and a progress function."""
        context = self._context_for_call()
        control = control_for(operation)
        monitor = CallMonitor(control, progress, context.log, context.provider)
        # Otherwise no callback would have an effect.
        needs_callbacks = (
            progress is not None
            or operation is not None
            or context.log is not None
            or threading.get_ident() == threading.main_thread().ident
        )
        running = threading.Lock()
        try:
            with running:
                control.acquire(running)
                try:
                    if needs_callbacks:
                        monitor.attach()
                    result = monitor.run(call, context.pointer, control.pointer)
                finally:
                    monitor.detach()
            keep_control(control)
            return result
        finally:
            # Otherwise the exception would keep the context alive.
            del context

    def find_credentials(self, *, operation: Operation | None = None) -> Credentials:
        """Finds the credentials that a call would use now.

        Asks the token provider, IAM or the metadata service, if one is configured
        and no token is cached. Use check() to see if the service accepts the
        credentials.

        Args:
            operation: options and cancel of this call.

        Raises:
            NotConfiguredError: there are none.
            NoTokenError: the token provider returned no token.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        found = abi.Credentials()

        def call(context: abi.Context, control: abi.Operation) -> Credentials:
            abi.context_find_credentials(context, control, ffi.byref(found))
            return credentials_module.credentials_from(found)

        try:
            return self._run_call(call, operation, None)
        finally:
            abi.credentials_free(found)

    def check(self, project_id: str | None = None, *, operation: Operation | None = None) -> None:
        """Checks that the service accepts the credentials; it downloads and changes nothing.

        Args:
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            UnauthenticatedError: it rejects them.
            ForbiddenError: it accepts them, but they lack the permission.
            Error: there are no credentials, or the call failed otherwise.
            ClosedError: the client is closed.
        """
        project = None if project_id is None else ffi.encode("project_id", project_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.context_check(context, project, control)

        self._run_call(call, operation, None)

    def cancel_all(self) -> None:
        """Cancels all running calls of this client, including open streams.

        Each ends with CancelledError, as after cancel() of its operation. Later
        calls are not affected. It does nothing when the client is closed.
        """
        context = self._context
        if context is not None:
            abi.context_cancel_all(context.pointer)

    @hides_arguments
    def set_token(self, token: str) -> None:
        """Replaces the credentials with a token.

        Later requests use the new token, also those of running calls: retries,
        and the rest of a list or a mirror. On failure the old credentials stay.

        Raises:
            InvalidTokenError: the token is not valid in a header.
            ClosedError: the client is closed.
        """
        context = self._require_context()
        try:
            abi.context_set_token(context.pointer, ffi.encode("token", token))
            # No call needs it any more.
            context.provider = None
        finally:
            del context

    def _require_context(self) -> _Context:
        context = self._context
        if context is None:
            raise errors.ClosedError("the client is closed", parameter="client")
        return context

    def _context_for_call(self) -> _Context:
        context = self._require_context()
        if context.provider is not None:
            context.provider.check_caller()
        return context

    def close(self) -> None:
        """Closes the client. Running calls in other threads, and open streams, end with
        CancelledError. Later calls raise ClosedError. Closing it again does nothing.
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
        state = "closed" if self._context is None else self._label or "open"
        return f"<dbss.Client {state}>"
