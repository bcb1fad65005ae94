"""Lists, reports that the service makes, and schedules: the idiom of Python.

What these calls do is in tests/conformance, lists.json and reports.json.
"""

import dataclasses
import gc
import socket
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dbss
import pytest
from dbss import lists

from support import ID, MIB, TIME_RANGE, TIMEOUT, new_mock, wait_until

other_mock = pytest.fixture(new_mock)


def ids(items):
    return [item.id for item in items]


# Fields.


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        (None, None, None),
        ("12", "12", 12),
        ("100 %", "100 %", None),
        (12.7, "12.7", 12),
        (True, "true", None),
        ([1, "ö"], '[1, "ö"]', None),
        ({"a": None}, '{"a": null}', None),
        ("a\0b\x1b", "a\0b\x1b", None),
        ("1e999", "1e999", None),
        (2**60, str(2**60), 2**60),
    ],
)
def test_field_of_another_type_is_converted(mock, client, instance, value, text, number):
    mock.add_report(instance=instance, percentum=value, extra={"name": value})
    [report] = client.reports(instance)
    assert (report.name, report.percentum) == (text, number)
    assert report.raw["name"] == report.raw["percentum"] == value


def test_report_is_an_immutable_value(mock, client, instance):
    extra = {"from_the_future": {"a": [1, None, 1.5]}, "large": 2**70}
    mock.add_report(instance=instance, extra=extra, omit=["url"], finish_time=None)
    [report] = client.reports(instance)
    assert {name: report.raw[name] for name in extra} == extra
    assert (report.url, report.raw["finish_time"], "url" in report.raw) == (None, None, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.name = "another"
    same = next(client.reports(instance))
    assert report == same
    assert hash(report) == hash(same)
    assert "from_the_future" not in repr(report)


def test_report_is_ready_only_at_100_percent(mock, client, instance):
    for percentum in (None, 0, 99, 100, "100", 100.0):
        mock.add_report(instance=instance, percentum=percentum)
    found = list(client.reports(instance))[::-1]
    assert [one.ready for one in found] == [False, False, False, True, True, True]


# Arguments.

CALLS = {
    "check": lambda c, value: c.check(value),
    "instances": lambda c, value: c.instances(value),
    "page_size": lambda c, value: c.instances(page_size=value),
    "reports": lambda c, value: c.reports(value),
    "name": lambda c, value: c.reports(ID, name=value),
    "template_id": lambda c, value: c.create_report(ID, value, *TIME_RANGE),
    "start_time": lambda c, value: c.create_report(ID, ID, value, "e"),
    "end_date": lambda c, value: c.create_report(ID, ID, *TIME_RANGE, end_date=value),
    "db_ids": lambda c, value: c.create_report(ID, ID, *TIME_RANGE, db_ids=value),
    "one of db_ids": lambda c, value: c.create_report(ID, ID, *TIME_RANGE, db_ids=[value]),
    "delete": lambda c, value: c.delete_report(ID, value),
    "schedule": lambda c, value: c.update_schedule(ID, ID, db_ids=value),
}


# They are outside of what Python can write in UTC.
EXTREMES = (
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
)


@pytest.mark.parametrize(
    ("call", "value", "kind", "parameter"),
    [
        *((call, value, TypeError, None) for call in CALLS for value in (b"bytes", 1.5, {1})),
        ("check", 7, TypeError, None),
        ("schedule", 7, TypeError, "db_ids"),
        *(("page_size", size, TypeError, "page_size") for size in (True, "10", 1.5)),
        ("template_id", None, TypeError, "template_id"),
        *(("page_size", size, dbss.InvalidValueError, "page_size") for size in (-1, 2**32 + 1)),
        ("instances", "x" * 32 + "\0", dbss.InvalidIdError, "project_id"),
        ("name", "\udc80", dbss.InvalidUtf8Error, "name"),
        ("template_id", "a\0", dbss.InvalidIdError, "template_id"),
        ("end_date", "\0", dbss.InvalidValueError, "end_date"),
        ("db_ids", [], dbss.InvalidValueError, "db_ids"),
        *(
            (call, ids, dbss.InvalidValueError, "db_ids")
            for call in ("db_ids", "schedule")
            for ids in (["a,b"], ["", "a"], [""])
        ),
        *(("start_time", at, dbss.InvalidValueError, "start_time") for at in EXTREMES),
    ],
)
def test_wrong_argument_is_rejected_at_once(mock, client, call, value, kind, parameter):
    before = mock.connections()["total"]
    with pytest.raises(kind) as caught:
        CALLS[call](client, value)
    assert caught.type is kind
    if kind is TypeError:
        assert (parameter or "") in str(caught.value)
    else:
        assert caught.value.parameter == parameter
    assert mock.connections()["total"] == before


def test_closed_operation_is_rejected(client):
    operation = dbss.Operation()
    operation.close()
    with pytest.raises(ValueError, match="closed"):
        client.instances(operation=operation)


# The iterator.


def test_list_error_has_no_chained_exception(mock, client, instance):
    mock.add_reports(3, instance=instance)
    mock.fault("@reports.list", status=403, json={"error_code": "DBSS.9"})
    found = client.reports(instance)
    for use in (next, list):
        with pytest.raises(dbss.ForbiddenError) as caught:
            use(found)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback") == 1


def test_abandoned_list_frees_its_cursor(mock, client, instance, monkeypatch):
    mock.add_reports(3, instance=instance)
    freed = []
    real = lists.abi.cursor_free
    free = lambda pointer: (freed.append(bool(pointer)), real(pointer))  # noqa: E731
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


def test_list_can_be_read_by_several_threads(mock, client, instance):
    added = mock.add_reports(40, instance=instance)[::-1]
    found = client.reports(instance, page_size=3)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        pools = (one, other) * 20
        assert [pool.submit(next, found).result(TIMEOUT).id for pool in pools] == added

    # Concurrently: each item once, or BusyError.
    found = client.reports(instance, page_size=3)
    taken = []

    def take():
        while True:
            try:
                taken.append(next(found).id)
            except dbss.BusyError:
                pass
            except StopIteration:
                return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(taken) == sorted(added)


def test_concurrent_lists_are_independent(mock, client, instance):
    added = mock.add_reports(100, instance=instance)[::-1]
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda _: ids(client.reports(instance, page_size=7)), range(16))
        assert all(one == added for one in results)


def test_list_keeps_its_operation(mock, client, instance):
    mock.add_reports(3, instance=instance)
    with dbss.Operation(stall_timeout=2, max_attempts=1) as operation:
        found = client.reports(instance, page_size=1, operation=operation)
        assert found.total is None
        first = next(found).id
        mock.fault("@reports.list", no_response=True, times=1)
        with pytest.raises(dbss.StalledError):
            next(found)
        assert isinstance(operation.error, dbss.StalledError)
        operation.cancel()
        with pytest.raises(dbss.CancelledError):
            next(found)
        operation.reset()
        rest = ids(found)
        assert (first in rest, len(rest), found.total, operation.error) == (False, 2, 3, None)


# Limits.


@pytest.mark.parametrize("value", ["[" * 200000 + "]" * 200000, "9" * 10000])
@pytest.mark.parametrize("kind", ["instances", "reports"])
def test_list_beyond_python_limits_is_rejected(mock, client, kind, value):
    item = f'{{"id": "{ID}", "more": {value}}}'
    if kind == "reports":
        item = f'{{"report": {item}}}'
    call = "@instances" if kind == "instances" else "@reports.list"
    mock.fault(call, body=f'{{"{kind}": [{item}], "total": 1}}', times=1)
    found = client.instances() if kind == "instances" else client.reports(mock.instance_id)
    # The page is not skipped.
    for _ in range(2):
        with pytest.raises(dbss.UnexpectedResponseError):
            next(found)


def test_endless_response_uses_bounded_memory(mock, run_python):
    code = """
client = dbss.Client(**settings, max_attempts=1)
def look(found):
    try:
        next(found, None)
    except dbss.Error as error:
        return error.status_name
look(client.instances())
before = proc("VmHWM:")
print(*{look(one) for _ in range(3) for one in
        (client.instances(), client.reports(ids[0]), client.templates(ids[0]))})
print(proc("VmHWM:") - before)
"""
    for call in ("@instances", "@reports.list", "@templates"):
        mock.fault(call, fill={"size": 1024 * MIB, "byte": 32}, framing="chunked")
    status, grown = run_python(code).split()
    assert status == "DBSS_ERR_UNEXPECTED_RESPONSE"
    assert int(grown) < 64 * 1024


# The versions of the list of instances.


def test_version_of_instances_is_remembered_for_each_endpoint(mock, other_mock, connect):
    mock.set("shapes", versions=["v1_dbss"])
    other_mock.set("shapes", versions=["v1"])
    other_mock.set("tokens", token=mock.token)
    with connect(endpoint=f"{other_mock.http},{mock.http}") as client:
        client.check(other_mock.project_id)
        assert len(other_mock.requests("@instances")) == 2
        other_mock.close()
        with socket.socket() as nobody:
            # Nobody else gets the port.
            nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            nobody.bind(("127.0.0.1", int(other_mock.http.rpartition(":")[2])))
            for _ in range(2):
                client.check()
    asked = [one["path"].replace(mock.project_id, "{}") for one in mock.requests("@instances")]
    assert sorted(asked[:2]) == ["/v1/{}/audit/instances", "/v2/{}/audit/instances"]
    assert asked[2:] == ["/v1/{}/dbss/audit/instances"] * 2


# Reports and schedules.


def test_create_on_stale_connection_succeeds(mock, client, instance):
    # After this response the mock service closes a connection that the client would reuse.
    mock.fault("@reports.list", headers=[["Connection", "keep-alive"]], times=1)
    assert list(client.reports(instance)) == []
    port = int(mock.http.rsplit(":", 1)[1])

    def closed():
        """Whether this machine has seen the mock service close all connections."""
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        sockets = [line.split()[2:4] for line in lines]
        # 01 is ESTABLISHED, on this side.
        return not any(int(to.split(":")[1], 16) == port and how == "01" for to, how in sockets)

    wait_until(closed)
    client.create_report(instance, mock.templates[0]["id"], *TIME_RANGE)
    assert len(list(client.reports(instance))) == 1


def test_create_accepts_a_list_of_databases_and_returns_nothing(mock, client, instance):
    template = mock.templates[0]["id"]
    assert client.create_report(instance, template, *TIME_RANGE, db_ids=["7", "8"]) is None
    client.update_schedule(instance, template, db_ids=["7", "8"])
    assert client.schedule(instance, template).db_ids == "7,8"
    client.update_schedule(instance, template, db_ids=[])
    schedule = client.schedule(instance, template)
    assert (schedule.db_ids, schedule.smn_effective) == ("", True)
    [first, second, _] = client.databases(instance)
    assert (first.agent_url, first.raw["kernel"]) == (["agent-0"], {"undocumented": True})
    assert (first.rds_audit_switch_mismatch, second.rds_audit_switch_mismatch) == (False, True)


def test_generate_raises_what_its_progress_function_raises(mock, client, instance):
    def progress(now):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        client.generate_report(instance, mock.templates[0]["id"], *TIME_RANGE, progress=progress)


def test_report_that_is_not_ready_is_a_timeout_error(mock, client, instance):
    report = mock.add_report(instance=instance, percentum=0)["id"]
    with dbss.Operation(wait_timeout=0.1) as operation, pytest.raises(TimeoutError) as caught:
        client.wait_for_report(instance, report, operation=operation)
    assert isinstance(caught.value, dbss.NotReadyError)


def test_generate_keeps_the_id_of_its_report_when_progress_raises(mock, client, instance):
    mock.set("generation", percent_per_list=10)

    def progress(now):
        if now.percent:
            raise ZeroDivisionError("mine")

    template = mock.templates[0]["id"]
    with dbss.Operation() as operation:
        with pytest.raises(ZeroDivisionError, match="mine") as caught:
            client.generate_report(
                instance, template, *TIME_RANGE, operation=operation, progress=progress
            )
        assert operation.error.candidates == (mock.made()[-1],)
    assert caught.value.__cause__.candidates == (mock.made()[-1],)
