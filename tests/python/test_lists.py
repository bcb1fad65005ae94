"""Lists of instances, reports and templates: the idiom of Python.

What lists hold is in tests/conformance/lists.json.
"""

import dataclasses
import gc
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest
from dbss import lists

from memory import run_and_measure
from mock_service import MockService
from test_reports import ID, TIME_RANGE, TIMEOUT, client, connect

# An imported fixture.
__all__ = ["client"]

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def reset_mock(mock):
    mock.clear_requests()
    yield
    mock.clear_faults()
    mock.set_shapes()


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
    mock.add_report(format="pdf", instance=instance, percentum=value, extra={"name": value})
    [report] = client.reports(instance)
    assert (report.name, report.percentum) == (text, number)
    assert report.raw["name"] == report.raw["percentum"] == value


def test_report_is_an_immutable_value(mock, client, instance):
    extra = {"from_the_future": {"a": [1, None, 1.5]}, "large": 2**70}
    mock.add_report(format="pdf", instance=instance, extra=extra, omit=["url"], finish_time=None)
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
        mock.add_report(format="pdf", instance=instance, percentum=percentum)
    found = list(client.reports(instance))[::-1]
    assert [one.ready for one in found] == [False, False, False, True, True, True]


# Arguments.


def test_argument_of_another_type_is_a_type_error(mock, client):
    before = mock.connections()["total"]
    wrong = [
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
    with pytest.raises(TypeError, match="db_ids"):
        client.update_schedule(ID, ID, db_ids=7)
    for size in (-1, 2**32 + 1):
        with pytest.raises(dbss.InvalidValueError) as caught:
            client.instances(page_size=size)
        assert caught.value.parameter == "page_size"
    refused = [
        (lambda: client.instances("x" * 32 + "\0"), dbss.InvalidIdError, "project"),
        (lambda: client.reports(ID, name="\udc80"), dbss.InvalidUtf8Error, "name"),
        (lambda: client.create_report(ID, "a\0", *TIME_RANGE), dbss.InvalidIdError, "template_id"),
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
    ]
    for call, kind, parameter in refused:
        with pytest.raises(kind) as caught:
            call()
        assert (caught.type, caught.value.parameter) == (kind, parameter)
    assert mock.connections()["total"] == before


def test_closed_client_or_operation_raises_closed_error(mock, instance):
    mock.add_reports(2, instance=instance)
    client = connect(mock)
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
    with connect(mock) as client, pytest.raises(ValueError, match="closed"):
        client.instances(operation=operation)


# The iterator.


def test_list_error_has_no_chained_exception(mock, client, instance):
    mock.add_reports(3, instance=instance)
    mock.fault("@reports.list", status=403, json={"error_code": "DBSS.9"})
    found = client.reports(instance)
    for use in (lambda: next(found), lambda: list(found)):
        with pytest.raises(dbss.ForbiddenError) as caught:
            use()
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        text = "".join(traceback.format_exception(caught.value))
        assert text.count("Traceback") == 1


def test_abandoned_list_frees_its_cursor(mock, client, instance, monkeypatch):
    mock.add_reports(3, instance=instance)
    freed = []
    real = lists.abi.cursor_free

    def free(pointer):
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


def test_list_can_be_read_by_several_threads(mock, client, instance):
    added = mock.add_reports(40, instance=instance)[::-1]
    found = client.reports(instance, page_size=3)
    seen = []
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for turn in range(len(added)):
            seen.append((one if turn % 2 else other).submit(next, found).result(TIMEOUT).id)
    assert seen == added

    # Concurrently: each item once, or BusyError.
    found = client.reports(instance, page_size=3)
    taken = []
    refused = []

    def take():
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


def test_concurrent_lists_are_independent(mock, client, instance):
    added = mock.add_reports(100, instance=instance)[::-1]
    with ThreadPoolExecutor(8) as pool:
        results = [
            pool.submit(lambda: ids(client.reports(instance, page_size=7))) for _ in range(16)
        ]
        assert all(one.result(TIMEOUT) == added for one in results)


def test_list_keeps_its_operation(mock, client, instance):
    mock.add_reports(3, instance=instance)
    with dbss.Operation(stall_timeout=0.2, max_attempts=1) as operation:
        found = client.reports(instance, page_size=1, operation=operation)
        assert found.total is None
        first = next(found).id
        mock.fault("@reports.list", no_answer=True, times=1)
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
    with pytest.raises(dbss.UnexpectedResponseError):
        next(client.instances() if kind == "instances" else client.reports(mock.instance_id))


LOOK = """
def look(found):
    try:
        next(found, None)
    except dbss.Error as error:
        return error.status_name
instance = os.environ["INSTANCE"]
look(client.instances())
before = peak()
print(*{look(one) for _ in range(3) for one in
        (client.instances(), client.reports(instance), client.templates(instance))})
"""


def test_endless_response_uses_bounded_memory(mock, environment, instance):
    for call in ("@instances", "@reports.list", "@templates"):
        mock.fault(call, fill={"size": 1024 * MIB, "byte": 32}, framing="chunked")
    status, grown = run_and_measure(environment, mock, LOOK, INSTANCE=instance)
    assert status == "DBSS_ERR_UNEXPECTED_RESPONSE"
    assert grown < 64 * 1024


# The versions of the list of instances.


def test_version_of_instances_is_remembered_for_each_endpoint(mock, build_dir):
    mock.set_shapes(versions=["v1_dbss"])
    with MockService(build_dir / "bin/dbss-mock") as first:
        first.set_shapes(versions=["v1"])
        first.add_token(mock.token)
        with connect(mock, endpoint=f"{first.http},{mock.http}") as client:
            client.check(first.project_id)
            assert len(first.requests("@instances")) == 2
            first.close()
            for _ in range(2):
                client.check()
    asked = [one["path"].replace(mock.project_id, "{}") for one in mock.requests("@instances")]
    assert sorted(asked[:2]) == ["/v1/{}/audit/instances", "/v2/{}/audit/instances"]
    assert asked[2:] == ["/v1/{}/dbss/audit/instances"] * 2
