"""The conformance driver for the Python package; ../README.md describes the protocol."""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dbss
from dbss import _abi as abi
from serving import as_field, known, put, serve

LEVELS = {
    dbss.LOG_ERROR: "error",
    dbss.LOG_WARNING: "warning",
    dbss.LOG_INFO: "info",
    dbss.LOG_DEBUG: "debug",
}
STATUS_NAMES = {one.status: one.status_name for one in dbss.errors.STATUSES.values()}
COUNTS = ("listed", "downloaded", "present", "not_ready", "vanished", "failed", "repaired")
ERROR_FIELDS = (
    *("message", "parameter", "http_status", "service_code", "service_message", "request_id"),
    *("encoded_authorization_message", "cancelled_by", "redirect_target", "os_code"),
    *("retryable", "attempts"),
)
LOG_FIELDS = ("message", "http_status", "attempt", "request_id", "report_id", "bytes", "offset")
OPERATION_FIELDS = (
    *("received", "total", "resumed", "attempts", "percent", "filename", "request_id"),
    *("content_type", "format"),
)
STREAM_FIELDS = ("size", "format", "filename", "content_type", "request_id")

clients: dict[str, dbss.Client] = {}
kept: dict[str, Any] = {}
operations: dict[int, dbss.Operation] = {}
# For each held request of a provider, the queue for its answer.
held: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()


def fields(of: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def mistakes(error: dbss.Error, operation: dbss.Operation | None) -> list[str]:
    """What contradicts an exception that was raised."""
    # A busy operation keeps the result of its other call.
    if operation is None or isinstance(error, dbss.BusyError):
        return []
    own = operation.error
    if type(own) is type(error) and error_fields(own) == error_fields(error):
        return []
    return [f"the operation has the error {own!r}"]


def error_fields(error: dbss.Error) -> dict[str, Any]:
    return {
        **fields(error, ERROR_FIELDS),
        "details": [one._asdict() for one in error.details],
        "candidates": list(error.candidates),
        "path": None if error.path is None else str(error.path),
        "retry_after_ms": milliseconds(error.retry_after),
    }


def log_event(client: str, record: dbss.LogRecord) -> None:
    put(
        event="log",
        client=client,
        **fields(record, LOG_FIELDS),
        level=LEVELS[record.level],
        status=STATUS_NAMES.get(record.status) if record.status is not None else None,
        duration_ms=milliseconds(record.duration),
        retry_delay_ms=milliseconds(record.retry_delay),
    )


def provider(client: str, answers: list[dict[str, Any]], key: str) -> Callable[[bool], Any]:
    left = list(answers)

    def provide(refused: bool) -> Any:
        put(event="asked", client=client, refused=refused)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if "hold" in answer:
            later: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
            held.put(later)
            answer = later.get()
        if "fail" in answer:
            raise RuntimeError(answer["fail"])
        if "expires_in_ms" in answer:
            lifetime = timedelta(milliseconds=answer["expires_in_ms"])
            return answer[key], datetime.now(timezone.utc) + lifetime
        return answer[key]

    return provide


def configure(request: dict[str, Any]) -> dict[str, Any] | None:
    name = request["client"]
    free(request)
    settings = dict(request["settings"])
    callbacks: dict[str, Any] = {}
    if request["token_provider"]:
        callbacks["token_provider"] = provider(name, request["token_provider"], "token")
        settings.pop("token", None)
    if request["passcodes"]:
        callbacks["passcode_provider"] = provider(name, request["passcodes"], "passcode")
    if request["log"]:
        settings["log_level"] = request["log"]
        callbacks["log"] = lambda record: log_event(name, record)
    try:
        clients[name] = dbss.Client(options=settings, **callbacks)
    except dbss.Error as error:
        return {"status": error.status_name, "error": error_fields(error)}
    return None


class Writer:
    """A target for bytes, which is no file."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115

    def write(self, chunk: bytes) -> int:
        return self._file.write(chunk)


def items(found: Any, names: list[str]) -> list[dict[str, Any]]:
    return [
        {name: as_field(getattr(one, name, one.raw.get(name))) for name in names} for one in found
    ]


def next_page(found: Any, names: list[str]) -> dict[str, Any]:
    at_end = not found._load_page()
    page = list(iter(found._pop, None))
    return {"items": items(page, names), "total": found.total, "at_end": at_end}


def credentials(found: dbss.Credentials) -> dict[str, Any]:
    expires = found.expires_at
    return {
        **fields(found, ("source", "description", "name")),
        "project": found.project_id,
        "expires_ms": None if expires is None else round(expires.timestamp() * 1000),
    }


def report_of(given: dict[str, Any]) -> list[Any]:
    return [given["instance"], given["id"]]


def language_of(given: dict[str, Any]) -> dict[str, Any]:
    return {"project_id": given["project"], "locale": given["locale"]}


def download_to(what: str, client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> Any:
    ids, more = report_of(given), {**language_of(given), **more}
    if what in ("file", "directory"):
        target = given["path"] if what == "file" else given["directory"] + "/"
        path = client.download_report_to(*ids, target, replace=given["replace"], **more)
        return {"path": str(path)}
    if what == "callback":
        return client.download_report_to(*ids, Writer(given["into"]), **more)
    target = given["open"] or {"path": given["into"], "mode": "w"}
    with open(target["path"], target["mode"] + "b", buffering=0) as file:
        file.seek(target.get("offset", 0))
        return client.download_report_to(*ids, file.fileno(), **more)


def open_report(client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> Any:
    stream = client.open_report(*report_of(given), **language_of(given), **more)
    facts = fields(stream, STREAM_FIELDS)
    if given["keep"]:
        kept[given["as"]] = stream
        return facts
    with stream, open(given["into"], "wb") as file:
        while chunk := stream.read1(given["read_size"]):
            file.write(chunk)
    return facts


def read_stream(given: dict[str, Any]) -> dict[str, Any]:
    size = given["size"]
    got = kept[given["stream"]].read(-1 if size is None else size)
    Path(given["into"]).write_bytes(got)
    return {"at_end": size is None or len(got) < size}


def listed(what: str, client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> Any:
    of = {} if what == "instances" else {"instance_id": given["instance"]}
    wanted = {key: given[key] for key in ("name", "status") if key in given}
    if given.get("page_size"):
        wanted["page_size"] = given["page_size"]
    found = getattr(client, what)(**of, **wanted, project_id=given["project"], **more)
    if given["keep"]:
        kept[given["as"]] = found
        return {}
    return {"items": items(list(found), given["fields"]), "total": found.total}


def perform(what: str, client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> Any:
    """Makes the call; returns its result."""
    project = {"project_id": given.get("project")}
    place, report = given.get("instance"), given.get("id")
    if what == "check":
        return client.check(given["project"], **more)
    if what == "find_credentials":
        return credentials(client.find_credentials(**more))
    if what == "set_token":
        return client.set_token(given["token"])
    if what in ("download", "download_to_memory"):
        found = client.download_report(*report_of(given), **language_of(given), **more)
        Path(given["into"]).write_bytes(found)
        return {}
    if what.startswith("download_to_"):
        return download_to(what.removeprefix("download_to_"), client, given, more)
    if what == "open_report":
        return open_report(client, given, more)
    if what == "read_stream":
        return read_stream(given)
    if what == "close_stream":
        return kept[given["stream"]].close()
    if what == "reset":
        return more["operation"].reset()
    if what == "look":
        return {}
    if what in ("instances", "reports", "templates", "databases"):
        return listed(what, client, given, more)
    if what == "next_page":
        return next_page(kept[given["list"]], given["fields"])
    if what == "schedule":
        [shown] = items(
            [client.schedule(place, given["template"], **project, **more)], given["fields"]
        )
        return shown
    if what == "update_schedule":
        changes = {**given["changes"], **project, **more}
        return client.update_schedule(place, given["template"], **changes)
    if what == "create":
        return client.create_report(place, **given["spec"], **project, **more)
    if what == "generate":
        return {"id": client.generate_report(place, **given["spec"], **project, **more)}
    if what == "wait":
        return client.wait_for_report(place, report, **project, **more)
    if what == "delete":
        return client.delete_report(place, report, **project, **more)
    if what == "mirror":
        options = {**given["options"], **project, **more}
        if "instance" in options:
            options["instance_id"] = options.pop("instance")
        return mirror_result(client.mirror(given["directory"], **options))
    raise NotImplementedError(what)


def mirror_result(result: dbss.MirrorResult) -> dict[str, Any]:
    failures = [
        {
            "id": one.report_id,
            "instance": one.instance_id,
            "error": {**error_fields(one.error), "status": one.error.status_name},
        }
        for one in result.failures
    ]
    gaps = [
        {"period": str(one.period), "type": one.type, "instance": one.instance_id}
        for one in result.gaps
    ]
    return {**fields(result, COUNTS), "failures": failures, "gaps": gaps}


def call(request: dict[str, Any]) -> dict[str, Any]:
    number, given, wanted = request["id"], request["arguments"], request["operation"]
    more: dict[str, Any] = {}
    response: dict[str, Any] = {"status": "DBSS_OK"}
    operation, started = None, False
    try:
        if wanted is not None:
            operation = more["operation"] = operations.get(wanted["of"]) or dbss.Operation()
            operations[number] = operation
            for key, value in wanted["settings"]:
                abi.operation_set(operation._open_control().pointer, key.encode(), value.encode())
            if wanted["cancelled"]:
                operation.cancel()
            if wanted["progress"]:
                more["progress"] = progress(number, wanted["progress"])
        started = True
        response["result"] = perform(request["call"], clients[request["client"]], given, more) or {}
    except dbss.Error as error:
        response |= {"status": error.status_name, "error": error_fields(error)}
        response["error"]["mistakes"] = mistakes(error, operation if started else None)
        if error.result is not None:
            response["result"] = mirror_result(error.result)
    if operation is not None:
        path = None if operation.path is None else str(operation.path)
        response["operation"] = {**fields(operation, OPERATION_FIELDS), "path": path}
        if response["status"] == "DBSS_OK" and operation.error is not None:
            return {"unsupported": f"success with {operation.error!r}"}
    return response


def progress(number: int, wanted: Any) -> Callable[[dbss.Progress], bool]:
    def report(now: dbss.Progress) -> bool:
        put(event="progress", of=number, **fields(now, ("received", "total", "percent")))
        return wanted == "record" or now.received < wanted["stop_after"]

    return report


def free(request: dict[str, Any]) -> None:
    if request["client"] in clients:
        clients.pop(request["client"]).close()


def close_all() -> None:
    for client in clients.values():
        client.close()


if __name__ == "__main__":
    handlers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "call": call,
        "configure": configure,
        "cancel": lambda request: known(operations, request["of"]).cancel(),
        "answer": lambda request: held.get().put(request["answer"]),
        "cancel_all": lambda request: clients[request["client"]].cancel_all(),
        "close": lambda request: clients[request["client"]].close(),
        "free": free,
    }
    serve(handlers, close_all)
