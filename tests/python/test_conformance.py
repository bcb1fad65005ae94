"""The cases of tests/conformance, through the C functions and through Client.

A case that Client cannot express (NULL for a required argument, invalid UTF-8) only runs
through the C functions.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbss
import pytest
from dbss import _abi as abi
from dbss import errors, ffi

if TYPE_CHECKING:
    from mock_service import MockService

DIRECTORY = Path(__file__).parents[1] / "conformance"

LISTENERS = ("http", "https", "https_self_signed", "https_expired", "https_wrong_name")
URLS = ("http", "https", "http_other", "https_other", "proxy", "never_accepts", "iam", "metadata")
NAMES = (
    *("access_key", "secret_key", "user", "password", "domain", "region", "id_token", "idp_id"),
    *("provider_urn", "agency_urn", "agency", "agency_domain", "agency_domain_id", "pod_token"),
)
UNREACHABLE = "http://127.0.0.1:1"
ARGUMENTS = {
    "token": "$TOKEN",
    "project": "$PROJECT",
    "instance": "$INSTANCE",
    "id": "$PDF",
    "locale": "(null)",
    "template": "$TEMPLATE",
    "filter": "(null)",
}
OPTIONAL_ARGUMENTS = ("locale", "project", "filter")
REPEATABLE = (
    *("option", "variable", "fault", "change", "field"),
    *("message_has", "message_lacks"),
)
COMPARED = (
    "http_status",
    "service_code",
    "service_message",
    "request_id",
    "encoded_authorization_message",
    "parameter",
    "os_code",
    "retryable",
    "retry_after_ms",
    "attempts",
    "detail_count",
    "detail_code",
    "detail_message",
)
KEYS = {
    *("case", "endpoint", "ca", "credentials", "file"),
    *("call", "status", "sha256", "length", "count", "connections", "requests"),
    *ARGUMENTS,
    *REPEATABLE,
    *COMPARED,
}


@dataclass
class Case:
    location: str
    single: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.single["case"]

    def add(self, key: str, value: str) -> None:
        assert key in KEYS, f"{self.location}: unknown key {key}"
        if key in REPEATABLE:
            self.repeated.setdefault(key, []).append(value)
        else:
            assert key not in self.single, f"{self.location}: {key} stands twice"
            self.single[key] = value

    def is_for_client(self) -> bool:
        """Whether Client can express the case."""
        for key, default in ARGUMENTS.items():
            value = self.single.get(key, default)
            if value == "(null)" and key not in OPTIONAL_ARGUMENTS:
                return False
            try:
                unescape(value).decode()
            except UnicodeDecodeError:
                return False
        return True


def parse(path: Path) -> list[Case]:
    cases: list[Case] = []
    in_case = False
    # Not splitlines(), which also splits at characters inside values.
    for number, line in enumerate(path.read_bytes().decode().split("\n"), 1):
        location = f"{path.name}:{number}"
        if not line:
            in_case = False
        elif not line.startswith("#"):
            key, colon, value = line.partition(": ")
            assert colon, f"{location}: no key"
            if not in_case:
                assert key == "case", f"{location}: a case begins with its name"
                cases.append(Case(location))
                in_case = True
            cases[-1].add(key, value)
    return cases


def unescape(value: str) -> bytes:
    simple = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
    return re.sub(
        rb"\\(?:x([0-9a-fA-F]{2})|([rnt\\]))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else simple[found[2]],
        value.encode(),
    )


class Values:
    """The values of $NAME in one run of a case."""

    def __init__(self, mock: MockService) -> None:
        self.names = {
            "TOKEN": mock.token,
            "PROJECT": mock.project_id,
            "INSTANCE": mock.instance_id,
            "PDF": mock.pdf["id"],
            "ZIP": mock.zip["id"],
            "TEMPLATE": mock.templates[0]["id"],
            "PDF_EN": mock.pdf["sha256"]["en-us"],
            "PDF_ZH": mock.pdf["sha256"]["zh-cn"],
            "ZIP_EN": mock.zip["sha256"]["en-us"],
            "ZIP_ZH": mock.zip["sha256"]["zh-cn"],
            "FRESH": secrets.token_hex(16),
            **{name.upper(): getattr(mock, name) for name in (*URLS, *NAMES)},
        }

    def fill(self, value: str) -> str:
        value = re.sub(r"\$REPEAT\((.),(\d+)\)", lambda m: m[1] * int(m[2]), value)
        return re.sub(r"\$([A-Z_]+)", lambda m: self.names[m[1]], value)

    def argument(self, value: str) -> bytes | None:
        return None if value == "(null)" else unescape(self.fill(value))


Item = dict[str, Any]


def items_of(page: abi.Page) -> list[Item]:
    """The items of a page, which is freed."""
    buffer = abi.Buffer()
    try:
        abi.page_json(page, ffi.byref(buffer))
        items: list[Item] = json.loads(ffi.buffer_bytes(buffer))["items"]
        return items
    finally:
        abi.buffer_free(ffi.byref(buffer))
        abi.page_free(page)


def field_text(value: Any) -> str:
    """A field in the terms of the cases."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def pairs(values: Values, lines: list[str]) -> list[tuple[str, str]]:
    """Lines of key=value."""
    split = (values.fill(one).partition("=") for one in lines)
    return [(key, value) for key, _, value in split]


@dataclass
class Call:
    """The call of a case, with all values substituted."""

    endpoint: str
    ca_file: str | None
    options: list[tuple[str, str]]
    arguments: dict[str, bytes | None]
    # Whether the options have the credentials, instead of a token.
    credentials_in_options: bool
    name: str
    changes: list[tuple[str, str]]

    def call_abi(self) -> bytes | list[Item]:
        config = abi.Config()
        context = abi.Context()
        abi.config_new(ffi.byref(config))
        try:
            abi.config_set_endpoint(config, self.endpoint.encode())
            if self.ca_file is not None:
                abi.config_set(config, b"ca_file", self.ca_file.encode())
            for key, value in self.options:
                abi.config_set(config, key.encode(), value.encode())
            if not self.credentials_in_options:
                abi.config_set_token(config, self.arguments["token"])
            try:
                abi.context_new(config, ffi.byref(context))
            except dbss.Error:
                assert not context
                raise
            return getattr(self, f"abi_{self.name}")(context)  # type: ignore[no-any-return]
        finally:
            abi.context_free(context)
            abi.config_free(config)

    def given(self, *names: str) -> list[bytes | None]:
        return [self.arguments[name] for name in names]

    def abi_download(self, context: abi.Context) -> bytes:
        # Filled with garbage, to show that the call resets it.
        buffer = abi.Buffer((ctypes.c_uint8 * 1)(), 77)
        others = self.given("project", "instance", "id", "locale")
        try:
            abi.report_download(context, *others, ffi.byref(buffer))
        except dbss.Error:
            assert (bool(buffer.data), buffer.len) == (False, 0)
            raise
        try:
            return ffi.buffer_bytes(buffer)
        finally:
            abi.buffer_free(ffi.byref(buffer))
            assert (bool(buffer.data), buffer.len) == (False, 0)

    def abi_databases(self, context: abi.Context) -> list[Item]:
        cursor, page, items = abi.Cursor(), abi.Page(), []
        others = self.given("project", "instance", "filter")
        abi.databases_list(context, *others, 0, ffi.byref(cursor))
        try:
            while abi.cursor_next(cursor, None, ffi.byref(page)) is None and page:
                items += items_of(page)
        finally:
            abi.cursor_free(cursor)
        return items

    def abi_schedule(self, context: abi.Context) -> list[Item]:
        page = abi.Page()
        others = self.given("project", "instance", "template")
        abi.schedule_show(context, *others, None, ffi.byref(page))
        return items_of(page)

    def abi_update_schedule(self, context: abi.Context) -> list[Item]:
        changes = abi.ScheduleChanges()
        abi.schedule_changes_new(ffi.byref(changes))
        try:
            for key, value in self.changes:
                abi.schedule_changes_set(changes, key.encode(), value.encode())
            others = self.given("project", "instance", "template")
            abi.schedule_update(context, *others, changes, None)
        finally:
            abi.schedule_changes_free(changes)
        return []

    def call_client(self) -> bytes | list[Item]:
        text = {
            key: None if value is None else value.decode() for key, value in self.arguments.items()
        }
        with dbss.Client(
            endpoint=self.endpoint,
            ca_file=self.ca_file,
            token=None if self.credentials_in_options else text["token"],
            options=dict(self.options),
        ) as client:
            found: list[Any]
            if self.name == "databases":
                found = list(
                    client.databases(
                        text["instance"], project_id=text["project"], status=text["filter"]
                    )
                )
                return [one.raw for one in found]
            template = {"project_id": text["project"], "template_id": text["template"]}
            if self.name == "schedule":
                return [client.schedule(text["instance"], **template).raw]
            if self.name == "update_schedule":
                client.update_schedule(text["instance"], **template, **dict(self.changes))
                return []
            return client.download_report(
                text["project"], text["instance"], text["id"], locale=text["locale"]
            )


def all_strings(error: dbss.Error) -> list[str]:
    """All strings of an error."""
    values = [*vars(error).values(), *(part for detail in error.details for part in detail)]
    found = [value for value in values if isinstance(value, str)]
    return [*found, str(error), repr(error)]


def attribute_of(error: dbss.Error, key: str) -> Any:
    """An attribute of an error, in the terms of the cases."""
    if key == "retry_after_ms":
        return -1 if error.retry_after is None else error.retry_after * 1000
    if key == "detail_count":
        return len(error.details)
    if key in ("detail_code", "detail_message"):
        return getattr(error.details[0], key.removeprefix("detail_")) if error.details else None
    value = getattr(error, key)
    return (value or 0) if key in ("http_status", "os_code") else value


def matches(actual: Any, want: str) -> bool:
    if want == "(null)":
        return actual is None
    if want == "(any)":
        return actual is not None and actual != 0
    if isinstance(actual, str) or actual is None:
        return actual == want
    # A duration was converted to seconds, which are a float.
    return float(actual) == float(want)


CASES = [case for path in sorted(DIRECTORY.glob("*.cases")) for case in parse(path)]
CASES_BY_LAYER = [
    pytest.param(case, layer, id=f"{case.name} / {layer}")
    for case in CASES
    for layer in ("functions", "client")
    if layer == "functions" or case.is_for_client()
]


def test_conformance_cases_have_unique_names_and_known_statuses() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert len(names) > 100
    statuses = {one.status_name for one in errors.STATUSES.values()} | {"DBSS_OK"}
    assert all(case.single["status"] in statuses for case in CASES)


@pytest.mark.parametrize(("case", "layer"), CASES_BY_LAYER)
def test_conformance_case(
    case: Case, layer: str, mock: MockService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = Values(mock)
    values.names["FILE"] = str(tmp_path / "file")
    if "file" in case.single:
        content = values.argument(case.single["file"])
        assert content is not None
        (tmp_path / "file").write_bytes(content)
    for variable in case.repeated.get("variable", []):
        monkeypatch.setenv(*values.fill(variable).split("=", 1))
    endpoint = case.single.get("endpoint", "http")
    if endpoint in LISTENERS:
        endpoint = getattr(mock, endpoint)
    options = pairs(values, case.repeated.get("option", []))
    # Without retries the error of the fault is visible.
    if all(key != "max_attempts" for key, _ in options):
        options.insert(0, ("max_attempts", "1"))
    call = Call(
        UNREACHABLE if endpoint == "dead" else values.fill(endpoint),
        mock.ca_file if case.single.get("ca", "yes") == "yes" else None,
        options,
        {key: values.argument(case.single.get(key, default)) for key, default in ARGUMENTS.items()},
        case.single.get("credentials") == "options",
        case.single.get("call", "download"),
        pairs(values, case.repeated.get("change", [])),
    )
    report = values.fill(case.single.get("id", ARGUMENTS["id"]))

    for fault in case.repeated.get("fault", []):
        mock.fault(**json.loads(values.fill(fault)))
    connections = mock.connections()["total"]
    requests = len(mock.requests(report))
    error: dbss.Error | None = None
    received: bytes | list[Item] = b""
    try:
        received = call.call_client() if layer == "client" else call.call_abi()
    except dbss.Error as caught:
        error = caught
    finally:
        mock.clear_faults()
    connections = mock.connections()["total"] - connections
    requests = len(mock.requests(report)) - requests

    want = case.single
    status = "DBSS_OK" if error is None else error.status_name
    assert status == want["status"], f"{case.location}: {error}"
    if "connections" in want:
        assert connections == int(want["connections"])
    if "requests" in want:
        assert requests == int(want["requests"])
    if error is None:
        if isinstance(received, list):
            if "count" in want:
                assert len(received) == int(want["count"])
            for name, value in pairs(values, case.repeated.get("field", [])):
                assert field_text(received[0][name]) == value
            return
        if "sha256" in want:
            assert hashlib.sha256(received).hexdigest() == values.fill(want["sha256"])
        if "length" in want:
            assert len(received) == int(want["length"])
        return

    assert type(error) is errors.STATUSES[error.status]
    if isinstance(error, dbss.ArgumentError):
        assert connections == 0
    for key in COMPARED:
        if key in want:
            actual = attribute_of(error, key)
            assert matches(actual, values.fill(want[key])), (
                f"{key} is {actual!r}, not {want[key]!r}"
            )
    for part in case.repeated.get("message_has", []):
        assert values.fill(part) in error.message
    for part in case.repeated.get("message_lacks", []):
        assert values.fill(part) not in error.message
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", error.message)
    token = (call.arguments["token"] or b"").decode("utf-8", "replace")
    if len(token) >= 8:
        # The beginning of the token: even a part of it would be a leak.
        assert all(token[:24] not in one for one in all_strings(error))
    secret_keys = {one.key for one in dbss.options() if one.type == "secret"}
    for key, value in options:
        if key in secret_keys and len(value) >= 8:
            assert all(value not in one for one in all_strings(error))
