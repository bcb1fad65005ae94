"""Shared by the tests: programs, child processes, servers, reports, every way to download."""

import hashlib
import multiprocessing
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import java_package
import pytest

from mock_service import MockService

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DBSS_BUILD_DIR") or ROOT / "build").resolve()
LIBRARY = BUILD / "lib/libdbss.so.0"

KIB = 1024
MIB = 1024 * 1024
# An upper limit for every wait, in seconds; only a hang reaches it.
TIMEOUT = 60.0
# The library promises 100 ms for a cancel and 250 ms for a callback or a signal; the rest
# allows for a busy machine.
PROMPT = 20.0
# No test connects to it successfully.
UNREACHABLE = "http://127.0.0.1:1"
TIME_RANGE = ("2026-11-23 00:00:00", "2026-11-24 00:00:00")
ID = "0123456789abcdef0123456789abcdef"
NUL, SURROGATE = "a" * 20 + "\0", "a" * 20 + "\udc80"


def need_tool(name):
    """The path of a program that a test needs; without it the test is skipped."""
    return shutil.which(name) or skip(f"{name} is not installed")


def need_jdk(first):
    """The home of a JDK from 11 to 21, or of 22 or newer; without it the test is skipped."""
    if home := java_package.jdk(first):
        return home
    why = f"no JDK from {first} on is installed for {'JNA' if first == 11 else 'FFM'}"
    # Debian has none for FFM.
    return pytest.skip(why) if first >= java_package.FFM else skip(why)


def skip(why):
    """Skips a test that this machine cannot run."""
    # A skip in CI would hide that the test never runs.
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def sha256(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def wait_until(condition):
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.003)


def new_mock():
    """For a fixture: a service that no other file, or no other test, uses."""
    with MockService(BUILD / "bin/dbss-mock") as running:
        yield running


def service_of(mock, environment):
    """The environment of a program with the settings of a client."""
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.pdf["id"],
    }


# Programs.


def run(*command, code=0, **options):
    """Runs a program, which must end with this code."""
    words = [str(word) for word in command]
    options = {"capture_output": True, "text": True, "timeout": 280, **options}
    done = subprocess.run(words, check=False, **options)
    assert done.returncode == code, f"{done.stdout}{done.stderr}"
    return done


def expect_samples_work(sample, mock, directory, no_template):
    """The samples of a package in another language: `sample` runs one, and gives what it printed,
    or what it complained about. `no_template` is what one says of an unknown template.
    """
    pdf, instance = mock.pdf, mock.instance_id
    assert sample("download", instance, pdf["id"], "report.pdf") == "saved report.pdf\n"
    assert sha256(directory / "report.pdf") == pdf["sha256"]["en-us"]
    assert "exists" in sample("download", instance, pdf["id"], "report.pdf", code=1)
    assert sample("stream", instance, pdf["id"]).split()[0] == pdf["sha256"]["zh-cn"]
    mock.set("generation", percent_per_list=100)
    printed = sample("generate", instance, mock.templates[0]["id"], *TIME_RANGE, "new.pdf")
    assert printed == f"saved {mock.made()[-1]} as new.pdf\n"
    unknown = sample("generate", instance, "0" * 32, *TIME_RANGE, "other.pdf", code=1)
    assert no_template in unknown
    mock.set("generation")
    assert re.match(r"\d+ new, 0 already there, ", sample("mirror", "archive"))
    assert sample("mirror", "archive").startswith("0 new, ")
    assert "since" in sample("mirror", "archive", "soon", code=1)
    for name in ("download", "generate", "mirror", "stream"):
        assert sample(name, code=2).startswith("usage: ")


def output(*command, **options):
    """What a program prints, which must succeed without complaint."""
    done = run(*command, **options)
    assert not done.stderr
    return done.stdout


def compiled(source, path, *flags):
    """A shared object of a few lines in C."""
    command = [*os.environ.get("CC", "cc").split(), "-shared", "-fPIC", "-o", path, "-x", "c", "-"]
    output(*command, *flags, input=source)
    return path


def isolated(*more):
    """The command that runs another one in a network namespace of its own."""
    command = [need_tool("unshare"), "--map-root-user", "--net", *more]
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        skip("this machine lets nobody make a network namespace")
    return command


# The first lines of a program in Python.
PRELUDE = """
import asyncio, builtins, gc, hashlib, os, resource, shutil, sys, tempfile, threading, time
import dbss, dbss.operation
settings = {
    "endpoint": os.environ["ENDPOINT"],
    "token": os.environ["TOKEN"],
    "project_id": os.environ["PROJECT"],
}
ids = os.environ["IDS"].split(",")
def proc(name):
    with open("/proc/self/status") as status:
        [line] = [line for line in status if line.startswith(name)]
    return int(line.split()[1])
"""
FORK = multiprocessing.get_context("fork")


class Child:
    """A forked process that runs a function."""

    def __init__(self, function, *arguments):
        self._results = FORK.SimpleQueue()
        self._process = FORK.Process(target=self._run, args=(function, *arguments))
        self._process.start()
        self.kill, self.is_alive = self._process.kill, self._process.is_alive

    def _run(self, function, *arguments):
        try:
            self._results.put(function(*arguments))
        except BaseException as error:
            self._results.put(repr(error))
            raise

    def ended(self):
        """Its exit code."""
        self._process.join(2 * TIMEOUT)
        return self._process.exitcode

    def result(self):
        """What the function returned; an exception fails here."""
        assert self.ended() == 0, self._results.get() if not self._results.empty() else "killed"
        return self._results.get()


class Server:
    """A server: `serve` handles the connections one by one, with TLS if there is a context."""

    def __init__(self, serve, tls=None):
        self.serve, self.tls, self.connections = serve, tls, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        # A client may disconnect early, as one that does not trust the certificate.
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections += 1
                connection.settimeout(TIMEOUT)
                with connection, suppress(OSError):
                    if self.tls is None:
                        self.serve(connection)
                        continue
                    with self.tls.wrap_socket(connection, server_side=True) as session:
                        self.serve(session)
                        session.unwrap()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(TIMEOUT)


def read_request(connection):
    """Reads a request without a body; empty if the client has disconnected."""
    received = b""
    while not received.endswith(b"\r\n\r\n") and (part := connection.recv(65536)):
        received += part
    return received


REPORT = b"%PDF-1.7\n" + b"x" * 100_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"


def serve_report(connection):
    """Answers a request with REPORT."""
    read_request(connection)
    connection.sendall(OK % len(REPORT) + REPORT)


def new_certificate(path, name, *settings, issuer=None):
    """Makes a certificate and, beside it, its key; self-signed without an issuer."""
    signed = ["-CA", issuer, "-CAkey", issuer.with_suffix(".key")] if issuer else []
    made = ["-subj", f"/CN={name}", "-keyout", path.with_suffix(".key"), "-out", path]
    command = [need_tool("openssl"), "req", "-x509", "-nodes", "-days", "30"]
    run(*command, *made, *signed, *settings)
    return path


def tls_with(certificates, key, **settings):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    for name, value in settings.items():
        setattr(context, name, value)
    context.load_cert_chain(certificates, key)
    return context


# Reports, and every way to download; each returns the bytes.


class CustomError(Exception):
    """Only the tests raise it."""


class Report:
    """A report of the mock service."""

    def __init__(self, mock, info):
        self.mock, self.info, self.id = mock, info, info["id"]
        self.ids = (mock.instance_id, self.id)
        self.size, self.sha256 = info["sizes"]["en-us"], info["sha256"]["en-us"]

    def fault(self, **fault):
        self.mock.fault(self.id, **fault)

    def requests(self):
        return self.mock.requests(self.id)


class Writer:
    """An object with a write method that is not a file."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        assert type(data) is bytes
        self.parts.append(data)


def to_bytes(client, report, directory, **more):
    return client.download_report(*report.ids, **more)


def to_file(client, report, directory, **more):
    path = directory / report.id
    assert client.download_report_to(*report.ids, path, **more) == path
    return path.read_bytes()


def to_directory(client, report, directory, **more):
    path = client.download_report_to(*report.ids, directory, **more)
    assert path.parent == directory
    return path.read_bytes()


def to_descriptor(client, report, directory, **more):
    with tempfile.TemporaryFile() as file:
        assert client.download_report_to(*report.ids, file.fileno(), **more) is None
        file.seek(0)
        return file.read()


def to_writer(client, report, directory, **more):
    writer = Writer()
    assert client.download_report_to(*report.ids, writer, **more) is None
    return b"".join(writer.parts)


def with_stream(client, report, directory, **more):
    with client.open_report(*report.ids, **more) as stream:
        return stream.read()


METHODS = [to_bytes, to_file, to_directory, to_descriptor, to_writer, with_stream]
every_method = pytest.mark.parametrize("method", METHODS)
