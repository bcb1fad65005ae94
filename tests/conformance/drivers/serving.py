"""What drivers in Python share: requests come in, calls are made, responses go out."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Request = dict[str, Any]
Handler = Callable[[Request], Any]
_output = threading.Lock()


def put(**line: Any) -> None:
    with _output:
        print(json.dumps(line), flush=True)


def as_field(value: Any) -> str | None:
    """A field as text; what is none as compact JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def known(calls: dict[int, Any], number: int) -> Any:
    """What a call has put down under its number, which its thread may be about to do."""
    end = time.monotonic() + 30
    while number not in calls and time.monotonic() < end:
        time.sleep(0.001)
    return calls[number]


def _answer(handler: Handler | None, request: Request) -> None:
    """Puts the response of a handler, which is success if it returns none."""
    try:
        if handler is None:
            raise NotImplementedError(request["do"])
        response = handler(request) or {"status": "DBSS_OK"}
    except NotImplementedError as error:
        response = {"unsupported": str(error)}
    except Exception as error:
        response = {"unsupported": f"{type(error).__name__}: {error}"}
    put(id=request["id"], **response)


def serve(handlers: dict[str, Handler], end: Callable[[], object]) -> None:
    """Serves the requests on standard input; `end` lets calls end that are under way."""
    threads = []
    for line in sys.stdin:
        request = json.loads(line)
        handler = handlers.get(request["do"])
        if request.get("background"):
            threads.append(threading.Thread(target=_answer, args=(handler, request)))
            threads[-1].start()
        else:
            _answer(handler, request)
    end()
    for thread in threads:
        thread.join()
