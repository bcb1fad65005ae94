"""The conformance driver for the Python package; ../README.md describes the protocol."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dbss
from dbss import _abi as abi

LEVELS = {
    dbss.LOG_ERROR: "error",
    dbss.LOG_WARNING: "warning",
    dbss.LOG_INFO: "info",
    dbss.LOG_DEBUG: "debug",
}
STATUS_NAMES = {one.status: one.status_name for one in dbss.errors.STATUSES.values()}
COUNTS = (
    "listed",
    "downloaded",
    "present",
    "not_ready",
    "vanished",
    "failed",
    "repaired",
)

clients: dict[str, dbss.Client] = {}
kept: dict[str, Any] = {}
operations: dict[int, dbss.Operation] = {}
# For each held request of a provider, the queue for its answer.
held: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()
output = threading.Lock()


def put(**line: Any) -> None:
    with output:
        print(json.dumps(line), flush=True)


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def text(value: Any) -> str | None:
    """A field as text; what is none as compact JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def mistakes(error: dbss.Error, operation: dbss.Operation | None) -> list[str]:
    """What contradicts an exception that was raised."""
    # A busy operation keeps the result of its other call.
    if operation is None or isinstance(error, dbss.BusyError):
        return []
    kept = operation.error
    if type(kept) is type(error) and error_fields(kept) == error_fields(error):
        return []
    return [f"the operation has the error {kept!r}"]


def error_fields(error: dbss.Error) -> dict[str, Any]:
    names = (
        *(
            "message",
            "parameter",
            "http_status",
            "service_code",
            "service_message",
            "request_id",
        ),
        *(
            "encoded_authorization_message",
            "cancelled_by",
            "redirect_target",
            "os_code",
        ),
        *("retryable", "attempts"),
    )
    return {
        **{name: getattr(error, name) for name in names},
        "details": [one._asdict() for one in error.details],
        "candidates": list(error.candidates),
        "path": None if error.path is None else str(error.path),
        "retry_after_ms": milliseconds(error.retry_after),
    }


def log_event(client: str, record: dbss.LogRecord) -> None:
    put(
        event="log",
        client=client,
        level=LEVELS[record.level],
        message=record.message,
        status=STATUS_NAMES.get(record.status) if record.status is not None else None,
        http_status=record.http_status,
        attempt=record.attempt,
        request_id=record.request_id,
        report_id=record.report_id,
        bytes=record.bytes,
        duration_ms=milliseconds(record.duration),
        offset=record.offset,
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
            now = dbss.credentials.datetime.now(dbss.credentials.timezone.utc)
            lifetime = dbss.credentials.timedelta(milliseconds=answer["expires_in_ms"])
            return answer[key], now + lifetime
        return answer[key]

    return provide


def configure(request: dict[str, Any]) -> None:
    name = request["client"]
    if name in clients:
        clients.pop(name).close()
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
    clients[name] = dbss.Client(options=settings, **callbacks)


class Writer:
    """A target for bytes, which is no file."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115

    def write(self, chunk: bytes) -> int:
        return self._file.write(chunk)


def items(found: Any, fields: list[str]) -> list[dict[str, Any]]:
    return [{name: text(getattr(one, name, one.raw.get(name))) for name in fields} for one in found]


def page_of(found: Any, fields: list[str]) -> dict[str, Any]:
    at_end = not found.load_page()
    page = []
    while (item := found.pop()) is not None:
        page.append(item)
    return {"items": items(page, fields), "total": found.total, "at_end": at_end}


def perform(what: str, client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> Any:
    """Makes the call; returns its result."""
    ids = [given.get(name) for name in ("instance", "id")]
    project = {"project_id": given.get("project")}
    operation = {"operation": more.get("operation")}
    where = project | {"locale": given.get("locale")}
    if what == "check":
        return client.check(given["project"], **operation)
    if what == "find_credentials":
        found = client.find_credentials(**operation)
        expires = found.expires_at
        return {
            "source": found.source,
            "description": found.description,
            "name": found.name,
            "project": found.project_id,
            "expires_ms": None if expires is None else round(expires.timestamp() * 1000),
        }
    if what == "set_token":
        return client.set_token(given["token"])
    if what in ("download", "download_to_memory"):
        Path(given["into"]).write_bytes(client.download_report(*ids, **where, **more))
        return {}
    if what in ("download_to_file", "download_to_directory"):
        target = given["path"] if what == "download_to_file" else given["directory"] + "/"
        path = client.download_report_to(*ids, target, replace=given["replace"], **where, **more)
        return {"path": str(path)}
    if what == "download_to_descriptor":
        target = given["open"] or {"path": given["into"], "mode": "w"}
        with open(target["path"], target["mode"] + "b", buffering=0) as file:
            file.seek(target.get("offset", 0))
            client.download_report_to(*ids, file.fileno(), **where, **more)
        return {}
    if what == "download_to_callback":
        writer = Writer(given["into"])
        client.download_report_to(*ids, writer, **where, **more)
        return {}
    if what == "open_report":
        stream = client.open_report(*ids, **where, **more)
        facts = {
            "size": stream.size,
            "format": stream.format,
            "filename": stream.filename,
        }
        facts |= {"content_type": stream.content_type, "request_id": stream.request_id}
        if given["keep"]:
            kept[given["as"]] = stream
        else:
            with stream, open(given["into"], "wb") as file:
                while chunk := stream.read1(given["read_size"]):
                    file.write(chunk)
        return facts
    if what == "read_stream":
        size = given["size"]
        got = kept[given["stream"]].read(-1 if size is None else size)
        Path(given["into"]).write_bytes(got)
        return {"at_end": size is None or len(got) < size}
    if what == "reset":
        return more["operation"].reset()
    if what == "look":
        return {}
    if what == "close_stream":
        return kept[given["stream"]].close()
    if what in ("instances", "reports", "templates", "databases"):
        of = {} if what == "instances" else {"instance_id": given["instance"]}
        wanted = {key: given[key] for key in ("name", "status") if key in given}
        if given.get("page_size"):
            wanted["page_size"] = given["page_size"]
        listed = getattr(client, what)(**of, **wanted, **project, **operation)
        if given["keep"]:
            kept[given["as"]] = listed
            return {}
        found = list(listed)
        return {"items": items(found, given["fields"]), "total": listed.total}
    if what == "next_page":
        return page_of(kept[given["list"]], given["fields"])
    if what in ("schedule", "update_schedule"):
        template = [given["instance"], given["template"]]
        if what == "update_schedule":
            return client.update_schedule(*template, **given["changes"], **project, **operation)
        [shown] = items([client.schedule(*template, **project, **operation)], given["fields"])
        return shown
    if what == "create":
        return client.create_report(given["instance"], **given["spec"], **project, **operation)
    if what == "generate":
        return {"id": client.generate_report(given["instance"], **given["spec"], **project, **more)}
    if what == "wait":
        return client.wait_for_report(given["instance"], given["id"], **project, **more)
    if what == "delete":
        return client.delete_report(given["instance"], given["id"], **project, **operation)
    if what == "mirror":
        return mirror(client, given, more)
    raise NotImplementedError(what)


def mirror(client: dbss.Client, given: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    options = dict(given["options"])
    if "instance" in options:
        options["instance_id"] = options.pop("instance")
    result = client.mirror(given["directory"], project_id=given["project"], **options, **more)
    return mirror_result(result)


def mirror_result(result: dbss.MirrorResult) -> dict[str, Any]:
    return {
        **{name: getattr(result, name) for name in COUNTS},
        "failures": [
            {
                "id": one.report_id,
                "instance": one.instance_id,
                "error": {**error_fields(one.error), "status": one.error.status_name},
            }
            for one in result.failures
        ],
        "gaps": [
            {"period": str(one.period), "type": one.type, "instance": one.instance_id}
            for one in result.gaps
        ],
    }


def call(request: dict[str, Any]) -> None:
    number, given, wanted = request["id"], request["arguments"], request["operation"]
    more: dict[str, Any] = {}
    response: dict[str, Any] = {"id": number, "status": "DBSS_OK"}
    operation, started = None, False
    try:
        if wanted is not None:
            kept_one = operations.get(wanted["of"])
            operation = more["operation"] = kept_one or dbss.Operation()
            operations[number] = operation
            for key, value in wanted["settings"]:
                abi.operation_set(operation.control().pointer, key.encode(), value.encode())
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
    except NotImplementedError as error:
        response = {"id": number, "unsupported": str(error)}
    except Exception as error:
        response = {"id": number, "unsupported": f"{type(error).__name__}: {error}"}
    if operation is not None:
        names = (
            "received",
            "total",
            "resumed",
            "attempts",
            "percent",
            "filename",
            "request_id",
        )
        after = {name: getattr(operation, name) for name in (*names, "content_type", "format")}
        after["path"] = None if operation.path is None else str(operation.path)
        response["operation"] = after
        if response["status"] == "DBSS_OK" and operation.error is not None:
            response = {"id": number, "unsupported": f"success with {operation.error!r}"}
    put(**response)


def progress(number: int, wanted: Any) -> Callable[[dbss.Progress], bool]:
    def report(now: dbss.Progress) -> bool:
        put(
            event="progress", of=number, received=now.received, total=now.total, percent=now.percent
        )
        return wanted == "record" or now.received < wanted["stop_after"]

    return report


def serve(request: dict[str, Any], threads: list[threading.Thread]) -> None:
    what = request["do"]
    if what == "call":
        if request["background"]:
            threads.append(threading.Thread(target=call, args=(request,)))
            threads[-1].start()
        else:
            call(request)
        return
    try:
        if what == "configure":
            configure(request)
        elif what == "cancel":
            operations[request["of"]].cancel()
        elif what == "answer":
            held.get().put(request["answer"])
        elif what == "cancel_all":
            clients[request["client"]].cancel_all()
        elif what == "close":
            clients[request["client"]].close()
        elif what == "free":
            if request["client"] in clients:
                clients.pop(request["client"]).close()
        else:
            put(id=request["id"], unsupported=what)
            return
    except dbss.Error as error:
        put(id=request["id"], status=error.status_name, error=error_fields(error))
    except Exception as error:
        put(id=request["id"], unsupported=f"{type(error).__name__}: {error}")
    else:
        put(id=request["id"], status="DBSS_OK")


def main() -> None:
    threads: list[threading.Thread] = []
    for line in sys.stdin:
        serve(json.loads(line), threads)
    for client in clients.values():
        client.close()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
