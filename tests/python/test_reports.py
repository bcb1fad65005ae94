"""Reports that the service makes, and schedules: the idiom of Python.

What these calls do is in tests/conformance/reports.json.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import dbss
import pytest

# An upper limit for every wait; only a hang reaches it.
TIMEOUT = 60.0
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")
ID = "0123456789abcdef0123456789abcdef"


def connect(mock, **more):
    settings = {"token": mock.token, "project_id": mock.project_id, "poll_interval": 0.01}
    return dbss.Client(**{"endpoint": mock.http, **settings, **more})


@pytest.fixture
def client(mock):
    with connect(mock) as one:
        yield one


def test_duration_that_is_no_number_is_rejected():
    for settings in (
        {"wait_timeout": -1},
        {"poll_interval": 90000},
        {"wait_timeout": float("nan")},
    ):
        with pytest.raises(dbss.InvalidValueError) as caught:
            dbss.Operation(**settings)
        assert caught.value.parameter == f"{next(iter(settings))}_ms"
        with pytest.raises(dbss.InvalidValueError):
            dbss.Client(endpoint="http://127.0.0.1:1", **settings)
    dbss.Operation(wait_timeout=None, poll_interval=86400).close()


def test_create_on_stale_connection_succeeds(mock, client, instance):
    # After this response the mock service closes a connection that the client would reuse.
    mock.fault("@reports.list", headers=[["Connection", "keep-alive"]], times=1)
    assert list(client.reports(instance)) == []
    wait_for_closed_connection(mock)
    client.create_report(instance, mock.templates[0]["id"], *TIME_RANGE)
    assert len(list(client.reports(instance))) == 1


def wait_for_closed_connection(mock):
    """Waits until this machine has seen the mock service close all connections."""
    port = int(mock.http.rsplit(":", 1)[1])
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        sockets = [line.split()[2:4] for line in lines]
        # 01 is ESTABLISHED, on this side.
        if not any(int(to.split(":")[1], 16) == port and how == "01" for to, how in sockets):
            return
    pytest.fail("the mock service keeps a connection")


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
        assert now.percent is None
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        client.generate_report(instance, mock.templates[0]["id"], *TIME_RANGE, progress=progress)


def test_report_that_is_not_ready_is_a_timeout_error(mock, client, instance):
    report = mock.add_report(format="pdf", instance=instance, percentum=0)["id"]
    with dbss.Operation(wait_timeout=0.1) as operation, pytest.raises(TimeoutError) as caught:
        client.wait_for_report(instance, report, operation=operation)
    assert isinstance(caught.value, dbss.NotReadyError)


def test_readme_five_lines_generate_and_save_a_report(root, mock, environment, tmp_path):
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
            "ENDPOINT": mock.http,
            "HUAWEICLOUD_SDK_AK": mock.access_key,
            "HUAWEICLOUD_SDK_SK": mock.secret_key,
            "HUAWEICLOUD_SDK_PROJECT_ID": mock.project_id,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == mock.made()[-1]
    [file] = (tmp_path / "reports").iterdir()
    assert file.read_bytes().startswith(b"%PDF-")
