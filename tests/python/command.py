"""The command dbss as a child process, for its tests."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import unicodedata

from comparing import TERMINAL_CONTROLS
from support import BUILD, TIMEOUT

# A single attempt, so that one fault is enough.
NO_RETRY = ("--max-attempts", "1")
FAST_POLL = ("--poll-interval", "0.02")
TIME_RANGE = ("--start-time", "2026-01-01 00:00:00", "--end-time", "2026-01-02 00:00:00")


def json_lines(text):
    """The objects of --json, each of which has its kind."""
    assert text.isascii()
    objects = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(one["kind"], str) for one in objects)
    return objects


def width(text):
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


class Process(subprocess.Popen[bytes]):
    """A child process, which does not outlive a test that fails."""

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Command:
    """Runs dbss in an empty directory, and checks that it prints no secret."""

    def __init__(self, mock, service, directory):
        self.program = BUILD / "bin/dbss"
        self.directory = directory / "here"
        self.directory.mkdir()
        self.report = mock.pdf["id"]
        self.secrets = [mock.token, mock.secret_key, mock.password]
        self.environment = {**service, "HOME": str(directory), "TERM": "xterm"}
        for name in ("NO_COLOR", "XDG_CONFIG_HOME", "DBSS_REPORT_ID"):
            self.environment.pop(name, None)

    def start(self, *arguments, env=None, wrap=(), **options):
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        merged = {**self.environment, **(env or {})}
        return Process(
            [*wrap, str(self.program), *map(str, arguments)],
            env={name: value for name, value in merged.items() if value is not None},
            cwd=self.directory,
            **{**streams, **options},
        )

    def run(self, *arguments, **options):
        with self.start(*arguments, **options) as process:
            printed = process.communicate(b"" if process.stdin else None, TIMEOUT)
        out, err = ((stream or b"").decode() for stream in printed)
        assert not any(secret in out + err for secret in self.secrets)
        assert not TERMINAL_CONTROLS.search(re.sub(r"[\t\n]", "", out + err))
        assert "panicked" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def prints(self, *arguments, **options):
        """Runs it; it succeeds, and prints only to standard output."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def files(self):
        return sorted(os.listdir(self.directory))

    def on_terminal(self, *arguments, columns=80, code=0, **options):
        """Runs it with a terminal as its output; returns everything that it wrote there."""
        terminal = Terminal(columns)
        streams = dict.fromkeys(("stdout", "stderr"), terminal.slave)
        try:
            done = self.run(*arguments, stdin=subprocess.DEVNULL, **streams, **options)
        finally:
            written = terminal.close()
        assert done.returncode == code, written
        assert not any(secret in written for secret in self.secrets)
        return written


class Terminal:
    """A terminal, which records everything that is written to it."""

    def __init__(self, columns=80):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        try:
            while part := os.read(self.master, 4096):
                self.written += part
        except OSError:
            # The other side is closed.
            return

    def type(self, text):
        os.write(self.master, text.encode())

    def close(self):
        """Closes it; returns everything."""
        os.close(self.slave)
        self._reader.join(30)
        os.close(self.master)
        return self.written.decode().replace("\r\n", "\n")


ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def frames(written):
    """The lines that a progress bar drew one over the other."""
    parts = re.split(r"\r|\n|\x1b\[2K", written)
    return [text for text in (ESCAPE.sub("", part).rstrip() for part in parts) if text]


def final_screen(written):
    """The lines that are left in the end; the bar has one line, and is wiped."""
    lines = []
    for line in written.split("\n"):
        left = ""
        for text in ESCAPE.sub("", line.rpartition("\x1b[2K")[2]).split("\r"):
            left = text + left[len(text) :]
        lines.append(left.rstrip())
    return [line for line in lines if line]
