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
from collections.abc import Callable
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
NAMES = ("access_key", "secret_key", "user", "password", "domain", "region")
UNREACHABLE = "http://127.0.0.1:1"
ARGUMENTS = {
    "token": "$TOKEN",
    "project": "$PROJECT",
    "instance": "$INSTANCE",
    "id": "$PDF",
    "locale": "(null)",
}
REPEATABLE = ("option", "fault", "control", "spec", "field", "message_has", "message_lacks")
# What the faults and the request log call the calls that are no downloads.
CALLS = {
    "check": "@instances",
    "instances": "@instances",
    "reports": "@reports.list",
    "templates": "@templates",
    "create": "@reports.create",
    "delete": "@reports.delete",
}
# What a case may change at the control address.
RESET = ("/shapes", "/paging", "/undocumented", "/iam")
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
    *("case", "endpoint", "ca", "credentials"),
    *("status", "sha256", "length", "connections", "requests"),
    *("call", "page_size", "ids", "count", "total"),
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
            if value == "(null)" and key not in ("locale", "project"):
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
            "TEMPLATE": mock.templates[0]["id"],
            "PDF": mock.pdf["id"],
            "ZIP": mock.zip["id"],
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


@dataclass
class Call:
    """The call of a case, with all values substituted."""

    endpoint: str
    ca_file: str | None
    options: list[tuple[str, str]]
    arguments: dict[str, bytes | None]
    # Whether the options have the credentials, instead of a token.
    credentials_in_options: bool
    call: str = "download"
    page_size: int = 0
    spec: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    # The items of a list: the id and a function that returns a field.
    items: list[tuple[str | None, Callable[[str], str | None]]] = field(default_factory=list)
    total: int | None = None

    def call_abi(self) -> bytes:
        config = abi.Config()
        context = abi.Context()
        # Filled with garbage, to show that the call resets it.
        buffer = abi.Buffer((ctypes.c_uint8 * 1)(), 77)
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
            others = [self.arguments[name] for name in ("project", "instance", "id", "locale")]
            if self.call != "download":
                self.call_other_abi(context)
                return b""
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
        finally:
            abi.context_free(context)
            abi.config_free(config)

    def call_other_abi(self, context: abi.Context) -> None:
        project, instance, report = (self.arguments[name] for name in ("project", "instance", "id"))
        none = abi.Operation()
        if self.call == "check":
            abi.context_check(context, project, none)
        elif self.call == "delete":
            abi.report_delete(context, project, instance, report, none)
        elif self.call == "create":
            spec = abi.ReportSpec()
            abi.report_spec_new(ffi.byref(spec))
            try:
                for key, value in self.spec.items():
                    abi.report_spec_set(spec, key.encode(), value.encode())
                abi.report_create(context, project, instance, spec, none)
            finally:
                abi.report_spec_free(spec)
        else:
            cursor = abi.Cursor()
            if self.call == "instances":
                abi.instances_list(context, project, self.page_size, ffi.byref(cursor))
            elif self.call == "reports":
                size = self.page_size
                abi.reports_list(context, project, instance, None, size, ffi.byref(cursor))
            else:
                abi.templates_list(context, project, instance, ffi.byref(cursor))
            try:
                while self.read_page(cursor):
                    pass
            finally:
                abi.cursor_free(cursor)

    def read_page(self, cursor: abi.Cursor) -> bool:
        page = abi.Page()
        abi.cursor_next(cursor, abi.Operation(), ffi.byref(page))
        if not page:
            return False
        try:
            self.total = abi.page_total(page)
            for index in range(abi.page_count(page)):
                names = ("id", *(name for name, _ in self.wanted))
                got = {
                    name: ffi.decode(abi.page_field(page, index, name.encode())) for name in names
                }
                self.items.append((got["id"], got.get))
        finally:
            abi.page_free(page)
        return True

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """The fields that the case compares."""
        return [(name, value) for name, _, value in (one.partition("=") for one in self.fields)]

    def call_other_client(self, client: dbss.Client, text: dict[str, Any]) -> None:
        project, instance = text["project"], text["instance"]
        if self.call == "check":
            client.check(project)
        elif self.call == "delete":
            client.delete_report(instance, text["id"], project_id=project)
        elif self.call == "create":
            client.create_report(instance, **self.spec, project_id=project)
        else:
            arguments = {"project_id": project}
            if self.call != "templates":
                arguments["page_size"] = self.page_size
            found = getattr(client, self.call)(
                *(() if self.call == "instances" else (instance,)), **arguments
            )
            for item in found:

                def get(name: str, item: Any = item) -> str | None:
                    value = getattr(item, name, item.raw.get(name))
                    return value if value is None or isinstance(value, str) else json.dumps(value)

                self.items.append((item.id, get))
            self.total = -1 if found.total is None else found.total

    def call_client(self) -> bytes:
        text = {
            key: None if value is None else value.decode() for key, value in self.arguments.items()
        }
        with dbss.Client(
            endpoint=self.endpoint,
            ca_file=self.ca_file,
            token=None if self.credentials_in_options else text["token"],
            options=dict(self.options),
        ) as client:
            if self.call != "download":
                self.call_other_client(client, text)
                return b""
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
def test_conformance_case(case: Case, layer: str, mock: MockService) -> None:
    values = Values(mock)
    endpoint = case.single.get("endpoint", "http")
    if endpoint in LISTENERS:
        endpoint = getattr(mock, endpoint)
    options = [
        (key, value)
        for key, _, value in (
            values.fill(one).partition("=") for one in case.repeated.get("option", [])
        )
    ]
    what = case.single.get("call", "download")
    # Without retries the error of the fault is visible.
    if all(key != "max_attempts" for key, _ in options):
        options.insert(0, ("max_attempts", "1"))
    call = Call(
        UNREACHABLE if endpoint == "dead" else values.fill(endpoint),
        mock.ca_file if case.single.get("ca", "yes") == "yes" else None,
        options,
        {key: values.argument(case.single.get(key, default)) for key, default in ARGUMENTS.items()},
        case.single.get("credentials") == "options",
        what,
        int(case.single.get("page_size", "0")),
        dict(values.fill(one).split("=", 1) for one in case.repeated.get("spec", [])),
        [values.fill(one) for one in case.repeated.get("field", [])],
    )
    report = CALLS.get(what) or values.fill(case.single.get("id", ARGUMENTS["id"]))

    for change in case.repeated.get("control", []):
        path, _, body = values.fill(change).partition(" ")
        mock.post(path, json.loads(body))
    for fault in case.repeated.get("fault", []):
        mock.fault(**json.loads(values.fill(fault)))
    connections = mock.connections()["total"]
    requests = len(mock.requests(report))
    error: dbss.Error | None = None
    received = b""
    try:
        received = call.call_client() if layer == "client" else call.call_abi()
    except dbss.Error as caught:
        error = caught
    finally:
        mock.clear_faults()
        if "control" in case.repeated:
            for path in RESET:
                mock.post(path, {})
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
        if "sha256" in want:
            assert hashlib.sha256(received).hexdigest() == values.fill(want["sha256"])
        if "length" in want:
            assert len(received) == int(want["length"])
        ids = [id for id, _ in call.items]
        assert len(set(ids)) == len(ids)
        if "ids" in want:
            assert ",".join(str(id) for id in ids) == values.fill(want["ids"])
        if "count" in want:
            assert len(ids) == int(want["count"])
        if "total" in want:
            assert call.total == int(want["total"])
        for name, value in call.wanted:
            assert matches(call.items[0][1](name), value), name
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
