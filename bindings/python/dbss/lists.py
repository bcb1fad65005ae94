"""Lists of instances, reports and templates, and reports that the service makes and deletes."""

from __future__ import annotations

import contextlib
import json
import operator
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Callable, Generic, TypeVar

from . import _abi as abi
from . import _items, errors, ffi, settings
from .operation import Operation, Performer, ProgressFunction

Item = TypeVar("Item", "Instance", "Report", "Template")


class Instance(_items.InstanceFields):
    """An audit instance, as the service describes it; see Client.instances().

    A field that is missing or null is None. One that is no text, though it should
    be, is here as its JSON.
    """


class Report(_items.ReportFields):
    """An audit report, as the service describes it; see Client.reports().

    A field that is missing or null is None. One that is no text, though it should
    be, is here as its JSON.
    """

    @property
    def ready(self) -> bool:
        """Whether it can be downloaded."""
        return self.percentum is not None and self.percentum >= 100


class Template(_items.TemplateFields):
    """A template that reports are made from; see Client.templates().

    A field that is missing or null is None. One that is no text, though it should
    be, is here as its JSON.
    """


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> int | None:
    """A whole number, in whatever way it is written; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


_FIELDS: dict[object, dict[str, str]] = {
    Instance: _items.INSTANCE,
    Report: _items.REPORT,
    Template: _items.TEMPLATE,
}
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"text": _text, "integer": _number, "list": _list}


def _item(kind: Callable[..., Item], raw: dict[str, Any]) -> Item:
    fields = _FIELDS[kind]
    known = {name: _CONVERSIONS[type](raw.get(name)) for name, type in fields.items()}
    if known["id"] is None:
        # The service's page calls an instance's id "id"; its SDK expects this.
        known["id"] = _text(raw.get("instance_id")) or ""
    return kind(**known, raw=raw)


class _Cursor(ffi.Owned[abi.Cursor]):
    """Owns a cursor of libdbss."""

    def __init__(self) -> None:
        super().__init__(abi.Cursor, abi.cursor_free)

    def next(self, _: abi.Context, control: abi.Operation) -> dict[str, Any] | None:
        """The next page; None at the end."""
        page = abi.Page()
        document = abi.Buffer()
        try:
            abi.cursor_next(self.pointer, control, ffi.byref(page))
            if not page:
                return None
            abi.page_json(page, ffi.byref(document))
            found: dict[str, Any] = json.loads(ffi.copy(document))
            return found
        except (RecursionError, ValueError) as error:
            if isinstance(error, errors.Error):
                raise
            # What is sound JSON and more than Python takes.
            message = f"the service's list is too much for Python: {error}"
            raise errors.UnexpectedResponseError(message) from None
        finally:
            abi.buffer_free(ffi.byref(document))
            abi.page_free(page)


Fetch = Callable[[_Cursor], "dict[str, Any] | None"]


class Items(Iterator[Item], Generic[Item]):
    """A list of the service that is read page by page, each when it is needed.

    It is iterated once, from any thread, but by one thread at a time: while one
    waits for a page, the others get BusyError. After another exception next()
    asks for the same page again.
    """

    total: int | None
    """How many items the list has, as the service said with the last page; None
    before the first, and where it does not say."""

    def __init__(self, kind: Callable[..., Item], cursor: _Cursor, fetch: Fetch) -> None:
        """For the package itself."""
        self.total = None
        self._kind: Callable[..., Item] = kind
        self._cursor: _Cursor | None = cursor
        self._fetch = fetch
        self._items: deque[Item] = deque()
        self._turn = threading.Lock()

    def __next__(self) -> Item:
        while (item := self.pop()) is None:
            if not self.load():
                raise StopIteration
        return item

    def pop(self) -> Item | None:
        """For the package itself: the next item, where it is here already."""
        # Without `except`, which would be told with an error of the next page.
        with contextlib.suppress(IndexError):
            return self._items.popleft()
        return None

    def load(self) -> bool:
        """For the package itself: asks for the next page; False at the end."""
        if not self._turn.acquire(blocking=False):
            raise errors.BusyError("list: is being read by another thread", parameter="cursor")
        try:
            if self._items:
                # Another thread's, that came meanwhile.
                return True
            cursor = self._cursor
            if cursor is None:
                return False
            page = self._fetch(cursor)
            if page is None:
                self._cursor = None
                return False
            self.total = page["total"]
            # A list that was closed meanwhile stays so.
            if self._cursor is not None:
                self._items.extend(_item(self._kind, raw) for raw in page["items"])
            return True
        finally:
            self._turn.release()

    def close(self) -> None:
        """Ends the list; nothing more comes. Closing it again does nothing."""
        self._cursor = None
        self._items.clear()

    def __repr__(self) -> str:
        return f"<dbss.Items of {getattr(self._kind, '__name__', '?')}>"


def _optional(parameter: str, value: str | None) -> bytes | None:
    return None if value is None else ffi.encode(parameter, value)


def _size(page_size: int | None) -> int:
    if page_size is None:
        return 0
    if isinstance(page_size, bool):
        raise TypeError("page_size: must be int, not bool")
    size = operator.index(page_size)
    # C would take another number for it.
    if not 0 <= size < 2**32:
        raise errors.InvalidValueError(
            f"page_size: must be at most 1000, or 0 for 100, and is {size}", parameter="page_size"
        )
    return size


def _joined(db_ids: str | Sequence[str] | None) -> str | None:
    if db_ids is None or isinstance(db_ids, str):
        return db_ids
    is_sequence = isinstance(db_ids, Sequence) and not isinstance(db_ids, bytes)
    if not is_sequence or not all(isinstance(one, str) for one in db_ids):
        raise TypeError(f"db_ids: must be str or a sequence of them, not {type(db_ids).__name__}")
    return ",".join(db_ids)


@contextlib.contextmanager
def _report_spec(**given: str | None) -> Iterator[abi.ReportSpec]:
    """What report is to be made, for C."""
    with ffi.made(abi.ReportSpec, abi.report_spec_new, abi.report_spec_free) as spec:
        for key, value in settings.encoded("report_spec", given):
            abi.report_spec_set(spec, key, value)
        yield spec


class Management(Performer):
    """What a Client does with lists, and with reports at the service."""

    def instances(
        self,
        project_id: str | None = None,
        *,
        page_size: int | None = None,
        operation: Operation | None = None,
    ) -> Items[Instance]:
        """Lists the audit instances of a project (the service's call ListAuditInstances).

        Args:
            project_id: the id of the project; None for the client's.
            page_size: how many the service is asked for at once, 1 to 1000; None
                or 0 for 100.
            operation: options and cancel of each page's request.

        Returns:
            An iterator, which asks the service for each page when it is needed.
            The list may change meanwhile: nothing comes twice, and what others
            delete does not make it leave out what stays.

        Raises:
            ArgumentError: an argument cannot be right.
            ClosedError: the client is closed.

        The iterator raises an Error where a page cannot be had, and ClosedError
        when the client is closed.
        """
        project = _optional("project", project_id)
        size = _size(page_size)

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
            instance_id: the id of the audit instance.
            name: a name to look for; None for all reports.

        The rest is as for instances().
        """
        names = self._instance(project_id, instance_id)
        wanted = _optional("name", name)
        size = _size(page_size)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.reports_list(context, *names, wanted, size, ffi.byref(cursor))

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
            instance_id: the id of the audit instance.

        The rest is as for instances().
        """
        names = self._instance(project_id, instance_id)

        def begin(context: abi.Context, cursor: abi.Cursor) -> None:
            abi.templates_list(context, *names, ffi.byref(cursor))

        return self._list(Template, begin, operation)

    def _list(
        self,
        kind: Callable[..., Item],
        begin: Callable[[abi.Context, abi.Cursor], None],
        operation: Operation | None,
    ) -> Items[Item]:
        cursor = _Cursor()
        self._perform(lambda context, _: begin(context, cursor.pointer), None, None)
        if operation is not None:
            # Now, as for every other call, though it is needed later.
            operation.control()
        return Items(kind, cursor, partial(self._fetch, operation))

    def _fetch(self, operation: Operation | None, cursor: _Cursor) -> dict[str, Any] | None:
        return self._perform(cursor.next, operation, None)

    def create_report(
        self,
        instance_id: str,
        template_id: str,
        start_time: str,
        end_time: str,
        *,
        start_date: str | None = None,
        end_date: str | None = None,
        db_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Has the service create a report, and does not wait for it.

        The service gives no id of it; generate_report() finds it and waits. A
        request that may have reached the service is not sent again, so a lost
        connection ends the call though the report may have been created.

        Args:
            instance_id: the id of the audit instance.
            template_id: the id of one of its templates().
            start_time: where the range begins that the report covers, in the form
                that the service takes.
            end_time: where it ends.
            start_date: as the service takes it; None for none.
            end_date: as the service takes it; None for none.
            db_ids: the ids of the databases: several of them, or one text with
                commas; None for none.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            ArgumentError: an argument cannot be right.
            RejectedError: the service responded that it did not.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        names = self._instance(project_id, instance_id)
        with _report_spec(
            template_id=template_id,
            start_time=start_time,
            end_time=end_time,
            start_date=start_date,
            end_date=end_date,
            db_ids=_joined(db_ids),
        ) as spec:

            def call(context: abi.Context, control: abi.Operation) -> None:
                abi.report_create(context, *names, spec, control)

            self._perform(call, operation, None)

    def generate_report(
        self,
        instance_id: str,
        template_id: str,
        start_time: str,
        end_time: str,
        *,
        start_date: str | None = None,
        end_date: str | None = None,
        db_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> str:
        """Has the service create a report, and waits until it can be downloaded.

        The arguments are those of create_report(). ``progress`` is called as by
        download_report(), with a Progress whose ``percent`` counts. How long it
        waits, and how often it looks, the ``wait_timeout`` and ``poll_interval``
        of the operation or of the client say.

        Returns:
            The id of the new report.

        Raises:
            NotFoundError: there is no such instance or template, or the report
                went meanwhile.
            NotReadyError: the report was not ready in time.
            AmbiguousError: several new reports may be this one; ``candidates``
                are their ids.
            Error: the call failed otherwise, as create_report() does. What was
                created stays.
            ClosedError: the client is closed.
        """
        names = self._instance(project_id, instance_id)
        room = ffi.room_for_id()
        with _report_spec(
            template_id=template_id,
            start_time=start_time,
            end_time=end_time,
            start_date=start_date,
            end_date=end_date,
            db_ids=_joined(db_ids),
        ) as spec:

            def call(context: abi.Context, control: abi.Operation) -> str:
                abi.report_generate(context, *names, spec, control, room)
                return ffi.decode(room.value) or ""

            return self._perform(call, operation, progress)

    def wait_for_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
        progress: ProgressFunction | None = None,
    ) -> None:
        """Waits until a report can be downloaded, by looking at the list now and then.

        Args:
            instance_id: the id of the audit instance.
            report_id: the id of the report.
            project_id: the id of the project; None for the client's.
            operation: options, progress and cancel of this call.
            progress: as for generate_report().

        Raises:
            NotFoundError: there is no such report, or it went meanwhile.
            NotReadyError: it was not ready within ``wait_timeout``.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        names = self._report(project_id, instance_id, report_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_wait(context, *names, control)

        self._perform(call, operation, progress)

    def delete_report(
        self,
        instance_id: str,
        report_id: str,
        *,
        project_id: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        """Deletes a report at the service, for ever.

        Args:
            instance_id: the id of the audit instance.
            report_id: the id of the report.
            project_id: the id of the project; None for the client's.
            operation: options and cancel of this call.

        Raises:
            NotFoundError: there is no such report.
            RejectedError: the service responded that it did not.
            Error: the call failed otherwise.
            ClosedError: the client is closed.
        """
        names = self._report(project_id, instance_id, report_id)

        def call(context: abi.Context, control: abi.Operation) -> None:
            abi.report_delete(context, *names, control)

        self._perform(call, operation, None)

    @staticmethod
    def _instance(project_id: str | None, instance_id: str) -> tuple[bytes | None, bytes]:
        """What names an instance, for C."""
        return _optional("project", project_id), ffi.encode("instance", instance_id)

    def _report(
        self, project_id: str | None, instance_id: str, report_id: str
    ) -> tuple[bytes | None, bytes, bytes]:
        """What names a report, for C."""
        return *self._instance(project_id, instance_id), ffi.encode("id", report_id)
