"""The command dbss, by hand: signals, streams of other kinds, help, completions, man pages.

All else is in tests/conformance/command.json, and in the cases that its driver runs.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from command import FAST_POLL, NO_RETRY, TIME_RANGE, Terminal, json_lines
from support import ID, MIB, ROOT, TIMEOUT, isolated, need_tool, output, sha256, wait_until
from test_c import VALGRIND

SUBCOMMANDS = [
    *("download", "check", "instances", "reports", "templates", "databases", "schedule"),
    *("generate", "delete", "mirror", "options", "completions"),
]
CONNECTING = SUBCOMMANDS[:-2]
EXIT_CODES = ["0", "1", "2", "3", "4", "5", "6", "7", "10", "11", "12", "130"]

# Signals.


def is_in(process, *numbers):
    """Whether a process is in one of these system calls, by number."""
    text = Path(f"/proc/{process.pid}/syscall").read_text()
    return text.split()[0] in map(str, numbers)


def bytes_in_pipe(pipe):
    [count] = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_download_that_connects(mock, command, number):
    download = ("download", "--report", command.report, "--endpoint", mock.never_accepts)
    with command.start(*download) as process:
        # The library waits in poll, or in ppoll on platforms without it.
        wait_until(lambda: is_in(process, 7, 73, 271))
        process.send_signal(number)
        assert process.wait(20) == 130
        assert re.match(rb"dbss: .*\bcancelled\b", process.stderr.read())
    assert command.files() == []


def test_signal_ends_command_whose_output_is_not_read(mock, command, own_instance):
    mock.add_reports(2000, instance=own_instance, name="n" * 200)
    with command.start("reports") as process:
        wait_until(lambda: bytes_in_pipe(process.stdout.fileno()) >= 60_000)
        process.send_signal(signal.SIGINT)
        # It is not read before.
        assert process.wait(20) == 130
        assert process.stderr.read() == b"dbss: interrupted\n"


def test_second_signal_ends_the_program_at_once(command):
    # Writing a message to a pipe that nobody reads waits for ever, whatever signal comes.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    # Suspended meanwhile, the program takes the signals of one key press for several.
    for _ in range(5):
        with command.start("instances", "--verbose", stderr=writer) as process:
            # write
            wait_until(lambda process=process: is_in(process, 1, 64))
            # A parent may forward the signal of the same key press.
            for _ in range(3):
                process.send_signal(signal.SIGINT)
            time.sleep(0.4)
            went_on = process.poll() is None
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.3)
            assert process.returncode == 130
        if went_on:
            break
    assert went_on
    os.close(reader)
    os.close(writer)


def test_signal_ends_command_that_opens_a_token_pipe(command):
    pipe = command.directory.parent / "pipe"
    os.mkfifo(pipe)
    with command.start("instances", "--token-file", pipe) as process:
        # open or openat, for which nobody writes
        wait_until(lambda: is_in(process, 2, 257, 56))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == b"dbss: interrupted\n"


# Streams and processes.


def test_command_line_and_environment_of_process_have_no_secret(mock, command, tmp_path):
    (tmp_path / "token").write_text(mock.token + "\n")
    arguments = ("instances", "--token-file", tmp_path / "token")
    mock.fault("@instances", no_response=True, times=1)
    with command.start(*arguments, env={"DBSS_TOKEN": None}) as process:
        wait_until(lambda: mock.requests("@instances"))
        for file in ("cmdline", "environ"):
            assert mock.token.encode() not in Path(f"/proc/{process.pid}/{file}").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.parametrize("more", [["reports"], ["reports", "--json"], ["download", "-o", "-"]])
def test_closed_stdout_pipe_exits_with_7(mock, command, own_instance, more):
    mock.add_reports(1000 if more[0] == "reports" else 1, instance=own_instance)
    report = mock.add_report(format="bytes", size=8 * MIB, instance=own_instance)["id"]
    with command.start(*more, env={"DBSS_REPORT_ID": report}) as process:
        process.stdout.close()
        assert process.wait(TIMEOUT) == 7
        errors = process.stderr.read()
    assert re.fullmatch(rb"dbss: cannot write to [^\n]*Broken pipe[^\n]*\n", errors)


def test_pipe_that_does_not_block_gets_everything(command):
    expected = command.prints("options")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    assert len(expected) > 4096
    with command.start("options", stdout=writer) as process, open(reader) as printed:
        os.close(writer)
        assert printed.read() == expected
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("region", "hint"),
    [
        ("cn-nroth-4", "did you mean cn-north-4?"),
        ("elsewhere", "'elsewhere' is no region that dbss knows, such as cn-north-4"),
        ("cn-north-4", None),
    ],
)
def test_unknown_region_has_a_suggestion(command, region, hint):
    # Where there is no network no name can be resolved.
    download = ("download", "--report", command.report, "--region", region, *NO_RETRY)
    done = command.run(*download, env={"DBSS_ENDPOINT": None}, wrap=isolated())
    assert done.returncode == 6
    assert (hint in done.stderr) if hint else ("hint" not in done.stderr)


def test_command_under_valgrind_has_no_error(mock, command):
    need_tool("valgrind")
    none = {"DBSS_TOKEN": None}
    key = {**none, "HUAWEICLOUD_SDK_AK": mock.access_key, "HUAWEICLOUD_SDK_SK": mock.secret_key}
    agency = f"check --set credentials=metadata --set metadata_endpoint={mock.metadata}"
    template = mock.templates[0]["id"]
    mock.fault(command.report, cut_after=100, times=1)
    for code, env, line in (
        (6, {}, f"download --report {command.report} -o other --max-attempts 1"),
        (0, {}, f"download --report {command.report} -o target"),
        (7, {}, f"download --report {command.report} -o target"),
        (0, {}, f"download --report {command.report} -o target --force --verbose"),
        (0, {}, "check"),
        (0, key, "check"),
        (0, none, agency),
        (0, {}, "instances --json"),
        (0, {}, "reports"),
        (0, {}, f"generate --template {template} {shlex.join((*TIME_RANGE, *FAST_POLL))}"),
        (0, {}, "mirror archive --gaps --success-file done"),
        (2, {}, f"delete --report {command.report}"),
        (4, {}, f"delete --report {ID} --yes"),
    ):
        done = command.run(*shlex.split(line), env=env, wrap=VALGRIND)
        assert done.returncode == code, (line, done.stderr)


def test_systemd_service_command_works(mock, command, own_instance):
    text = (ROOT / "packaging/systemd/dbss-mirror.service").read_text()
    [line] = re.findall(r"^ExecStart=(.*)$", text.replace("\\\n", " "), re.MULTILINE)
    _, words = line.split("/usr/bin/dbss ")
    arguments = shlex.split(words.replace("%S", str(command.directory)))
    # systemd creates it.
    made = command.directory / "dbss-mirror"
    made.mkdir()
    report = mock.add_report(instance=own_instance)
    credentials = command.directory.parent / "credentials"
    credentials.write_text(f"[basic]\nak = {mock.access_key}\nsk = {mock.secret_key}\n")
    credentials.chmod(0o600)
    env = {"DBSS_TOKEN": None, "HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(credentials)}
    assert "downloaded\t1\n" in command.prints(*arguments, env=env)
    assert sorted(os.listdir(made)) == ["reports", "success.json"]
    [file] = made.glob("reports/*/*/*.pdf")
    assert sha256(file) == report["sha256"]["en-us"]


# Terminals that are asked.


def test_report_is_not_written_to_a_terminal(command):
    written = command.on_terminal("download", "--report", command.report, "--output", "-", code=2)
    assert "--output -: standard output is a terminal" in written


def on_a_terminal(command, question, reply, *arguments):
    """Runs it with a terminal, where it asks and gets the reply: the exit code, what it wrote."""
    terminal = Terminal()
    streams = {"stdin": terminal.slave, "stdout": None, "stderr": terminal.slave}
    try:
        with command.start(*arguments, **streams) as process:
            wait_until(lambda: question.encode() in terminal.written)
            terminal.type(reply)
            code = process.wait(TIMEOUT)
    finally:
        written = terminal.close()
    return code, written


def test_passcode_is_asked_for_on_the_terminal(mock, command):
    mock.set("iam", passcodes=["123456"])
    del command.environment["DBSS_TOKEN"], command.environment["DBSS_PROJECT_ID"]
    command.environment |= {"DBSS_REGION": mock.region, "DBSS_IAM_PASSWORD": mock.password}
    user = {"user": mock.user, "domain": mock.domain, "user_id": mock.user_id}
    words = [f"--set=iam_{key}={value}" for key, value in {**user, "endpoint": mock.iam}.items()]
    question = "Passcode of the MFA device: "
    assert on_a_terminal(command, question, "123456\n", "check", *words)[0] == 0


@pytest.mark.parametrize(
    ("reply", "code"),
    [("y\n", 0), ("YES\n", 0), ("n\n", 130), ("\n", 130), ("\x04", 130), ("yea\n", 130)],
)
def test_delete_on_terminal_asks_first(mock, command, own_instance, reply, code):
    [report] = mock.add_reports(1, instance=own_instance)
    found, written = on_a_terminal(command, "[y/N] ", reply, "delete", "--report", report)
    assert found == code
    assert report in written.split("[y/N] ")[0]
    # Also if the reply does not end the line.
    assert "\ndbss: nothing was deleted\n" in written or code == 0
    assert len(mock.requests("@reports.delete")) == (1 if code == 0 else 0)


def test_long_name_is_shortened_on_a_terminal(mock, command):
    item = {"id": mock.instance_id, "name": "x" * 16_000}
    mock.fault("@instances", json={"instances": [item], "total": 1}, times=2)
    written = command.on_terminal("instances")
    assert "…" in written
    assert len(written) < 5000
    assert "x" * 16_000 in command.prints("instances")


# Help, options, completions, man pages.


def test_help_has_all_subcommands(command):
    short = command.prints("-h")
    assert all(f"\n  {name} " in short for name in SUBCOMMANDS)
    assert "\n  man " not in short
    assert "--output" not in command.prints("check", "--help")
    assert command.run().returncode == command.run("lits").returncode == 2
    assert "  hint: a similar subcommand exists: 'reports'" in command.run("report").stderr


@pytest.mark.parametrize("name", CONNECTING)
def test_help_of_subcommand_is_short_and_full(command, name):
    short, full = command.prints(name, "-h"), command.prints(name, "--help")
    assert len(short.splitlines()) < 40
    assert "Exit codes:" not in short
    assert f"dbss {name} --help" in short
    codes = re.findall(r"^ +(\d+)  \w", full.split("Exit codes:")[1], re.MULTILINE)
    assert codes == EXIT_CODES
    for word in ("--set", "HUAWEICLOUD_SDK_AK", "DBSS_PROJECT_ID", "--connect-timeout"):
        assert word in full
    assert max(map(len, (short + full).splitlines())) <= 100
    # C functions mean nothing to the user.
    assert "dbss_" not in short + full


@pytest.mark.parametrize("name", CONNECTING)
def test_values_of_flags_may_begin_with_a_hyphen(mock, command, name):
    given = {"--report": "x" * 16, "--template": mock.templates[0]["id"]}
    given |= dict(zip(TIME_RANGE[::2], TIME_RANGE[1::2], strict=True))
    needed = {
        "download": ["--report"],
        "generate": ["--template", "--start-time", "--end-time"],
        "delete": ["--report"],
        "schedule": ["--template"],
    }
    more = {"generate": FAST_POLL, "delete": ["--yes"], "mirror": ["archive"]}.get(name, [])
    flags = re.findall(r"^ +(?:-\w, )?(--[a-z-]+) <", command.prints(name, "--help"), re.MULTILINE)
    assert len(flags) >= 11
    for flag in flags:
        others = [f"{one}={given[one]}" for one in needed.get(name, []) if one != flag]
        value = "-y" + "0" * 30
        codes = set()
        for words in ([flag, value], [f"{flag}={value}"]):
            done = command.run(name, *more, *others, *words)
            assert not re.search("unexpected|required|was supplied", done.stderr), done.stderr
            codes.add(done.returncode)
            for file in command.directory.glob("-y*"):
                file.unlink()
        assert len(codes) == 1, flag


def test_options_are_those_of_the_library(command):
    description = json.loads((ROOT / "include/dbss-abi.json").read_text())
    # These have no effect here.
    others = {"interruptible", "log_level", "max_memory_bytes"}
    known = [one for one in description["options"]["config"] if one["type"] != "secret"]
    wanted = {one["key"]: one for one in known if one["key"] not in others}
    listed = {one["key"]: one for one in json_lines(command.prints("options", "--json"))}
    assert list(listed) == list(wanted)
    for key, one in listed.items():
        assert (one["kind"], one["type"]) == ("option", wanted[key]["type"])
        assert one["help"] == wanted[key]["help"]
    text = command.prints("options")
    assert all(f"{key} ({one['type']}, default " in text for key, one in wanted.items())
    assert "\n    1 to 86400000, or -1 for no limit\n" in text
    assert max(map(len, text.splitlines())) <= 80
    assert listed["stall_timeout_ms"]["flag"] == "--stall-timeout"
    assert "    The flag --stall-timeout, which takes seconds, sets it too.\n" in text
    # Every flag that is named exists.
    full = command.prints("generate", "--help")
    assert all(f" {one['flag']}" in full for one in listed.values() if one["flag"])
    # C functions mean nothing to the user.
    assert "dbss_" not in text


def test_readme_has_all_exit_codes_variables_and_kinds(command):
    readme = (ROOT / "cli/README.md").read_text()
    full = "".join(command.prints(name, "--help") for name in CONNECTING)
    exit_codes = full.split("Exit codes:\n")[1].split("\n\n")[0]
    listed = re.findall(r"^ +(\d+)  (.*)$", exit_codes, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \| (.*) \|$", readme.replace("`", ""), re.MULTILINE) == listed
    assert [code for code, _ in listed] == EXIT_CODES
    variables = set(re.findall(r"\bDBSS_[A-Z_]+", full))
    assert variables == set(re.findall(r"`(DBSS_[A-Z_]+)`", readme))
    names = "PROJECT_ID INSTANCE_ID REPORT_ID LOCALE OUTPUT REGION ENDPOINT CA_FILE TOKEN"
    assert variables >= {f"DBSS_{name}" for name in names.split()}
    kinds = (
        "instance report template download check generated deleted mirror failure gap option error"
    )
    assert [kind for kind in kinds.split() if f"| `{kind}` |" not in readme] == []


def test_program_needs_only_libc(command):
    needed = output("readelf", "-d", command.program)
    libraries = set(re.findall(r"\[(lib\w+|ld-linux)[^]]*\.so", needed))
    assert libraries <= {"libc", "libm", "ld-linux"}
    assert command.program.stat().st_size < 5_000_000


def test_completions_are_valid_in_their_shells(command, tmp_path):
    for shell, name in (("bash", "dbss.bash"), ("fish", "dbss.fish"), ("zsh", "_dbss")):
        (tmp_path / name).write_text(command.prints("completions", shell))
    bash = (
        "source dbss.bash; COMP_WORDS=(dbss down); COMP_CWORD=1; "
        '_dbss dbss down dbss; echo "${COMPREPLY[@]}"; '
        "COMP_WORDS=(dbss mirror --suc); COMP_CWORD=2; "
        '_dbss dbss --suc mirror; echo "${COMPREPLY[@]}"'
    )
    assert output(need_tool("bash"), "-c", bash, cwd=tmp_path) == "download\n--success-file\n"
    if fish := shutil.which("fish"):
        for words, shown in {
            "dbss down": ["download"],
            "dbss mirror --suc": ["--success-file"],
            "dbss completions z": ["zsh"],
            "dbss mirror ": ["here/"],
            "dbss download ": [],
            "dbss download --locale ": [],
            "dbss download --output dbss.f": ["dbss.fish"],
        }.items():
            code = f"source dbss.fish; complete -C {words!r}"
            found = output(fish, "--no-config", "-c", code, cwd=tmp_path).splitlines()
            assert [line.split("\t")[0] for line in found] == shown, words
    if zsh := shutil.which("zsh"):
        # Its completion needs a terminal; so only whether it loads.
        load = "autoload -Uz compinit && compinit -u -D && whence -w _dbss && echo $_comps[dbss]"
        code = f"fpath=($PWD $fpath) && {load} && autoload +X _dbss"
        assert output(zsh, "-f", "-c", code, cwd=tmp_path) == "_dbss: function\n_dbss\n"


def test_man_pages_render_without_warning(command):
    command.prints("man", "pages")
    assert command.files() == ["pages"]
    pages = sorted((command.directory / "pages").iterdir())
    names = ["dbss.1", *(f"dbss-{name}.1" for name in SUBCOMMANDS)]
    assert [page.name for page in pages] == sorted(names)
    for page in pages:
        text = output(need_tool("groff"), "-man", "-Tutf8", "-ww", "-rLL=78n", page)
        text = re.sub(".\x08", "", text)
        assert "SYNOPSIS" in text
        assert "EXTRA" not in text
        heading, *_, footing = text.strip().splitlines()
        name = f"{page.stem}(1)"
        assert heading.split() == [name, *("Audit", "reports", "of", "DBSS"), name]
        assert footing.split()[0] == "dbss"
        if page.stem.removeprefix("dbss-") in CONNECTING:
            flat = " ".join(text.replace("\u2010\n", "").split())
            # What -h leaves out is here.
            assert "Follow redirects of the service" in flat
            assert "130 cancelled" in flat
