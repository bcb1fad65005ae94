"""The log of the Python package."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dbss
import pytest

from support import TIMEOUT, CustomError, sha256


def test_log_records_come_on_the_thread_of_the_call(mock, connect, new_report, tmp_path):
    report = new_report(cut_after=100_000, times=1)
    records = []
    threads = set()

    def log(record):
        records.append(record)
        threads.add(threading.get_ident())

    with connect(log=log) as client:
        client.download_report_to(*report.ids, tmp_path)
        saved = records[-1]
        client.set_token("another-token")
        with pytest.raises(dbss.UnauthenticatedError):
            client.download_report(*report.ids)
    assert threads == {threading.get_ident()}
    assert {one.level for one in records} <= {1, 2, 3, 4}
    assert saved.duration is not None
    assert 0 < saved.duration < TIMEOUT
    for one in records:
        assert type(one.message) is str
        assert mock.token[:24] not in repr(one)
        assert "another-token" not in repr(one)


def test_log_to_logger_has_attributes(mock, connect, new_report, caplog):
    report = new_report(cut_after=100_000, times=1)
    logger = logging.getLogger("reports")
    caplog.set_level(logging.INFO, "reports")
    adapter = logging.LoggerAdapter(logger, {})
    for supplied in (logger, adapter, logger.log, adapter.log):
        before = len(caplog.records)
        with connect(log=supplied) as client:
            client.download_report(*report.ids)
            with pytest.raises(dbss.NotFoundError):
                client.download_report(*report.ids[:1], "x" * 16)
        assert len(caplog.records) > before
    assert {one.name for one in caplog.records} == {"reports"}
    levels = {logging.ERROR, logging.WARNING, logging.INFO}
    assert {one.levelno for one in caplog.records} == levels
    [warning] = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "100000" in warning.getMessage()
    assert vars(warning)["dbss_offset"] == 100_000
    assert vars(warning)["dbss_report_id"] == report.id
    for rejected in ("a name", logging.ERROR):
        with pytest.raises(TypeError, match=r"logging\.Logger"):
            dbss.Client(endpoint=mock.http, log=rejected)


def test_log_records_come_during_the_call(connect, new_report):
    report = new_report(status=503, headers=[["Retry-After", "50"]])
    operation = dbss.Operation()
    came = []

    def log(record):
        came.append(record.message)
        operation.cancel()

    with (
        connect(log=log) as client,
        ThreadPoolExecutor(1) as pool,
        pytest.raises(dbss.CancelledError),
    ):
        pool.submit(client.download_report, *report.ids, operation=operation).result(TIMEOUT)
    assert "503" in came[0]


def test_log_function_may_call_and_gets_its_own_records(connect, new_report):
    report, other = new_report(cut_after=100_000, times=1), new_report(1000)
    seen = []
    errors = []

    def log(record):
        seen.append(record.report_id)
        if record.level == dbss.LOG_WARNING:
            assert sha256(client.download_report(*other.ids)) == other.sha256
            try:
                client.download_report(*report.ids[:1], "x" * 16)
            except dbss.NotFoundError as error:
                errors.append(error)

    with connect(log=log) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    [error] = errors
    assert error.service_code == "DBSS.10021004"
    assert seen.index(other.id) > seen.index(report.id)
    assert seen[-1] == report.id
    assert "x" * 16 in seen


def test_log_exception_does_not_end_the_call(connect, new_report, monkeypatch):
    report = new_report(cut_after=100_000, times=1)
    exception = CustomError()
    hooked = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: hooked.append(one.exc_value))

    def log(record):
        raise exception

    with connect(log=log) as client:
        assert sha256(client.download_report(*report.ids)) == report.sha256
    assert set(hooked) == {exception}
