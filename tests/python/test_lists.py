"""Lists of instances, reports and templates; creation and deletion of reports."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import subprocess
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import lists

from mock_service import MockService
from test_official_sdk import (
    ListAuditInstancesNewRequest,
    ListAuditInstancesRequest,
    ListAuditReportTemplatesRequest,
    list_page,
    sdk_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def service(build_dir: Path) -> Iterator[MockService]:
    """A separate service, because a list of instances shows those of all tests."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@pytest.fixture(autouse=True)
def reset_mock(service: MockService) -> Iterator[None]:
    service.clear_requests()
    yield
    service.clear_faults()
    service.set_generation()
    service.set_shapes()
    service.set_paging()
    service.set_undocumented()


def connect(service: MockService, **more: Any) -> dbss.Client:
    settings = {"token": service.token, "project_id": service.project_id, "poll_interval": 0.01}
    return dbss.Client(**{"endpoint": service.http, **settings, **more})


@pytest.fixture
def client(service: MockService) -> Iterator[dbss.Client]:
    with connect(service) as one:
        yield one


@pytest.fixture
def client_without_retry(service: MockService) -> Iterator[dbss.Client]:
    """A client with a single attempt, so that one fault is enough."""
    with connect(service, max_attempts=1) as one:
        yield one


@pytest.fixture
def instance(service: MockService) -> Iterator[str]:
    """An instance without reports."""
    added = service.add_instance("for a test")
    yield added
    service.remove_instances([added])


@pytest.fixture
def template(service: MockService) -> dict[str, str]:
    return service.templates[0]


def ids(items: Any) -> list[str]:
    return [item.id for item in items]


def add(service: MockService, instance: str, **report: Any) -> str:
    """Adds a report, and returns its id."""
    return service.add_report(**{"format": "pdf", "instance": instance, **report})["id"]


def bodies(service: MockService, call: str) -> list[Any]:
    return [json.loads(one["body"]) for one in service.requests(call)]


# What all lists have in common.

LISTS: dict[str, tuple[str, str, str | None]] = {
    "instances": ("@instances", "instances", None),
    "reports": ("@reports.list", "reports", "report"),
    "templates": ("@templates", "templates", "template"),
    "databases": ("@databases", "databases", "database"),
}


class ListCall:
    """One of the lists."""

    def __init__(self, kind: str, instance: str) -> None:
        self.kind = kind
        self.call, self.key, self.wrapper = LISTS[kind]
        self.instance = instance

    def start(self, client: dbss.Client, **more: Any) -> dbss.Items[Any]:
        arguments = () if self.kind == "instances" else (self.instance,)
        return getattr(client, self.kind)(*arguments, **more)

    def item(self, **fields: Any) -> dict[str, Any]:
        return fields if self.wrapper is None else {self.wrapper: fields}

    def page(self, *items: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {self.key: [self.item(**one) for one in items], **more}


@pytest.fixture(params=LISTS)
def listing(request: pytest.FixtureRequest, service: MockService, instance: str) -> ListCall:
    """Each list, with at least one item."""
    add(service, instance)
    return ListCall(request.param, instance)


@pytest.fixture(params=["instances", "reports"])
def paged(request: pytest.FixtureRequest, instance: str) -> ListCall:
    return ListCall(request.param, instance)


# Pages.


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize("count", [0, 1, 250, 2500])
def test_reports_match_the_official_sdk(
    service: MockService,
    client: dbss.Client,
    instance: str,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    size: int,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    added = service.add_reports(count, instance=instance) if count else []
    found = client.reports(instance, page_size=size)
    assert found.total is None
    ours = ids(found)
    assert ours == added[::-1]
    assert found.total == (count or None)
    # Pages are as full as possible. After a full page comes another request, because the
    # total may be wrong.
    requested = bodies(service, "@reports.list")
    assert requested == [{"page": n + 1, "size": size} for n in range(count // size + 1)]

    # A page size of 1 is slow with the SDK; test_official_sdk.py tests it.
    their_size = 1000 if size == 1 else size
    sdk = sdk_client(service, service.secret_key)
    theirs, total = [], -1
    for page in range(1, -(-count // their_size) + 2):
        reports, total = list_page(sdk, instance, page, their_size)
        theirs += [report.id for report in reports]
    assert (theirs, total) == (ours, count)


# The SDK calls the path deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize("count", [0, 1, 250, 2500])
def test_instances_match_the_official_sdk(
    build_dir: Path, monkeypatch: pytest.MonkeyPatch, count: int, size: int
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with MockService(build_dir / "bin/dbss-mock") as other, connect(other) as client:
        other.remove_instances([other.instance_id])
        added = other.add_instances(count) if count else []
        found = client.instances(page_size=size)
        ours = ids(found)
        assert ours == added
        assert found.total == (count or None)
        requested = [one["query"] for one in other.requests("@instances")]
        assert requested == [f"offset={size * n}&limit={size}" for n in range(count // size + 1)]

        their_size = 1000 if size == 1 else size
        sdk = sdk_client(other, other.secret_key)
        theirs, total = [], -1
        for offset in range(0, count + 1, their_size):
            response = sdk.list_audit_instances(ListAuditInstancesRequest(offset, their_size))
            theirs += [one.id for one in response.servers]
            total = response.total
        assert (theirs, total) == (ours, count)

        # The other versions, with the format that the SDK expects at each.
        other.set_shapes(instances="instances", versions=["v1"])
        response = sdk.list_audit_instances_new(ListAuditInstancesNewRequest())
        assert [one.instance_id for one in response.instances] == ours[:100]
        assert ids(client.instances(page_size=size)) == ours


def test_templates_match_the_official_sdk(
    service: MockService, client: dbss.Client, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = client.templates(instance)
    ours = list(found)
    assert found.total == len(ours) == len(service.templates)
    sdk = sdk_client(service, service.secret_key)
    response = sdk.list_audit_report_templates(ListAuditReportTemplatesRequest(instance))
    for own, their in zip(ours, [one.template for one in response.templates], strict=True):
        assert own == dataclasses.replace(own, **their.to_dict())


def test_page_size_unset_requests_100(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    service.add_reports(101, instance=instance)
    for size in (None, 0):
        service.clear_requests()
        assert len(list(client.reports(instance, page_size=size))) == 101
        assert [one["size"] for one in bodies(service, "@reports.list")] == [100, 100]


def test_page_is_fetched_when_needed(
    service: MockService, client: dbss.Client, paged: ListCall
) -> None:
    before = 2 if paged.kind == "instances" else 0
    service.add_reports(5, instance=paged.instance)
    more = service.add_instances(3)
    try:
        found = paged.start(client, page_size=2)
        assert service.requests(paged.call) == []
        seen = []
        for number, item in enumerate(found):
            seen.append(item.id)
            assert len(service.requests(paged.call)) == number // 2 + 1
        assert len(seen) == 5, before
        assert next(found, None) is None
        # The end is known from the total.
        assert len(service.requests(paged.call)) == 3
    finally:
        service.remove_instances(more)


@pytest.mark.parametrize("size", [1, 7, 10, 100])
@pytest.mark.parametrize("steps", [1, 3])
def test_list_with_concurrent_deletions_skips_nothing(
    service: MockService, client: dbss.Client, paged: ListCall, size: int, steps: int
) -> None:
    if paged.kind == "instances":
        added = service.add_instances(60)
        remove: Callable[[list[str]], int] = service.remove_instances
        expected = ids(client.instances())
    else:
        expected = service.add_reports(60, instance=paged.instance)[::-1]
        remove = service.remove_reports
        added = expected
    try:
        found = paged.start(client, page_size=size)
        seen: list[str] = []
        gone: set[str] = set()
        for step in range(steps):
            seen += [next(found).id for _ in range(11)]
            # Some seen already, and some to come.
            some = [one for one in added if one not in gone][step : step + 40 : 5]
            assert remove(some) == len(some)
            gone |= set(some)
        seen += ids(found)
        assert len(seen) == len(set(seen))
        # Items that were seen before their deletion are allowed.
        assert [one for one in expected if one not in gone] == [
            one for one in seen if one not in gone
        ]
        assert set(seen) <= set(expected)
    finally:
        remove(added)


@pytest.mark.parametrize("lists_before", [1, 2, 3])
def test_list_with_deletion_right_after_page_skips_nothing(
    service: MockService, client: dbss.Client, instance: str, lists_before: int
) -> None:
    added = service.add_reports(30, instance=instance)[::-1]
    gone = added[:9]
    service.delete_after(lists_before, gone)
    seen = ids(client.reports(instance, page_size=10))
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one not in gone] == added[9:]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_list_with_concurrent_additions_repeats_nothing(
    service: MockService, client: dbss.Client, paged: ListCall, size: int
) -> None:
    add: Callable[[], list[str]]
    if paged.kind == "instances":
        service_ids = service.add_instances(20)
        expected = ids(client.instances())

        def add() -> list[str]:
            return service.add_instances(3)
    else:
        service_ids = service.add_reports(20, instance=paged.instance)
        expected = service_ids[::-1]

        def add() -> list[str]:
            return service.add_reports(3, instance=paged.instance)

    new: list[str] = []
    try:
        found = paged.start(client, page_size=size)
        seen = []
        for number, item in enumerate(found):
            seen.append(item.id)
            if number in (0, 8, 14):
                new += add()
        assert len(seen) == len(set(seen))
        assert [one for one in seen if one not in new] == expected
    finally:
        if paged.kind == "instances":
            service.remove_instances(service_ids + new)


def test_list_with_name_searches_for_it(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    added = service.add_reports(3, instance=instance, name="Wöchentlicher „Bericht“")
    service.add_reports(2, instance=instance, name="other")
    found = client.reports(instance, name="öchentlicher „", page_size=2)
    assert ids(found) == added[::-1]
    assert found.total == 3
    assert bodies(service, "@reports.list") == [
        {"name": "öchentlicher „", "page": page, "size": 2} for page in (1, 2)
    ]
    assert ids(client.reports(instance, name="none of this name")) == []


# Fields.


def test_report_has_the_fields_of_the_response(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    fields_sent = {
        "name": "审计",
        "format": "zip",
        "percentum": 73,
        "type": "AUDIT_REPORT_FORTNIGHT",
        "template_type": "PCI",
        "start_time": "2026-01-01 00:00:00",
        "end_time": "2026-01-08 00:00:00",
        "finish_time": None,
        "db_ids": "7,8",
        "db_names": "订单",
        "url": "/somewhere",
    }
    extra = {"from_the_future": {"a": [1, None, 1.5]}, "large": 2**70}
    added = add(service, instance, extra=extra, omit=["url"], **fields_sent)
    [report] = client.reports(instance)
    assert {name: getattr(report, name) for name in fields_sent} == {**fields_sent, "url": None}
    assert report.id == added
    assert not report.ready
    assert "url" not in report.raw
    assert {name: report.raw[name] for name in extra} == extra
    assert report.raw["finish_time"] is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.name = "another"  # type: ignore[misc]
    assert hash(report) == hash(next(client.reports(instance)))
    assert report == next(client.reports(instance))
    assert "from_the_future" not in repr(report)


def test_instance_has_the_fields_of_the_response(service: MockService, client: dbss.Client) -> None:
    extra = {"status": "TELEPORTING", "remain_days": 7, "connect_ip": None, "news": True}
    added = service.add_instance("审计", extra=extra, omit=["version"])
    try:
        [*_, one] = client.instances()
        assert (one.id, one.name, one.status, one.remain_days) == (
            added,
            "审计",
            "TELEPORTING",
            "7",
        )
        assert one.connect_ip is None
        assert one.version is None
        assert "version" not in one.raw
        assert one.raw["news"] is True
    finally:
        service.remove_instances([added])


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        (None, None, None),
        ("12", "12", 12),
        ("", "", None),
        ("100 %", "100 %", None),
        (12, "12", 12),
        (12.7, "12.7", 12),
        (True, "true", None),
        ([1, "ö"], '[1, "ö"]', None),
        ({"a": None}, '{"a": null}', None),
        ("a\0b\x1b", "a\0b\x1b", None),
        ("1e999", "1e999", None),
        (2**60, str(2**60), 2**60),
    ],
)
def test_field_of_another_type_is_converted(
    service: MockService,
    client: dbss.Client,
    instance: str,
    value: Any,
    text: str | None,
    number: int | None,
) -> None:
    add(service, instance, percentum=value, extra={"name": value})
    [report] = client.reports(instance)
    assert (report.name, report.percentum) == (text, number)
    assert report.raw["name"] == report.raw["percentum"] == value


def test_report_is_ready_only_at_100_percent(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    for percentum in (None, 0, 99, 100, "100", 100.0):
        add(service, instance, percentum=percentum)
    found = list(client.reports(instance))[::-1]
    assert [one.ready for one in found] == [False, False, False, True, True, True]


# Arguments.


def test_invalid_argument_is_rejected_before_any_traffic(
    service: MockService, client: dbss.Client
) -> None:
    refused: list[tuple[Callable[[], object], type[dbss.Error], str]] = [
        (lambda: client.instances("x"), dbss.InvalidIdError, "project"),
        (lambda: client.instances("x" * 32 + "\0"), dbss.InvalidIdError, "project"),
        (lambda: client.reports("x"), dbss.InvalidIdError, "instance"),
        (lambda: client.templates("../" + ID), dbss.InvalidIdError, "instance"),
        (lambda: client.reports(ID, name=""), dbss.InvalidValueError, "name"),
        (lambda: client.reports(ID, name="n" * 257), dbss.InvalidValueError, "name"),
        (lambda: client.reports(ID, name="\udc80"), dbss.InvalidUtf8Error, "name"),
        (lambda: client.instances(page_size=1001), dbss.InvalidValueError, "page_size"),
        (lambda: client.instances(page_size=-1), dbss.InvalidValueError, "page_size"),
        (lambda: client.instances(page_size=2**32 + 1), dbss.InvalidValueError, "page_size"),
        (lambda: client.create_report("x", ID, *TIME_RANGE), dbss.InvalidIdError, "instance"),
        (lambda: client.create_report(ID, "", *TIME_RANGE), dbss.InvalidIdError, "template_id"),
        (lambda: client.create_report(ID, "a/b", *TIME_RANGE), dbss.InvalidIdError, "template_id"),
        (lambda: client.create_report(ID, "a\0", *TIME_RANGE), dbss.InvalidIdError, "template_id"),
        (lambda: client.create_report(ID, ID, "", "e"), dbss.InvalidValueError, "start_time"),
        (lambda: client.create_report(ID, ID, "s", "\n"), dbss.InvalidValueError, "end_time"),
        (
            lambda: client.create_report(ID, ID, *TIME_RANGE, start_date="x" * 4097),
            dbss.InvalidValueError,
            "start_date",
        ),
        (
            lambda: client.create_report(ID, ID, *TIME_RANGE, end_date="\0"),
            dbss.InvalidValueError,
            "end_date",
        ),
        (
            lambda: client.create_report(ID, ID, *TIME_RANGE, db_ids=[]),
            dbss.InvalidValueError,
            "db_ids",
        ),
        (lambda: client.generate_report(ID, ID, "", "e"), dbss.InvalidValueError, "start_time"),
        (lambda: client.wait_for_report(ID, "x"), dbss.InvalidIdError, "id"),
        (lambda: client.delete_report(ID, "x" * 65), dbss.InvalidIdError, "id"),
        (lambda: client.delete_report(ID, ID, project_id="x"), dbss.InvalidIdError, "project"),
    ]
    before = service.connections()["total"]
    for call, kind, parameter in refused:
        with pytest.raises(kind) as caught:
            call()
        assert caught.type is kind
        assert caught.value.parameter == parameter
    wrong: list[Callable[[Any], object]] = [
        lambda value: client.instances(value),
        lambda value: client.instances(page_size=value),
        lambda value: client.reports(value),
        lambda value: client.reports(ID, name=value),
        lambda value: client.create_report(ID, value, *TIME_RANGE),
        lambda value: client.create_report(ID, ID, value, "e"),
        lambda value: client.create_report(ID, ID, *TIME_RANGE, db_ids=value),
        lambda value: client.create_report(ID, ID, *TIME_RANGE, db_ids=[value]),
        lambda value: client.delete_report(ID, value),
    ]
    for one in wrong:
        for value in (b"bytes", 1.5, {1}):
            with pytest.raises(TypeError):
                one(value)
    with pytest.raises(TypeError):
        client.instances(page_size=True)
    assert service.connections()["total"] == before


def test_closed_client_or_operation_raises_closed_error(
    service: MockService, instance: str
) -> None:
    service.add_reports(2, instance=instance)
    client = connect(service)
    found = client.reports(instance, page_size=1)
    next(found)
    client.close()
    for call in (
        lambda: next(found),
        lambda: client.instances(),
        lambda: client.create_report(instance, ID, *TIME_RANGE),
        lambda: client.delete_report(instance, ID),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    operation = dbss.Operation()
    operation.close()
    with connect(service) as client, pytest.raises(ValueError, match="closed"):
        client.instances(operation=operation)


def test_invalid_duration_is_rejected() -> None:
    for settings in (
        {"wait_timeout": 0},
        {"wait_timeout": -1},
        {"poll_interval": 0},
        {"poll_interval": 90000},
        {"wait_timeout": float("nan")},
    ):
        with pytest.raises(dbss.InvalidValueError) as caught:
            dbss.Operation(**settings)
        assert caught.value.parameter == f"{next(iter(settings))}_ms"
        with pytest.raises(dbss.InvalidValueError):
            dbss.Client(endpoint="http://127.0.0.1:1", **settings)
    dbss.Operation(wait_timeout=None, poll_interval=86400).close()


# The iterator.


def test_list_error_has_no_chained_exception(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    service.add_reports(3, instance=instance)
    service.fault("@reports.list", status=403, json={"error_code": "DBSS.9"})
    found = client.reports(instance)
    for use in (lambda: next(found), lambda: list(found)):
        with pytest.raises(dbss.ForbiddenError) as caught:
            use()
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback") == 1


def test_abandoned_list_frees_its_cursor(
    service: MockService, client: dbss.Client, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.add_reports(3, instance=instance)
    freed = []
    real = lists.abi.cursor_free

    def free(pointer: Any) -> None:
        freed.append(bool(pointer))
        real(pointer)

    monkeypatch.setattr(lists.abi, "cursor_free", free)
    gc.disable()
    try:
        found = client.reports(instance, page_size=2)
        next(found)
        assert freed == []
        found.close()
        assert freed == [True]
        assert list(found) == []
        found.close()
        # Read to its end; abandoned after the first item; never read.
        found = client.reports(instance, page_size=2)
        assert len(list(found)) == 3
        assert freed == [True] * 2
        found = client.reports(instance, page_size=2)
        next(found)
        cursor = weakref.ref(found)
        del found
        assert cursor() is None
        assert freed == [True] * 3
        client.reports(instance)
        assert freed == [True] * 4
        with pytest.raises(dbss.InvalidIdError):
            client.reports("x")
        assert freed[4:] in ([], [False])
    finally:
        gc.enable()


def test_list_can_be_read_by_several_threads(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    added = service.add_reports(40, instance=instance)[::-1]
    found = client.reports(instance, page_size=3)
    seen = []
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for turn in range(len(added)):
            seen.append((one if turn % 2 else other).submit(next, found).result(TIMEOUT).id)
    assert seen == added

    # Concurrently: each item once, or BusyError.
    found = client.reports(instance, page_size=3)
    taken: list[str] = []
    refused: list[int] = []

    def take() -> None:
        while True:
            try:
                taken.append(next(found).id)
            except dbss.BusyError:
                refused.append(1)
            except StopIteration:
                return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(taken) == sorted(added)


def test_concurrent_lists_are_independent(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    added = service.add_reports(100, instance=instance)[::-1]
    with ThreadPoolExecutor(8) as pool:
        results = [
            pool.submit(lambda: ids(client.reports(instance, page_size=7))) for _ in range(16)
        ]
        assert all(one.result(TIMEOUT) == added for one in results)


def test_list_continues_after_failure(
    service: MockService, client_without_retry: dbss.Client, paged: ListCall
) -> None:
    added = service.add_reports(5, instance=paged.instance)[::-1]
    more = service.add_instances(4)
    try:
        expected = added if paged.kind == "reports" else ids(client_without_retry.instances())
        found = paged.start(client_without_retry, page_size=2)
        seen = [next(found).id, next(found).id]
        service.fault(paged.call, cut_after=5, times=1)
        with pytest.raises(dbss.TruncatedError) as caught:
            next(found)
        assert caught.value.retryable
        assert seen + ids(found) == expected
    finally:
        service.remove_instances(more)


def test_list_cancel_ends_the_wait(
    service: MockService, client: dbss.Client, paged: ListCall
) -> None:
    service.add_reports(3, instance=paged.instance)
    service.fault(paged.call, no_answer=True, skip=1, times=1)
    more = service.add_instances(2)
    try:
        with dbss.Operation() as operation:
            found = paged.start(client, page_size=1, operation=operation)
            first = next(found).id
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(next, found)
                while len(service.requests(paged.call)) < 2:
                    pass
                operation.cancel()
                with pytest.raises(dbss.CancelledError):
                    waiting.result(TIMEOUT)
            with pytest.raises(dbss.CancelledError):
                next(found)
            operation.reset()
            rest = ids(found)
        assert first not in rest
        assert len(rest) >= 2
    finally:
        service.remove_instances(more)


def test_list_operation_has_options_and_error(
    service: MockService, client: dbss.Client, listing: ListCall
) -> None:
    service.fault(listing.call, no_answer=True, times=1)
    with dbss.Operation(stall_timeout=0.2, max_attempts=1) as operation:
        found = listing.start(client, operation=operation)
        with pytest.raises(dbss.StalledError):
            next(found)
        assert isinstance(operation.error, dbss.StalledError)
        assert operation.attempts == 1
        next(found)
        assert operation.error is None
        assert operation.percent is None


# Responses of the service.

MALFORMED_LISTS: dict[str, dict[str, Any]] = {
    "empty": {"body": ""},
    "not JSON": {"body": "not json"},
    "truncated JSON": {"body": '{"KEY": [', "headers": [["Content-Type", "application/json"]]},
    "HTML": {"body": "<html><body>Welcome</body></html>"},
    "an array": {"json": []},
    "a number": {"json": 7},
    "null": {"json": None},
    "list missing": {"json": {"total": 0}},
    "list null": {"json": {"KEY": None, "total": 0}},
    "list an object": {"json": {"KEY": {}, "total": 0}},
    "list a string": {"json": {"KEY": "x", "total": 0}},
    "item null": {"json": {"KEY": [None], "total": 1}},
    "item a string": {"json": {"KEY": ["x"], "total": 1}},
    "item an array": {"json": {"KEY": [[]], "total": 1}},
    "inner item null": {"json": {"KEY": ["ITEM:null"], "total": 1}},
    "inner item a number": {"json": {"KEY": ["ITEM:7"], "total": 1}},
    "id missing": {"json": {"KEY": ['ITEM:{"name": "x"}'], "total": 1}},
    "id null": {"json": {"KEY": ['ITEM:{"id": null}'], "total": 1}},
    "id empty": {"json": {"KEY": ['ITEM:{"id": ""}'], "total": 1}},
    "total a string": {"json": {"KEY": [], "total": "0"}},
    "total negative": {"json": {"KEY": [], "total": -1}},
    "total a fraction": {"json": {"KEY": [], "total": 1.5}},
    "total huge": {"json": {"KEY": [], "total": 2**64}},
    "total an array": {"json": {"KEY": [], "total": []}},
    "20 MB": {"fill": {"size": 20 * MIB, "byte": 32}},
    "not UTF-8": {"body_base64": "eyJLRVkiOiBbIv8iXX0="},
    "two documents": {"body": '{"KEY": [], "total": 0} {}'},
}


def expand_placeholders(listing: ListCall, fault: dict[str, Any]) -> dict[str, Any]:
    def item(match: re.Match[str]) -> str:
        inner = json.loads(f'"{match[1]}"')
        return inner if listing.wrapper is None else f'{{"{listing.wrapper}": {inner}}}'

    text = json.dumps(fault).replace("KEY", listing.key)
    return json.loads(re.sub(r'"ITEM:((?:[^"\\]|\\.)*)"', item, text))


@pytest.mark.parametrize("what", MALFORMED_LISTS)
def test_malformed_list_is_rejected(
    service: MockService, client: dbss.Client, listing: ListCall, what: str
) -> None:
    headers = [["X-Request-Id", "request-0001"]]
    fault = expand_placeholders(listing, MALFORMED_LISTS[what])
    fault["headers"] = fault.get("headers", []) + headers
    service.fault(listing.call, **fault)
    with pytest.raises(dbss.UnexpectedResponseError) as caught:
        next(listing.start(client))
    error = caught.value
    assert (error.http_status, error.request_id, error.attempts) == (200, "request-0001", 1)
    assert not error.retryable
    assert len(str(error)) < 2000
    # A retry would get the same response.
    assert len(service.requests(listing.call)) == 1
    service.clear_faults()
    assert listing.start(client) is not None


def test_item_without_wrapper_is_rejected(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    for kind in ("reports", "templates"):
        listing = ListCall(kind, instance)
        service.fault(listing.call, json={listing.key: [{"id": ID}], "total": 1}, times=1)
        with pytest.raises(dbss.UnexpectedResponseError, match=f'"{listing.wrapper}"'):
            next(listing.start(client))


@pytest.mark.parametrize("nested", ["deep", "long"])
def test_list_beyond_python_limits_is_rejected(
    service: MockService, client: dbss.Client, listing: ListCall, nested: str
) -> None:
    value = "[" * 200000 + "]" * 200000 if nested == "deep" else "9" * 10000
    item = f'{{"id": "{ID}", "more": {value}}}'
    if listing.wrapper:
        item = f'{{"{listing.wrapper}": {item}}}'
    service.fault(listing.call, body=f'{{"{listing.key}": [{item}], "total": 1}}', times=1)
    with pytest.raises(dbss.UnexpectedResponseError):
        next(listing.start(client))


def test_unusual_valid_list_is_accepted(
    service: MockService, client: dbss.Client, listing: ListCall
) -> None:
    service.fault(listing.call, json=listing.page(total=0), times=1)
    assert list(listing.start(client)) == []
    # Without a total, or with null; with unknown fields.
    for total in ({}, {"total": None}):
        page = listing.page({"id": "a"}, {"id": "b"}, os_type="Linux", more=[1], **total)
        service.fault(listing.call, json=page, times=1)
        service.fault(listing.call, json=listing.page(**total))
        found = listing.start(client)
        assert ids(found) == ["a", "b"]
        assert found.total == (2 if listing.kind == "templates" else None)
        service.clear_faults()
    # The same item twice in one page.
    service.fault(listing.call, json=listing.page({"id": "a"}, {"id": "a"}, total=2))
    assert ids(listing.start(client)) == ["a"]
    service.clear_faults()
    # An id that is a number.
    service.fault(listing.call, json=listing.page({"id": 7}, total=1), times=1)
    assert ids(listing.start(client)) == ["7"]
    # White space around the JSON.
    body = f"\n\t {json.dumps(listing.page({'id': 'a'}, total=1))} \r\n"
    service.fault(listing.call, body=body, times=1)
    assert ids(listing.start(client)) == ["a"]


def test_endless_list_is_rejected(
    service: MockService, client: dbss.Client, paged: ListCall
) -> None:
    for page in (
        paged.page({"id": "a"}, total=1000),
        paged.page({"id": "a"}, {"id": "b"}, {"id": "c"}, total=1000000),
        paged.page({"id": "a"}),
    ):
        service.clear_requests()
        service.fault(paged.call, json=page)
        found = paged.start(client, page_size=1)
        seen: list[str] = []
        with pytest.raises(dbss.UnexpectedResponseError, match="repeats the same items"):
            seen.extend(item.id for item in found)
        assert len(seen) == len(set(seen)) <= 3
        assert len(service.requests(paged.call)) < 10
        service.clear_faults()


PAGING: dict[str, dict[str, Any]] = {
    "capped": {"cap": 4},
    "capped without total": {"cap": 4, "total": "missing"},
    "the last one again": {"last_page_again": True},
    "the last one again without total": {"last_page_again": True, "total": "missing"},
    "in any order": {"shuffle": True},
    "total 0": {"total": 0},
    "total too small": {"total": 7},
    "total too small at a page": {"total": 20},
    "total too large": {"total": 40},
    "total far too large": {"total": 10**6},
    "total null": {"total": "null"},
    "total of the page": {"total": "page"},
}


@pytest.mark.parametrize("size", [7, 10, 100])
@pytest.mark.parametrize("what", PAGING)
def test_wrong_pages_lose_and_double_nothing(
    service: MockService, client: dbss.Client, paged: ListCall, what: str, size: int
) -> None:
    service.add_reports(25, instance=paged.instance)
    more = service.add_instances(23)
    try:
        expected = ids(paged.start(client, page_size=1000))
        assert len(expected) == 25
        service.clear_requests()
        service.set_paging(**PAGING[what])
        found = ids(paged.start(client, page_size=size))
        assert len(found) == len(set(found))
        assert set(found) == set(expected)
        assert len(service.requests(paged.call)) < 40
    finally:
        service.set_paging()
        service.remove_instances(more)


def test_page_that_was_empty_once_is_read_again(
    service: MockService, client: dbss.Client, paged: ListCall
) -> None:
    service.add_reports(25, instance=paged.instance)
    more = service.add_instances(23)
    try:
        expected = ids(paged.start(client, page_size=1000))
        service.fault(paged.call, json=paged.page(total=25), skip=1, times=1)
        found = ids(paged.start(client, page_size=10))
        assert sorted(found) == sorted(expected)
    finally:
        service.remove_instances(more)


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("size", [1000, 100])
def test_short_pages_are_continued_by_page_number(
    service: MockService, client: dbss.Client, paged: ListCall, size: int, total: bool
) -> None:
    """A service that returns at most 100 items per page."""
    pages = [[f"{page}-{item}" for item in range(100 if page < 3 else 7)] for page in (1, 2, 3)]
    everything = [one for page in pages for one in page]
    shown = {"total": len(everything)} if total else {}
    for page in pages:
        items = [{"id": one} for one in page]
        service.fault(paged.call, json=paged.page(*items, **shown), times=1)
    assert ids(paged.start(client, page_size=size)) == everything
    if paged.kind == "reports":
        requested = [(one["page"], one["size"]) for one in bodies(service, paged.call)]
        # Without a total, only an empty page is the end.
        assert requested == [(page, size) for page in range(1, 4 if total else 5)]


def test_list_total_too_large_ends_at_empty_page(
    service: MockService, client: dbss.Client, paged: ListCall
) -> None:
    # The whole list is read again, because the service may have moved items.
    for _ in range(4):
        page = paged.page({"id": "a"}, {"id": "b"}, total=1000000)
        service.fault(paged.call, json=page, times=1)
        service.fault(paged.call, json=paged.page(total=1000000), times=3)
    assert ids(paged.start(client, page_size=2)) == ["a", "b"]
    assert len(service.requests(paged.call)) == 16


def test_list_error_response_raises_its_class(
    service: MockService, client_without_retry: dbss.Client, listing: ListCall
) -> None:
    documented = {"error_code": "DBSS.10000001", "error_msg": "wrong", "details": None}
    cases: list[tuple[dict[str, Any], type[dbss.Error]]] = [
        ({"gzip": True}, dbss.ContentEncodingError),
        ({"cut_after": 5}, dbss.TruncatedError),
        ({"reset_after": 5}, dbss.TruncatedError),
        ({"reset_before_answer": True}, dbss.ConnectionLostError),
        ({"raw_base64": "Z2FyYmFnZQ0KDQo="}, dbss.ProtocolError),
        ({"chunked_no_end": True}, dbss.TruncatedError),
        ({"json": documented}, dbss.ServiceError),
        ({"json": {"error": documented}}, dbss.ServiceError),
        ({"status": 400, "json": documented}, dbss.BadRequestError),
        ({"status": 401, "json": documented}, dbss.UnauthenticatedError),
        ({"status": 403, "json": documented}, dbss.ForbiddenError),
        # Of instances, each version is asked for.
        ({"status": 404, "json": documented, "times": 3}, dbss.NotFoundError),
        ({"status": 429, "json": documented}, dbss.ThrottledError),
        ({"status": 500, "json": documented}, dbss.ServerError),
        ({"status": 503, "body": "<html>busy</html>"}, dbss.ServerError),
        ({"status": 302, "headers": [["Location", "/x"]]}, dbss.RedirectedError),
        ({"status": 206, "json": listing.page(total=0)}, dbss.UnexpectedResponseError),
    ]
    for fault, kind in cases:
        service.fault(listing.call, **{"times": 1, **fault})
        with pytest.raises(kind) as caught:
            next(listing.start(client_without_retry))
        service.clear_faults()
        if fault.get("json") == documented:
            assert caught.value.service_code == "DBSS.10000001"
            assert caught.value.service_message == "wrong"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "body": ""},
        {"status": 429, "headers": [["Retry-After", "0"]], "body": ""},
        {"cut_after": 5},
        {"reset_before_answer": True},
        {"close_before_answer": True},
    ],
)
def test_transient_list_failure_is_retried(
    service: MockService, client: dbss.Client, listing: ListCall, fault: dict[str, Any]
) -> None:
    service.fault(listing.call, **fault, times=2)
    with dbss.Operation() as operation:
        assert next(listing.start(client, operation=operation)).id
        assert operation.attempts == 3
    assert len(service.requests(listing.call)) == 3


def test_rejected_credentials_project_or_instance_raise_their_error(
    service: MockService, client: dbss.Client, listing: ListCall
) -> None:
    with (
        connect(service, token="a-token-of-nobody") as stranger,
        pytest.raises(dbss.UnauthenticatedError) as refused,
    ):
        next(listing.start(stranger))
    assert refused.value.service_code == "APIG.0301"
    assert refused.value.attempts == 1
    with pytest.raises(dbss.ForbiddenError) as forbidden:
        next(listing.start(client, project_id=ID))
    # No code is documented for it.
    assert forbidden.value.service_code is None
    assert forbidden.value.details
    assert forbidden.value.encoded_authorization_message
    if listing.kind != "instances":
        with pytest.raises(dbss.NotFoundError) as missing:
            next(ListCall(listing.kind, ID).start(client))
        assert missing.value.service_code == "DBSS.10021004"
        assert "instance" in missing.value.message


INSTANCE_VERSIONS = {
    "v2": (["v2"], "servers", ["/v2/{}/audit/instances"]),
    "v1": (["v1"], "servers", ["/v2/{}/audit/instances", "/v1/{}/audit/instances"]),
    "v1 of the SDKs": (["v1"], "instances", ["/v2/{}/audit/instances", "/v1/{}/audit/instances"]),
    "v1/dbss": (
        ["v1_dbss"],
        "servers",
        ["/v2/{}/audit/instances", "/v1/{}/audit/instances", "/v1/{}/dbss/audit/instances"],
    ),
}


@pytest.mark.parametrize("version", INSTANCE_VERSIONS)
def test_version_of_instances_is_remembered(
    service: MockService, client_without_retry: dbss.Client, version: str
) -> None:
    versions, shape, paths = INSTANCE_VERSIONS[version]
    service.set_shapes(versions=versions, instances=shape)
    client = client_without_retry
    [first, *_] = client.instances(page_size=1)
    assert (first.id, first.connect_ipv6) == (service.instance_id, "fd00::10")
    client.check()
    list(client.instances())
    asked = [
        one["path"].replace(service.project_id, "{}") for one in service.requests("@instances")
    ]
    assert asked[: len(paths)] == paths
    assert set(asked[len(paths) :]) == {paths[-1]}
    # Another client knows nothing of it.
    service.clear_requests()
    with connect(service) as other:
        other.check()
    assert len(service.requests("@instances")) == len(paths)


def test_version_of_instances_that_goes_offline_is_replaced(
    service: MockService, client: dbss.Client
) -> None:
    service.set_shapes(versions=["v1"])
    client.check()
    service.set_shapes(versions=["v2", "v1_dbss"])
    service.clear_requests()
    for _ in range(2):
        assert next(client.instances()).id == service.instance_id
    statuses = [(one["path"][:3], one["status"]) for one in service.requests("@instances")]
    assert statuses == [("/v1", 404), ("/v2", 200), ("/v2", 200)]


def test_version_of_instances_is_remembered_for_each_endpoint(
    service: MockService, build_dir: Path
) -> None:
    service.set_shapes(versions=["v1_dbss"])
    with MockService(build_dir / "bin/dbss-mock") as first:
        first.set_shapes(versions=["v1"])
        first.add_token(service.token)
        with connect(service, endpoint=f"{first.http},{service.http}") as client:
            client.check(first.project_id)
            assert len(first.requests("@instances")) == 2
            first.close()
            for _ in range(2):
                client.check()
    asked = [
        one["path"].replace(service.project_id, "{}") for one in service.requests("@instances")
    ]
    *paths, last = INSTANCE_VERSIONS["v1/dbss"][2]
    assert sorted(asked[:2]) == sorted(paths)
    assert asked[2:] == [last, last]


def test_login_that_fails_with_404_is_no_missing_version(service: MockService) -> None:
    service.fault("@iam.tokens", status=404, json={"error_code": "APIG.0101"})
    user = {
        "token": None,
        "iam_user": service.user,
        "iam_password": service.password,
        "iam_domain": service.domain,
        "options": {"iam_endpoint": service.iam},
    }
    with connect(service, **user) as client, pytest.raises(dbss.NotFoundError, match="login"):
        client.check()
    assert len(service.requests("@iam.tokens")) == 1
    assert service.requests("@instances") == []


def test_every_request_has_the_type_of_the_sdks_and_signs_it(
    service: MockService, instance: str
) -> None:
    report = add(service, instance)
    keys = {"access_key": service.access_key, "secret_key": service.secret_key}
    with connect(service, token=None, **keys) as client:
        client.check()
        list(client.reports(instance))
        list(client.templates(instance))
        client.download_report(None, instance, report)
        service.fault(report, cut_after=2000, times=1)
        client.download_report(None, instance, report)
        client.create_report(instance, service.templates[0]["id"], *TIME_RANGE)
        client.delete_report(instance, report)
    sent = service.requests()
    assert {one["method"] for one in sent} == {"GET", "POST", "DELETE"}
    assert {one["status"] for one in sent} <= {200, 206}
    for one in sent:
        headers = {name.lower(): value for name, value in one["headers"]}
        assert headers["content-type"] == "application/json"
        assert "SignedHeaders=content-type;host;" in headers["authorization"]


def test_access_key_signs_all_requests(service: MockService, instance: str) -> None:
    add(service, instance)
    with connect(
        service, token=None, access_key=service.access_key, secret_key=service.secret_key
    ) as client:
        assert len(ids(client.instances())) == 2
        assert len(ids(client.reports(instance, name="审 +&=/%", page_size=3))) == 0
        assert len(ids(client.reports(instance))) == 1
        template = next(client.templates(instance))
        report = client.generate_report(instance, template.id, *TIME_RANGE)
        client.delete_report(instance, report)
    assert {one["status"] for one in service.requests()} == {200}
    assert not any(
        name.lower() == "x-auth-token" for one in service.requests() for name, _ in one["headers"]
    )


PEAK = """
import dbss, os, sys
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
client = dbss.Client(endpoint=os.environ["ENDPOINT"], token=os.environ["TOKEN"],
                     project_id=os.environ["PROJECT"], max_attempts=1)
instance = os.environ["INSTANCE"]
def look(found):
    try:
        next(found, None)
    except dbss.Error as error:
        return error.status_name
look(client.instances())
before = peak()
told = {look(one) for _ in range(3) for one in
        (client.instances(), client.reports(instance), client.templates(instance))}
print(*told, (peak() - before) // 1024)
"""


def test_endless_response_uses_bounded_memory(
    service: MockService, environment: dict[str, str], instance: str
) -> None:
    for call, _, _ in LISTS.values():
        service.fault(call, fill={"size": 1024 * MIB, "byte": 32}, framing="chunked", skip=0)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PEAK],
        env={
            **environment,
            "ENDPOINT": service.http,
            "TOKEN": service.token,
            "PROJECT": service.project_id,
            "INSTANCE": instance,
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    status, grown = done.stdout.split()
    assert status == "DBSS_ERR_UNEXPECTED_RESPONSE"
    assert int(grown) < 64


# Create.


def test_create_sends_all_arguments(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    # It returns nothing.
    assert client.create_report(instance, template["id"], *TIME_RANGE) is None
    client.create_report(
        instance,
        template["id"],
        "2026-11-23 00:00:00 ö",
        'e"\\',
        start_date="2026-11-23",
        end_date="2026-11-24",
        db_ids=["7", "8", "9"],
    )
    client.create_report(instance, template["id"], *TIME_RANGE, db_ids="7,8")
    sent = service.requests("@reports.create")
    assert [(one["method"], one["status"]) for one in sent] == [("POST", 200)] * 3
    assert bodies(service, "@reports.create") == [
        {"template_id": template["id"], "start_time": TIME_RANGE[0], "end_time": TIME_RANGE[1]},
        {
            "template_id": template["id"],
            "start_time": "2026-11-23 00:00:00 ö",
            "end_time": 'e"\\',
            "start_date": "2026-11-23",
            "end_date": "2026-11-24",
            "db_ids": "7,8,9",
        },
        {
            "template_id": template["id"],
            "start_time": TIME_RANGE[0],
            "end_time": TIME_RANGE[1],
            "db_ids": "7,8",
        },
    ]
    path = f"/v1/{service.project_id}/audit/{instance}/reports/create"
    assert {one["target"] for one in sent} == {path}
    for one in sent:
        [kind] = [value for name, value in one["headers"] if name.lower() == "content-type"]
        assert kind.startswith("application/json")
    assert len(ids(client.reports(instance))) == 3


@pytest.mark.parametrize("response", [{"result": "failed"}, {"result": "FAILED"}])
def test_create_rejected_by_service_raises_rejected_error(
    service: MockService, client: dbss.Client, instance: str, response: dict[str, str]
) -> None:
    service.fault("@reports.create", json=response, headers=[["X-Request-Id", "request-2"]])
    with pytest.raises(dbss.RejectedError) as caught:
        client.create_report(instance, ID, *TIME_RANGE)
    assert (caught.value.request_id, caught.value.attempts) == ("request-2", 1)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "response",
    [
        {"json": {}},
        {"json": {"result": None}},
        {"json": {"result": "perhaps"}},
        {"json": {"result": 1}},
        {"json": []},
        {"body": "<html></html>"},
        {"fill": {"size": 20 * MIB, "byte": 32}},
    ],
)
def test_create_response_without_result_is_rejected(
    service: MockService, client: dbss.Client, instance: str, response: dict[str, Any]
) -> None:
    service.fault("@reports.create", **response)
    with pytest.raises(dbss.UnexpectedResponseError):
        client.create_report(instance, ID, *TIME_RANGE)
    assert len(service.requests("@reports.create")) == 1


LOST_RESPONSES: list[dict[str, Any]] = [
    {"close_before_answer": True},
    {"reset_before_answer": True},
    {"cut_after": 3},
    {"reset_after": 3},
    {"no_answer": True},
    {"raw_base64": "Z2FyYmFnZQ0KDQo="},
    {"status": 500, "body": ""},
    {"status": 502, "body": ""},
    {"status": 504, "body": ""},
]


@pytest.mark.parametrize("fault", LOST_RESPONSES)
def test_create_with_unknown_outcome_is_not_repeated(
    service: MockService,
    client: dbss.Client,
    instance: str,
    template: dict[str, str],
    fault: dict[str, Any],
) -> None:
    service.fault("@reports.create", perform=True, **fault)
    with (
        dbss.Operation(stall_timeout=0.3) as operation,
        pytest.raises(dbss.Error) as caught,
    ):
        client.create_report(instance, template["id"], *TIME_RANGE, operation=operation)
    assert isinstance(caught.value, (dbss.NetworkError, dbss.ServiceError))
    assert not caught.value.retryable
    if isinstance(caught.value, (dbss.ConnectionLostError, dbss.StalledError)):
        assert "may have been created" in str(caught.value)
    assert len(service.requests("@reports.create")) == 1
    assert len(ids(client.reports(instance))) == 1


@pytest.mark.parametrize("fault", [{"status": 503, "body": ""}, {"status": 429, "body": ""}])
def test_create_not_executed_is_retried(
    service: MockService,
    client: dbss.Client,
    instance: str,
    template: dict[str, str],
    fault: dict[str, Any],
) -> None:
    service.fault("@reports.create", **fault, times=2)
    client.create_report(instance, template["id"], *TIME_RANGE)
    assert len(service.requests("@reports.create")) == 3
    assert len(ids(client.reports(instance))) == 1


def test_create_on_stale_connection_succeeds(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    # After this response the mock service closes a connection that the client would reuse.
    service.fault("@reports.list", headers=[["Connection", "keep-alive"]], times=1)
    assert ids(client.reports(instance)) == []
    wait_for_closed_connection(service)
    client.create_report(instance, template["id"], *TIME_RANGE)
    assert len(ids(client.reports(instance))) == 1


def wait_for_closed_connection(service: MockService) -> None:
    """Waits until this machine has seen the mock service close all connections."""
    port = int(service.http.rsplit(":", 1)[1])
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        sockets = [line.split()[2:4] for line in lines]
        # 01 is ESTABLISHED, on this side.
        if not any(int(to.split(":")[1], 16) == port and how == "01" for to, how in sockets):
            return
    pytest.fail("the mock service keeps a connection")


def test_create_without_server_is_retried(client: dbss.Client, service: MockService) -> None:
    with (
        connect(service, endpoint="http://127.0.0.1:1", max_attempts=2) as nowhere,
        pytest.raises(dbss.ConnectError) as caught,
    ):
        nowhere.create_report(ID, ID, *TIME_RANGE)
    assert caught.value.attempts == 2


# Generate.


def test_generate_returns_a_downloadable_report(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.add_reports(3, instance=instance)
    service.set_generation(percent_per_list=25, size=12345)
    seen: list[int | None] = []

    def progress(now: dbss.Progress) -> None:
        seen.append(now.percent)
        assert now.received == 0

    with dbss.Operation(poll_interval=0.1) as operation:
        report = client.generate_report(
            instance, template["id"], *TIME_RANGE, operation=operation, progress=progress
        )
        assert operation.percent == 100
        assert operation.error is None
    assert report == service.made()[-1]
    known = [percent for percent in seen if percent is not None]
    assert known == sorted(known)
    assert known[-1] == 100
    assert set(known) <= {0, 25, 50, 75, 100}
    assert set(known) & {0, 25, 50, 75}
    # An unknown percentage is None, not 0.
    assert seen[0] is None
    assert len(client.download_report(None, instance, report)) == 12345
    assert len(service.requests("@reports.create")) == 1
    [made] = [one for one in client.reports(instance) if one.id == report]
    assert made.ready
    assert (made.start_time, made.end_time) == TIME_RANGE


def test_generate_finds_report_that_appears_late_among_many(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.add_reports(2500, instance=instance, start_time=TIME_RANGE[0], end_time=TIME_RANGE[1])
    service.set_generation(appear_after_lists=7, percent_per_list=100)
    report = client.generate_report(instance, template["id"], *TIME_RANGE)
    assert report == service.made()[-1]


def test_generate_finds_report_that_progresses_with_time(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.set_generation(duration_ms=300, steps=10)
    report = client.generate_report(instance, template["id"], *TIME_RANGE)
    [made] = client.reports(instance)
    assert made.id == report
    assert made.ready


OTHER_REPORTS: dict[str, dict[str, Any]] = {
    "another time range": {"start_time": "2026-11-22 00:00:00", "end_time": "2026-11-23 00:00:00"},
    "another end time": {"end_time": "2026-11-25 00:00:00"},
    "another name": {"name": "quite another"},
}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("what", OTHER_REPORTS)
def test_generate_ignores_reports_of_others(
    service: MockService,
    client: dbss.Client,
    instance: str,
    template: dict[str, str],
    what: str,
    before: bool,
) -> None:
    service.set_generation(foreign=[{**OTHER_REPORTS[what], "before": before}, OTHER_REPORTS[what]])
    report = client.generate_report(instance, template["id"], *TIME_RANGE)
    assert report == service.made()[-1]
    assert len(ids(client.reports(instance))) == 3


def test_generate_ignores_report_of_another_template(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    first, second = service.templates[:2]
    service.set_generation(foreign=[{"template_type": second["type"]}])
    report = client.generate_report(instance, first["id"], *TIME_RANGE)
    assert report == service.made()[-1]


@pytest.mark.parametrize("before", [False, True])
def test_generate_with_several_candidates_is_ambiguous(
    service: MockService,
    client: dbss.Client,
    instance: str,
    template: dict[str, str],
    before: bool,
) -> None:
    service.set_generation(foreign=[{"before": before}, {"before": before}])
    with pytest.raises(dbss.AmbiguousError) as caught:
        client.generate_report(instance, template["id"], *TIME_RANGE)
    present = ids(client.reports(instance))
    assert len(present) == 3
    assert sorted(caught.value.candidates) == sorted(present)
    assert len(service.requests("@reports.create")) == 1


def test_generate_report_not_ready_times_out(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.set_generation(percent_per_list=0)
    with dbss.Operation(wait_timeout=0.3) as operation:
        with pytest.raises(dbss.NotReadyError) as caught:
            client.generate_report(instance, template["id"], *TIME_RANGE, operation=operation)
        assert isinstance(caught.value, TimeoutError)
        assert operation.percent == 0
    # The report remains, and can be waited for.
    report = service.made()[-1]
    assert report in str(caught.value)
    assert "wait_timeout" in str(caught.value)
    with connect(service, wait_timeout=0.2) as impatient:
        with pytest.raises(dbss.NotReadyError):
            impatient.wait_for_report(instance, report)
        with dbss.Operation(total_timeout=0.2, wait_timeout=None) as operation:
            with pytest.raises(dbss.TotalTimeoutError):
                impatient.wait_for_report(instance, report, operation=operation)
            with pytest.raises(dbss.TotalTimeoutError):
                client.generate_report(instance, template["id"], *TIME_RANGE, operation=operation)


def test_generate_report_that_never_appears_times_out(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.set_generation(appear_after_lists=100000)
    with (
        dbss.Operation(wait_timeout=0.3) as operation,
        pytest.raises(dbss.NotReadyError, match="did not appear"),
    ):
        client.generate_report(instance, template["id"], *TIME_RANGE, operation=operation)
    assert len(service.requests("@reports.create")) == 1


def test_generate_with_unknown_template_creates_nothing(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    with pytest.raises(dbss.NotFoundError, match=ID) as caught:
        client.generate_report(instance, ID, *TIME_RANGE)
    assert caught.value.parameter == "template_id"
    with pytest.raises(dbss.NotFoundError):
        client.generate_report(ID, service.templates[0]["id"], *TIME_RANGE)
    assert service.requests("@reports.create") == []
    with pytest.raises(dbss.BadRequestError):
        client.create_report(instance, ID, *TIME_RANGE)


def test_generate_report_deleted_meanwhile_is_not_found(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.set_generation(percent_per_list=0)
    before = service.made()

    def progress(now: dbss.Progress) -> None:
        # After a list that contained it.
        if now.percent == 0 and len(service.requests("@reports.list")) > 2:
            service.remove_reports(service.made()[len(before) :])

    with dbss.Operation(wait_timeout=TIMEOUT) as operation, pytest.raises(dbss.NotFoundError):
        client.generate_report(
            instance, template["id"], *TIME_RANGE, operation=operation, progress=progress
        )


def test_generate_fails_when_create_fails(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    service.fault("@reports.create", json={"result": "failed"}, times=1)
    with pytest.raises(dbss.RejectedError):
        client.generate_report(instance, template["id"], *TIME_RANGE)
    service.fault("@reports.create", perform=True, close_before_answer=True, times=1)
    with pytest.raises(dbss.ConnectionLostError):
        client.generate_report(instance, template["id"], *TIME_RANGE)
    assert len(service.requests("@reports.create")) == 2


def test_generate_survives_failing_lists(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    for skip in (0, 1, 2):
        service.fault("@reports.list", status=503, body="", skip=skip, times=1)
    assert client.generate_report(instance, template["id"], *TIME_RANGE) == service.made()[-1]
    assert len(service.requests("@reports.create")) == 1


@pytest.mark.parametrize("how", ["operation", "progress", "raised", "client"])
def test_generate_can_be_cancelled(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str], how: str
) -> None:
    service.set_generation(percent_per_list=0)
    with dbss.Operation(poll_interval=3600, wait_timeout=None) as operation:

        def progress(now: dbss.Progress) -> bool | None:
            if now.percent != 0:
                return None
            if how == "raised":
                raise ZeroDivisionError("mine")
            if how == "operation":
                operation.cancel()
            if how == "client":
                client.cancel_all()
            return how != "progress"

        kind = ZeroDivisionError if how == "raised" else dbss.CancelledError
        with pytest.raises(kind):
            client.generate_report(
                instance, template["id"], *TIME_RANGE, operation=operation, progress=progress
            )


# Wait and delete.


def test_wait_returns_when_report_is_ready(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    ready = add(service, instance, name="ready")
    client.wait_for_report(instance, ready)
    assert len(service.requests("@reports.list")) == 1
    template = service.templates[0]
    client.create_report(instance, template["id"], *TIME_RANGE)
    [made] = [one for one in ids(client.reports(instance)) if one != ready]
    seen: list[int | None] = []
    with dbss.Operation(poll_interval=0.1) as operation:
        client.wait_for_report(
            *(instance, made),
            operation=operation,
            progress=lambda now: seen.append(now.percent),
        )
        assert operation.percent == 100
    known = [percent for percent in seen if percent is not None]
    assert known == sorted(known)
    assert known[-1] == 100
    with pytest.raises(dbss.NotFoundError) as caught:
        client.wait_for_report(instance, ID)
    assert ID in str(caught.value)
    with pytest.raises(dbss.NotFoundError):
        client.wait_for_report(ID, ready)


@pytest.mark.parametrize("percentum", [None, "soon", -1, 99.9, [100]])
def test_wait_without_100_percent_times_out(
    service: MockService, client: dbss.Client, instance: str, percentum: Any
) -> None:
    report = add(service, instance, percentum=percentum)
    with dbss.Operation(wait_timeout=0.1) as operation, pytest.raises(dbss.NotReadyError):
        client.wait_for_report(instance, report, operation=operation)


@pytest.mark.parametrize(
    "fields",
    [
        {"percentum": "100"},
        {"percentum": 100.0},
        {"percentum": 250},
        {"name": "n" * 300},
        {"name": "审计 \\ \"' %_*"},
        {"extra": {"name": ""}},
        {"extra": {"name": None}},
        {"omit": ["name"]},
    ],
)
def test_wait_finds_report_with_unusual_fields(
    service: MockService, client: dbss.Client, instance: str, fields: dict[str, Any]
) -> None:
    service.add_reports(150, instance=instance)
    report = add(service, instance, **{"percentum": 50, **fields})
    service.add_reports(1100, instance=instance)
    if "percentum" in fields:
        client.wait_for_report(instance, report)
        return
    # The list is searched several times, by name if possible.
    with dbss.Operation(wait_timeout=0.2) as operation, pytest.raises(dbss.NotReadyError):
        client.wait_for_report(instance, report, operation=operation)


def test_delete_removes_the_report(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    report = add(service, instance)
    client.delete_report(instance, report)
    [sent] = service.requests("@reports.delete")
    assert (sent["method"], sent["body"]) == ("DELETE", "")
    assert sent["target"] == f"/v1/{service.project_id}/audit/{instance}/reports/{report}"
    assert ids(client.reports(instance)) == []
    with pytest.raises(dbss.NotFoundError) as caught:
        client.delete_report(instance, report)
    assert caught.value.service_code == "DBSS.10021004"


def test_delete_rejected_by_service_raises_error(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    report = add(service, instance)
    service.fault("@reports.delete", json={"status": "FAILED"}, times=1)
    with pytest.raises(dbss.RejectedError):
        client.delete_report(instance, report)
    for response in ({"json": {}}, {"json": {"status": "maybe"}}, {"body": "<html></html>"}):
        service.fault("@reports.delete", **response, times=1)
        with pytest.raises(dbss.UnexpectedResponseError):
            client.delete_report(instance, report)
    assert ids(client.reports(instance)) == [report]


@pytest.mark.parametrize(
    "fault",
    [{"close_before_answer": True}, {"reset_before_answer": True}, {"cut_after": 3}],
)
def test_delete_with_lost_response_succeeds(
    service: MockService, client: dbss.Client, instance: str, fault: dict[str, Any]
) -> None:
    report = add(service, instance)
    service.fault("@reports.delete", perform=True, **fault, times=1)
    client.delete_report(instance, report)
    assert len(service.requests("@reports.delete")) == 2
    assert ids(client.reports(instance)) == []


def test_delete_of_missing_report_after_busy_is_not_found(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    service.fault("@reports.delete", status=503, body="", times=1)
    with pytest.raises(dbss.NotFoundError):
        client.delete_report(instance, ID)


# The README example.


def test_readme_five_lines_generate_and_save_a_report(
    root: Path, service: MockService, environment: dict[str, str], tmp_path: Path
) -> None:
    """The program in the README of the package, with credentials of the environment."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (root / "bindings/python/README.md").read_text(), re.M | re.S
    )
    [program] = [one for one in blocks if "generate_report" in one]
    assert len(program.splitlines()) == 5
    region = 'region="cn-north-4"'
    assert region in program
    found = 'endpoint=os.environ["ENDPOINT"]'
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-c"),
            f"import dbss, os\nos.mkdir('reports')\n{program.replace(region, found)}\nprint(id)",
        ],
        env={
            **environment,
            "ENDPOINT": service.http,
            "HUAWEICLOUD_SDK_AK": service.access_key,
            "HUAWEICLOUD_SDK_SK": service.secret_key,
            "HUAWEICLOUD_SDK_PROJECT_ID": service.project_id,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == service.made()[-1]
    [file] = (tmp_path / "reports").iterdir()
    assert file.read_bytes().startswith(b"%PDF-")


# Databases and schedules.


def test_databases_are_listed_by_page_and_status(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    found = client.databases(instance, page_size=1)
    databases = list(found)
    assert (len(databases), found.total) == (3, 3)
    queries = [one["query"] for one in service.requests("@databases")]
    # The last one shows that the total is right.
    assert queries == [f"offset={n}&limit=1" for n in range(4)]
    service.clear_requests()
    assert [one.id for one in client.databases(instance, status="OFF")] == [databases[2].id]
    assert service.requests("@databases")[0]["query"] == "offset=0&limit=100&status=OFF"
    [first, second, _] = databases
    assert (first.type, first.port, first.agent_url) == ("MYSQL", "3306", ["agent-0"])
    assert (first.rds_audit_switch_mismatch, second.rds_audit_switch_mismatch) == (False, True)
    assert first.rds_obj_info is None
    assert first.raw["kernel"] == {"undocumented": True}
    assert list(client.databases(instance, page_size=10_000)) == databases
    connections = service.connections()["total"]
    for wrong in ({"status": "ACTIVE"}, {"page_size": 10_001}, {"page_size": 2**32}):
        with pytest.raises(dbss.InvalidValueError):
            client.databases(instance, **wrong)  # type: ignore[arg-type]
    assert service.connections()["total"] == connections


def test_databases_match_the_official_sdk(
    service: MockService, client: dbss.Client, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huaweicloudsdkdbss.v1 import ListAuditDatabasesNewRequest

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sdk = sdk_client(service, service.secret_key)
    response = sdk.list_audit_databases_new(ListAuditDatabasesNewRequest(instance))
    ours = list(client.databases(instance))
    for own, their in zip(ours, [one.database for one in response.databases], strict=True):
        assert own == dataclasses.replace(own, **their.to_dict())


def test_schedule_update_changes_only_what_is_given(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    id = template["id"]
    before = client.schedule(instance, id)
    assert (before.id, before.status, before.format) == (id, "ON", "ZIP")
    assert before.smn_effective is True
    client.update_schedule(instance, id, status="OFF")
    after = client.schedule(instance, id)
    assert after == dataclasses.replace(before, status="OFF", raw=after.raw)
    [body] = bodies(service, "@schedule.set")
    # All of it is sent back, unknown fields too, but not what stands beside the schedule.
    expected = {**before.raw, "status": "OFF"}
    del expected["smn_effective"]
    assert body == {"scheduler": expected}
    assert "retention" in expected
    changes = {
        "frequency": "AUDIT_REPORT_DAY",
        "format": "PDF",
        "mode": "MANUAL",
        "start_time": "2026-12-01 00:00:00",
        "notice": "ON",
        "topic_urn": "urn:smn:cn-north-4:0:审计",
    }
    client.update_schedule(instance, id, db_ids=["7", "8"], **changes)
    assert client.schedule(instance, id) == dataclasses.replace(
        after, db_ids="7,8", raw={**after.raw, "db_ids": "7,8", **changes}, **changes
    )
    client.update_schedule(instance, id, db_ids=[], topic_urn="")
    assert (client.schedule(instance, id).db_ids, client.schedule(instance, id).topic_urn) == (
        "",
        "",
    )


def test_schedule_matches_the_official_sdk(
    service: MockService,
    client: dbss.Client,
    instance: str,
    template: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huaweicloudsdkdbss.v1 import (
        ConfigReportTopicRequest,
        SchedulerBean,
        ShowAuditTopicReportSchedulerConfigRequest,
        UpdateAuditTopicReportSchedulerConfigRequest,
    )

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sdk = sdk_client(service, service.secret_key)
    client.update_schedule(instance, template["id"], notice="ON", db_ids="7")
    shown = sdk.show_audit_topic_report_scheduler_config(
        ShowAuditTopicReportSchedulerConfigRequest(instance, template["id"])
    )
    own = client.schedule(instance, template["id"])
    their = shown.scheduler.to_dict()
    assert own == dataclasses.replace(own, smn_effective=shown.smn_effective, **their)
    body = ConfigReportTopicRequest(SchedulerBean(**{**their, "status": "OFF"}))
    done = sdk.update_audit_topic_report_scheduler_config(
        UpdateAuditTopicReportSchedulerConfigRequest(instance, body)
    )
    assert done.status == "success"
    assert client.schedule(instance, template["id"]).status == "OFF"
    # The fields that are known are the same in both requests.
    ours, theirs = bodies(service, "@schedule.set")
    assert theirs["scheduler"].keys() == ours["scheduler"].keys() - {"retention"}


def test_schedule_arguments_are_checked_before_any_request(
    service: MockService, client: dbss.Client, instance: str
) -> None:
    connections = service.connections()["total"]
    for wrong in (
        {"status": "on "},
        {"notice": "yes"},
        {"frequency": "DAY"},
        {"format": "DOCX"},
        {"mode": ""},
        {"start_time": "a\n"},
        {"topic_urn": "x" * 4097},
    ):
        with pytest.raises(dbss.InvalidValueError) as caught:
            client.update_schedule(instance, ID, **wrong)  # type: ignore[arg-type]
        assert caught.value.parameter == next(iter(wrong))
    with pytest.raises(dbss.NotConfiguredError) as caught_empty:
        client.update_schedule(instance, ID)
    assert caught_empty.value.parameter == "changes"
    for id in ("x" * 15, "x" * 65, "x" * 15 + "/"):
        with pytest.raises(dbss.InvalidIdError) as caught_id:
            client.schedule(instance, id)
        assert caught_id.value.parameter == "template_id"
        with pytest.raises(dbss.InvalidIdError):
            client.update_schedule(instance, id, status="ON")
    with pytest.raises(TypeError, match="db_ids"):
        client.update_schedule(instance, ID, db_ids=7)  # type: ignore[arg-type]
    assert service.connections()["total"] == connections


def test_schedule_update_failures_are_errors(
    service: MockService, client: dbss.Client, instance: str, template: dict[str, str]
) -> None:
    def update() -> dbss.Error:
        with pytest.raises(dbss.Error) as caught:
            client.update_schedule(instance, template["id"], status="OFF")
        service.clear_faults()
        return caught.value

    service.fault("@schedule.set", json={"status": "fail"})
    assert isinstance(update(), dbss.RejectedError)
    for body in ({"status": "SUCCESSFUL"}, {"status": None}, {}, [], "success"):
        service.fault("@schedule.set", json=body)
        assert isinstance(update(), dbss.UnexpectedResponseError)
    service.clear_requests()
    for fault in ({"status": 500}, {"status": 502}, {"perform": True, "close_before_answer": True}):
        service.fault("@schedule.set", **fault)
        error = update()
        assert "may have been changed" in error.message
        assert not error.retryable
    assert len(service.requests("@schedule.set")) == 3
    # A request that was surely not taken is sent again.
    service.fault("@schedule.set", status=503, times=1)
    client.update_schedule(instance, template["id"], status="OFF")
    with pytest.raises(dbss.NotFoundError):
        client.schedule(instance, ID)
