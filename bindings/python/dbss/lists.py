"""Lists, the schedules of templates, and the creation and deletion of reports."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Callable, Generic, TypeVar

from . import _abi as abi
from . import _items, errors, ffi, settings
from .operation import CallRunner, Operation, ProgressFunction, Reservation, control_for

Item = TypeVar("Item", "Instance", "Report", "Template", "Database", "Schedule")


class Instance(_items.InstanceFields):
    """An audit instance, as the service describes it; see Client.instances().

    A field that is missing or null is None. A text field whose value is not a string
    holds the JSON of the value.
    """


class Report(_items.ReportFields):
    """An audit report, as the service describes it; see Client.reports().

    A field that is missing or null is None. A text field whose value is not a string
    holds the JSON of the value.
    """

    @property
    def ready(self) -> bool:
        """Whether it can be downloaded."""
        return self.percentum is not None and self.percentum >= 100

    @property
    def starts_at(self) -> datetime | None:
        """``start_time`` in UTC; None if it is not like "2026-11-24 16:00:00".

        The service's times have no time zone. Its documents and SDKs suggest UTC.
        """
        return settings.parse_time(self.start_time)

    @property
    def ends_at(self) -> datetime | None:
        """``end_time``, as ``starts_at``."""
        return settings.parse_time(self.end_time)

    @property
    def finished_at(self) -> datetime | None:
        """``finish_time``, as ``starts_at``."""
        return settings.parse_time(self.finish_time)


class Template(_items.TemplateFields):
    """A template that reports are made from; see Client.templates().

    A field that is missing or null is None. A text field whose value is not a string
    holds the JSON of the value.
    """


class Database(_items.DatabaseFields):
    """A database that an instance audits, as the service describes it; see
    Client.databases().

    A field that is missing or null is None. A text field whose value is not a string
    holds the JSON of the value.
    """


class Schedule(_items.ScheduleFields):
    """The schedule on which the service makes reports from a template; see
    Client.schedule().

    A field that is missing or null is None. A text field whose value is not a string
    holds the JSON of the value.
    """


def _parse_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _parse_int(value: Any) -> int | None:
    """An integer, also from a string or a float; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _parse_list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _parse_bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_FIELDS: dict[object, dict[str, str]] = {
    Instance: _items.INSTANCE,
    Report: _items.REPORT,
    Template: _items.TEMPLATE,
    Database: _items.DATABASE,
    Schedule: _items.SCHEDULE,
}
_ALIASES: dict[object, dict[str, list[str]]] = {Instance: _items.INSTANCE_ALIASES}
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "text": _parse_text,
    "integer": _parse_int,
    "list": _parse_list,
    "boolean": _parse_bool,
}


def _parse_item(kind: Callable[..., Item], raw: dict[str, Any]) -> Item:
    fields = _FIELDS[kind]
    values = {name: _CONVERSIONS[type](raw.get(name)) for name, type in fields.items()}
    for name, aliases in _ALIASES.get(kind, {}).items():
        for alias in aliases:
            if values[name] is None:
                values[name] = _CONVERSIONS[fields[name]](raw.get(alias))
    values["id"] = values["id"] or ""
    return kind(**values, raw=raw)


class _Page(ffi.OwnedHandle[abi.Page]):
    """Owns a page of libdbss; its pointer is null until the page has arrived."""

    def __init__(self) -> None:
        super().__init__(abi.Page, abi.page_free)


class _Cursor(ffi.OwnedHandle[abi.Cursor]):
    """Owns a cursor of libdbss."""

    def __init__(self) -> None:
        super().__init__(abi.Cursor, abi.cursor_free)
        self.page = _Page()
        """Where the next page arrives."""

    def next(self, _: abi.Context, control: abi.Operation) -> None:
        """Fetches the next page; it stays null at the end."""
        abi.cursor_next(self.pointer, control, ffi.byref(self.page.pointer))


def _parse_page(page: abi.Page) -> dict[str, Any]:
    document = abi.Buffer()
    try:
        abi.page_json(page, ffi.byref(document))
        found: dict[str, Any] = json.loads(ffi.buffer_bytes(document))
        return found
    except (RecursionError, ValueError) as error:
        if isinstance(error, errors.Error):
            raise
        # Valid JSON that exceeds a limit of Python.
        message = f"the service's list is too much for Python: {error}"
        raise errors.UnexpectedResponseError(message) from None
    finally:
        abi.buffer_free(ffi.byref(document))


FetchPage = Callable[[_Cursor], None]


class Items(ffi.Uncopyable, Iterator[Item], Generic[Item]):
    """A list of the service; each page is fetched when it is needed.

    It can be iterated once, from any thread, but by one thread at a time. While one
    thread waits for a page, the others get BusyError. After any other exception, also
    one of a signal handler, next() continues with the same page: it fetches the page
    again, unless it has arrived already. So a page that Python cannot represent, which
    is an UnexpectedResponseError, stays the last one.
    """

    total: int | None
    """How many items the list has, according to its last page; None before the first
    page, or if the service does not report it."""

    def __init__(self, kind: Callable[..., Item], cursor: _Cursor, fetch: FetchPage) -> None:
        """Internal; Client creates it."""
        self.total = None
        self._kind: Callable[..., Item] = kind
        self._cursor: _Cursor | None = cursor
        self._fetch_page = fetch
        # The page of the cursor that was loaded last, and an iterator of its items. They
        # change in one step, so that an exception of a signal handler loses no page.
        self._loaded: tuple[_Page | None, Any] = (None, iter(()))
        self._loading = Reservation()

    def __next__(self) -> Item:
        while (item := self._pop()) is None:
            if not self._load_page():
                raise StopIteration
        return item

    def _pop(self) -> Item | None:
        """The next item, if it is already loaded."""
        # No call, after which a signal handler could raise and the item would be lost.
        item: Item
        for item in self._loaded[1]:
            return item
        return None

    def _load_page(self) -> bool:
        """Fetches the next page; False at the end."""
        loading = threading.Lock()
        with loading:
            if not self._loading.take(loading):
                raise errors.BusyError("list: is being read by another thread", parameter="list")
            loaded, items = self._loaded
            if items.__length_hint__():
                # Another thread has loaded a page meanwhile.
                return True
            cursor = self._cursor
            if cursor is None:
                return False
            if cursor.page is loaded:
                cursor.page = _Page()
            page = cursor.page
            # Otherwise it arrived in an earlier call, which an exception ended.
            if not page.pointer:
                self._fetch_page(cursor)
            if not page.pointer:
                self._cursor = None
                return False
            found = _parse_page(page.pointer)
            parsed = [_parse_item(self._kind, raw) for raw in found["items"]]
            self.total = found["total"]
            self._loaded = page, iter(parsed)
            if self._cursor is None:
                # The list was closed meanwhile.
                self._loaded = None, iter(())
            return True

    def close(self) -> None:
        """Closes the list; it yields no more items. Closing it again does nothing."""
        self._cursor = None
        self._loaded = None, iter(())

    def __repr__(self) -> str:
        return f"<dbss.Items of {getattr(self._kind, '__name__', '?')}>"


def _encode_optional(parameter: str, value: str | None) -> bytes | None:
    return None if value is None else ffi.encode(parameter, value)


def _page_size(page_size: int | None, most: int = 1000) -> int:
    if page_size is None:
        return 0
    size = settings.to_int("page_size", page_size)
    # ctypes would truncate other numbers.
    if not 0 <= size < 2**32:
        raise errors.InvalidValueError(
            f"page_size: must be at most {most}, or 0 for 100, but is {size}",
            parameter="page_size",
        )
    return size


def _join_ids(db_ids: str | Sequence[str] | None) -> str | None:
    if db_ids is None or isinstance(db_ids, str):
        return db_ids
    if not isinstance(db_ids, Sequence) or isinstance(db_ids, bytes):
        raise TypeError(f"db_ids: must be str or a sequence of them, not {type(db_ids).__name__}")
    for one in db_ids:
        if not isinstance(one, str):
            raise TypeError(f"db_ids: must hold only str, not {type(one).__name__}")
        # Joined, it would be several ids, or with no other one mean all databases.
        if not one or "," in one:
            raise errors.InvalidValueError(
                "db_ids: an id of a sequence must not be empty or hold a comma",
                parameter="db_ids",
            )
    return ",".join(db_ids)


@contextlib.contextmanager
def _new_report_spec(template_id: str, **more: str | None) -> Iterator[abi.ReportSpec]:
    """A report spec for C."""
    # encode_options() would omit None.
    ffi.encode("template_id", template_id)
    options = {"template_id": template_id, **more}
    with ffi.temporary_handle(abi.ReportSpec, abi.report_spec_new, abi.report_spec_free) as spec:
        for key, value in settings.encode_options("report_spec", options):
            abi.report_spec_set(spec, key, value)
        yield spec


class ReportMethods(CallRunner):
    """The methods of Client for lists, and for reports at the service."""

    def instances(
        self,
        project_id: str | None = None,
        *,
        page_size: int | None = None,
        operation: Operation | None = None,
    ) -> Items[Instance]:
        """Lists the audit instances of a project (the service's call ListAuditInstances).

        The service has the call in three versions. The first that it serves is used, and
        remembered for the client.

        Args:
            project_id: the id of the project; None for the client's.
            page_size: how many items a request fetches, 1 to 1000; None or 0 for
                100.
            operation: options and cancel of each page's request.

        Returns:
            An iterator, which fetches each page when it is needed. The list may
            change meanwhile. No item comes twice, and a deletion does not hide
            the items that remain.

        Raises:
            ArgumentError: an argument is invalid.
            ClosedError: the client is closed.

        The iterator raises an Error when it fails to fetch a page, and ClosedError
        when the client is closed.
        """
        project = _encode_optional("project_id", project_id)
        size = _page_size(page_size)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.instances_list(context, project, size, ffi.byref(cursor))

        return self._list(Instance, begin, operation)

    def reports(
        self,
        instance_id: str,
        *,
        name: str | None = None,
        project_id: str | None = None,
        page_size: int | None = None,
        operation: Operation | None = None,
    ) -> Items[Report]:
        """Lists the audit reports of an instance.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            name: a text, 1 to 256 bytes, that the service searches for in the names
                of reports; None for all reports.

        The other arguments and the exceptions are those of instances().
        """
        ids = self._encode_instance(project_id, instance_id)
        wanted = _encode_optional("name", name)
        size = _page_size(page_size)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.reports_list(context, *ids, wanted, size, ffi.byref(cursor))

        return self._list(Report, begin, operation)

    def templates(
        self,
        instance_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> Items[Template]:
        """Lists the templates of an instance, in one page.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.

        The other arguments and the exceptions are those of instances().
        """
        ids = self._encode_instance(project_id, instance_id)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.templates_list(context, *ids, ffi.byref(cursor))

        return self._list(Template, begin, operation)

    def databases(
        self,
        instance_id: str,
        *,
        status: str | None = None,
        project_id: str | None = None,
        page_size: int | None = None,
        operation: Operation | None = None,
    ) -> Items[Database]:
        """Lists the databases that an instance audits. Their ids are what ``db_ids`` of
        create_report() and update_schedule() means.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            status: "ON" or "OFF", to list only those; None for all.
            page_size: how many items a request fetches, 1 to 10000; None or 0 for
                100.

        The other arguments and the exceptions are those of instances().
        """
        ids = self._encode_instance(project_id, instance_id)
        wanted = _encode_optional("status", status)
        size = _page_size(page_size, 10_000)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.databases_list(context, *ids, wanted, size, ffi.byref(cursor))

        return self._list(Database, begin, operation)

    def schedule(
        self,
        instance_id: str,
        template_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> Schedule:
        """The schedule on which the service makes reports from a template.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            template_id: the id of one of its templates(), 16 to 64 characters.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            ArgumentError: an argument is invalid.
            NotFoundError: there is no such instance or template.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = self._encode_template(project_id, instance_id, template_id)

        def call(context: abi.Context, control: abi.Operation) -> Schedule:
            page = abi.Page()
            try:
                abi.schedule_show(context, *ids, control, ffi.byref(page))
                return _parse_item(Schedule, _parse_page(page)["items"][0])
            finally:
                abi.page_free(page)

        return self._run_call(call, operation, None)

    def update_schedule(
        self,
        instance_id: str,
        template_id: str,
        *,
        status: str | None = None,
        frequency: str | None = None,
        format: str | None = None,
        mode: str | None = None,
        start_time: str | None = None,
        notice: str | None = None,
        topic_urn: str | None = None,
        db_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Changes the schedule of a template.

        What is None stays as it is: the call gets the present schedule, and sends all
        of it back with the changes, including fields that this package does not know.
        A change that somebody else makes between these two requests is lost. The second
        request is sent again only if it cannot have taken effect, as that of
        create_report(). After another failure, such as a lost connection, the schedule
        may have been changed.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            template_id: the id of one of its templates(), 16 to 64 characters.
            status: "ON" or "OFF": whether the service makes reports.
            frequency: "AUDIT_REPORT_DAY", "AUDIT_REPORT_WEEK", "AUDIT_REPORT_MONTH",
                "AUDIT_REPORT_YEAR" or "AUDIT_REPORT_REAL_TIME".
            format: "ZIP" or "PDF".
            mode: the mode of scheduling, in a word of the service.
            start_time: when the schedule begins, in the format of the service.
            notice: "ON" or "OFF": whether the service sends a notification.
            topic_urn: the URN of the topic of SMN (Simple Message Notification) for
                it; "" for none.
            db_ids: the ids of the databases: a sequence, or one text with commas;
                empty for all.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            ArgumentError: an argument is invalid, or nothing is to be changed.
            NotFoundError: there is no such instance or template.
            RejectedError: the service responded that it did not do it.
            UnexpectedResponseError: the present schedule lacks a field that the
                service requires; pass it too.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = self._encode_template(project_id, instance_id, template_id)
        values = {
            "status": status,
            "frequency": frequency,
            "format": format,
            "mode": mode,
            "start_time": start_time,
            "notice": notice,
            "topic_urn": topic_urn,
            "db_ids": _join_ids(db_ids),
        }
        with ffi.temporary_handle(
            abi.ScheduleChanges, abi.schedule_changes_new, abi.schedule_changes_free
        ) as changes:
            for key, value in settings.encode_options("schedule", values):
                abi.schedule_changes_set(changes, key, value)

            def call(context: abi.Context, control: abi.Operation) -> None:
                abi.schedule_update(context, *ids, changes, control)

            self._run_call(call, operation, None)

    def _list(
        self,
        kind: Callable[..., Item],
        begin: Callable[[abi.Context, abi.Cursor], None],
        operation: Operation | None,
    ) -> Items[Item]:
        cursor = _Cursor()
        self._run_call(lambda context, _: begin(context, cursor.pointer), None, None)
        if operation is not None:
            # Check it now, as every other call does; it is used later.
            control_for(operation)
        return Items(kind, cursor, partial(self._fetch_page, operation))

    def _fetch_page(self, operation: Operation | None, cursor: _Cursor) -> None:
        self._run_call(cursor.next, operation, None)

    def create_report(
        self,
        instance_id: str,
        template_id: str,
        start_time: datetime | str,
        end_time: datetime | str,
        *,
        start_date: str | None = None,
        end_date: str | None = None,
        db_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Makes the service create a report, and does not wait for it.

        The service returns no id for it; generate_report() finds it and waits. The
        request is sent again only if it cannot have taken effect: if nothing of it was
        sent, if the response was HTTP 429 or 503, or if the credentials were rejected
        and could be renewed. After another failure, such as a lost connection, it is
        not repeated, because the report may have been created.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            template_id: the id of one of its templates(), 1 to 64 characters.
            start_time: the start of the range that the report covers: a datetime
                with a time zone, or text in the format of the service, such as
                "2026-11-24 16:00:00", which is UTC.
            end_time: the end of the range.
            start_date: in the format of the service; None to omit it.
            end_date: in the format of the service; None to omit it.
            db_ids: the ids of the databases: a sequence, or one text with commas;
                None to omit them.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            ArgumentError: an argument is invalid.
            RejectedError: the service responded that it did not do it.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = self._encode_instance(project_id, instance_id)
        with _new_report_spec(
            template_id,
            start_time=settings.format_time("start_time", start_time),
            end_time=settings.format_time("end_time", end_time),
            start_date=start_date,
            end_date=end_date,
            db_ids=_join_ids(db_ids),
        ) as spec:

            def call(context: abi.Context, control: abi.Operation) -> None:
                abi.report_create(context, *ids, spec, control)

            self._run_call(call, operation, None)

    def generate_report(
        self,
        instance_id: str,
        template_id: str,
        start_time: datetime | str,
        end_time: datetime | str,
        *,
        start_date: str | None = None,
        end_date: str | None = None,
        db_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> str:
        """Makes the service create a report, and waits until it can be downloaded.

        The arguments are those of create_report(). ``progress`` is called as by
        download_report(); only ``percent`` of its Progress is of use. The options
        ``wait_timeout`` and ``poll_interval`` of the operation or the client set
        how long it waits and how often it checks.

        Returns:
            The id of the new report.

        Raises:
            NotFoundError: there is no such instance or template, or the report
                was deleted meanwhile.
            NotReadyError: the report was not ready in time.
            AmbiguousError: several new reports may be this one; ``candidates``
                has their ids.
            Error: the call failed otherwise, as create_report() does. A report
                that was created is not deleted. If it was found before the
                failure, ``candidates`` has its id, for wait_for_report().
            ClosedError: the client is closed.

        Another exception, such as KeyboardInterrupt, what ``progress`` raises, or with
        asyncio a cancel or a timeout of the task, has no ``candidates``. So pass an
        Operation: its ``error.candidates`` has the id then.
        """
        ids = self._encode_instance(project_id, instance_id)
        buffer = ffi.id_buffer()
        with _new_report_spec(
            template_id,
            start_time=settings.format_time("start_time", start_time),
            end_time=settings.format_time("end_time", end_time),
            start_date=start_date,
            end_date=end_date,
            db_ids=_join_ids(db_ids),
        ) as spec:

            def call(context: abi.Context, control: abi.Operation) -> str:
                abi.report_generate(context, *ids, spec, control, buffer)
                return ffi.decode(buffer.value) or ""

            return self._run_call(call, operation, progress)

    def wait_for_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> None:
        """Waits until a report can be downloaded, by polling the list.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            report_id: the id of the report, 16 to 64 characters.
            project_id: the id of the project; None for the client's.
            operation: options, progress and cancel of this call.
            progress: as for generate_report().

        Raises:
            NotFoundError: there is no such report, or it was deleted meanwhile.
            NotReadyError: it was not ready within ``wait_timeout``.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = self._encode_report(project_id, instance_id, report_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_wait(context, *ids, control)

        self._run_call(call, operation, progress)

    def delete_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Deletes a report at the service, permanently.

        Args:
            instance_id: the id of the audit instance, 32 to 64 characters.
            report_id: the id of the report, 16 to 64 characters.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            NotFoundError: there is no such report.
            RejectedError: the service responded that it did not do it.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        ids = self._encode_report(project_id, instance_id, report_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_delete(context, *ids, control)

        self._run_call(call, operation, None)

    @staticmethod
    def _encode_instance(project_id: str | None, instance_id: str) -> tuple[bytes | None, bytes]:
        """Encodes the ids of an instance for C."""
        return _encode_optional("project_id", project_id), ffi.encode("instance_id", instance_id)

    def _encode_template(
        self, project_id: str | None, instance_id: str, template_id: str
    ) -> tuple[bytes | None, bytes, bytes]:
        """Encodes the ids of a template for C."""
        ids = self._encode_instance(project_id, instance_id)
        return *ids, ffi.encode("template_id", template_id)

    def _encode_report(
        self, project_id: str | None, instance_id: str, report_id: str
    ) -> tuple[bytes | None, bytes, bytes]:
        """Encodes the ids of a report for C."""
        return *self._encode_instance(project_id, instance_id), ffi.encode("report_id", report_id)
