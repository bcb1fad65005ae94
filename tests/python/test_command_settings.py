"""The command dbss: profiles, help, options, completions, man pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from command import FAST_POLL, Command, command, json_lines
from conftest import need_tool

if TYPE_CHECKING:
    from mock_service import MockService

# An imported fixture; this file does not use the name directly.
__all__ = ["command"]

SUBCOMMANDS = [
    *("download", "check", "instances", "reports", "templates", "databases", "schedule"),
    *("generate", "delete", "mirror", "options", "completions"),
]
CONNECTING = SUBCOMMANDS[:-2]
EXIT_CODES = ["0", "1", "2", "3", "4", "5", "6", "7", "10", "11", "12", "130"]


class Config:
    """The configuration file."""

    def __init__(self, command: Command, mock: MockService) -> None:
        self.path = command.directory.parent / ".config/dbss/config.toml"
        self.path.parent.mkdir(parents=True)
        for name in list(command.environment):
            if name.startswith("DBSS_"):
                del command.environment[name]
        self.token_file = command.directory.parent / "token"
        self.token_file.write_text(mock.token)
        self.service = {
            "endpoint": mock.http,
            "project": mock.project_id,
            "instance": mock.instance_id,
            "token_file": str(self.token_file),
        }

    def write(self, text: str = "", **profiles: dict[str, Any]) -> None:
        for name, profile in profiles.items():
            text += f"\n[profiles.{name}]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in profile.items())
        self.path.write_text(text)


@pytest.fixture
def config(command: Command, mock: MockService) -> Config:
    return Config(command, mock)


# The configuration file.


def test_profile_alone_suffices(mock: MockService, command: Command, config: Config) -> None:
    config.write(default={**config.service, "locale": "zh-cn", "output": "named"})
    size = mock.pdf["sizes"]["zh-cn"]
    command.saves("named", size)
    config.write(default=config.service, other={**config.service, "json": True})
    [line] = json_lines(command.prints("check", "--profile", "other"))
    assert line["kind"] == "check"


def test_profile_is_chosen_by_flag_environment_and_file(
    mock: MockService, command: Command, config: Config
) -> None:
    wrong = {**config.service, "endpoint": "http://127.0.0.1:1"}
    check = ("check", "--quiet", "--max-attempts", "1")
    config.write(right=config.service, wrong=wrong)
    assert command.run(*check, "--profile", "right", env={"DBSS_PROFILE": "wrong"}).returncode == 0
    assert command.run(*check, env={"DBSS_PROFILE": "wrong"}).returncode == 6
    config.write('profile = "wrong"\n', right=config.service, wrong=wrong)
    assert command.run(*check).returncode == 6
    assert command.run(*check, env={"DBSS_PROFILE": "right"}).returncode == 0
    # A flag beats the environment, which beats the file.
    endpoint = ("--endpoint", mock.http)
    assert command.run(*check, *endpoint, env={"DBSS_ENDPOINT": "x"}).returncode == 0
    assert command.run(*check, env={"DBSS_ENDPOINT": mock.http}).returncode == 0
    error = command.fails(2, *check, "--profile", "rihgt")
    assert "no profile 'rihgt'" in error
    assert "right, wrong" in error


def test_directory_of_configuration_is_that_of_xdg(
    command: Command, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "xdg/dbss").mkdir(parents=True)
    config.write(default=config.service)
    config.path.rename(tmp_path / "xdg/dbss/config.toml")
    command.fails(2, "instances")
    command.prints("instances", env={"XDG_CONFIG_HOME": str(tmp_path / "xdg")})


def test_credentials_of_profile_rank_below_the_environment(
    mock: MockService, command: Command, config: Config
) -> None:
    found = {k: v for k, v in config.service.items() if k != "token_file"}
    config.write(default={**found, "credentials": "environment"})
    keys: dict[str, str | None] = {
        "HUAWEICLOUD_SDK_AK": mock.access_key,
        "HUAWEICLOUD_SDK_SK": mock.secret_key,
    }
    assert command.prints("check", env=keys).startswith("source: environment")
    assert command.prints("check", env={**keys, "DBSS_TOKEN": mock.token}).startswith(
        "source: token"
    )
    config.write(default={**config.service, "credentials": "environment"})
    assert "exclude each other" in command.fails(2, "check")


def test_set_of_profile_ranks_below_flags(
    mock: MockService, command: Command, config: Config
) -> None:
    config.write(default=config.service)
    with config.path.open("a") as file:
        file.write('[profiles.default.set]\nfile_mode = "640"\nmax_attempts = 2\n')
    command.saves("a", mock.pdf["sizes"]["en-us"], "-o", "a")
    assert (command.directory / "a").stat().st_mode & 0o777 == 0o640
    command.saves("b", mock.pdf["sizes"]["en-us"], "-o", "b", "--set", "file_mode=600")
    assert (command.directory / "b").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.default]\nregoin = 'x'\n", ["line 2", "regoin", "region"]),
        ("[profiles.default]\ntoken = 'MIIT-secret'\n", ["token_file"]),
        ("[profiles.default]\nregion = 1\n", ["line 2"]),
        ("[profiles.default\n", ["line 1"]),
        ("[profiles.default.set]\nproxy = 'http://u:MIIT-secret@x'\n", ["proxy is a secret"]),
        ("[profiles.default.set]\nno_such_key = 1\n", ["no_such_key"]),
    ],
)
def test_wrong_configuration_is_explained(
    command: Command, config: Config, text: str, words: list[str]
) -> None:
    config.path.write_text(text)
    error = command.fails(2, "instances", "--endpoint", "http://127.0.0.1:1")
    assert all(word in error for word in words), error
    assert "MIIT" not in error


def test_unreadable_configuration_exits_with_7(command: Command, config: Config) -> None:
    config.path.mkdir()
    assert str(config.path) in command.fails(7, "instances")


@pytest.mark.parametrize(
    "text",
    [
        *('[profiles.default]\nset = "SECRET"', '[profiles]\ndefault = "SECRET"'),
        *('profiles = "SECRET"', '[profiles.default]\njson = "SECRET"'),
        *("[profiles.default]\nSECRET = 1", '[profiles.default]\nregion = ["SECRET"]'),
        *("[profiles.default.set]\nmax_attempts = [1]", 'region = "SECRET', "SECRET"),
    ],
)
def test_error_never_quotes_the_configuration(command: Command, config: Config, text: str) -> None:
    config.path.write_text(text.replace("SECRET", "Secret-0123456789"))
    error = command.fails(2, "check")
    assert re.search(r"config\.toml, line \d+: ", error)
    assert "Secret" not in error
    assert not re.search("struct|enum|i128", error)


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_configuration_that_is_no_small_file_is_rejected(
    command: Command, config: Config, kind: str
) -> None:
    if kind == "pipe":
        os.mkfifo(config.path)
    elif kind == "device":
        config.path.symlink_to("/dev/zero")
    else:
        config.path.write_text("#" * 2**21)
    assert "it is " in command.fails(7, "check")


def test_missing_configuration_has_no_profile(command: Command) -> None:
    assert "config.toml does not exist" in command.fails(2, "check", "--profile", "other")


def test_home_directory_in_paths_of_profile(
    mock: MockService, command: Command, config: Config
) -> None:
    (command.directory.parent / "secret").write_text(mock.token)
    config.path.write_text(
        f'[profiles.default]\nendpoint = "{mock.http}"\nproject = "{mock.project_id}"\n'
        'token_file = "~/secret"\nset = { max_attempts = 2 }\n'
    )
    assert "accepted: yes" in command.prints("check")


def test_missing_region_names_flag_variable_and_file(command: Command, config: Config) -> None:
    error = command.fails(2, "instances", env={"DBSS_TOKEN": "x"})
    for word in ("--region", "DBSS_REGION", str(config.path)):
        assert word in error


# Help.


def test_help_is_short_and_full(command: Command) -> None:
    short, full = command.prints("-h"), command.prints("--help")
    assert all(f"\n  {name} " in short for name in SUBCOMMANDS)
    assert "\n  man " not in short
    for name in CONNECTING:
        short, full = command.prints(name, "-h"), command.prints(name, "--help")
        assert len(short.splitlines()) < 40
        assert "Exit codes:" not in short
        assert f"dbss {name} --help" in short
        codes = re.findall(r"^ +(\d+)  \w", full.split("Exit codes:")[1], re.MULTILINE)
        assert codes == EXIT_CODES
        for word in ("--set", "HUAWEICLOUD_SDK_AK", "DBSS_PROJECT_ID", "--connect-timeout"):
            assert word in full
        for text in (short, full):
            assert all(len(line) <= 100 for line in text.splitlines())
            # C functions mean nothing to the user.
            assert "dbss_" not in text
    assert "--output" not in command.prints("check", "--help")
    assert command.run().returncode == 2
    assert command.run("lits").returncode == 2
    assert "  hint: a similar subcommand exists: 'reports'" in command.fails(2, "report")


@pytest.mark.parametrize("name", CONNECTING)
def test_values_of_flags_may_begin_with_a_hyphen(
    mock: MockService, command: Command, name: str
) -> None:
    given = {"--report": "x" * 16, "--template": mock.templates[0]["id"]}
    given |= {"--start-time": "2026-01-01 00:00:00", "--end-time": "2026-01-02 00:00:00"}
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


def test_version_is_that_of_the_package(root: Path, command: Command) -> None:
    version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    assert version
    assert command.prints("--version") == f"dbss {version[1]} (libdbss {version[1]})\n"


def test_options_are_those_of_the_library(root: Path, command: Command) -> None:
    description = json.loads((root / "include/dbss-abi.json").read_text())
    known = {one["key"]: one for one in description["options"]["config"]}
    # These have no effect here.
    others = {"interruptible", "log_level", "max_memory_bytes"}
    wanted = {
        key: one for key, one in known.items() if one["type"] != "secret" and key not in others
    }
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


def test_readme_has_all_exit_codes_variables_and_kinds(root: Path, command: Command) -> None:
    readme = (root / "cli/README.md").read_text()
    full = "".join(command.prints(name, "--help") for name in CONNECTING)
    exit_codes = full.split("Exit codes:\n")[1].split("\n\n")[0]
    listed = re.findall(r"^ +(\d+)  (.*)$", exit_codes, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \| (.*) \|$", readme.replace("`", ""), re.MULTILINE) == listed
    assert [code for code, _ in listed] == EXIT_CODES
    variables = set(re.findall(r"\bDBSS_[A-Z_]+", full))
    assert variables == set(re.findall(r"`(DBSS_[A-Z_]+)`", readme))
    names = ("PROJECT_ID", "INSTANCE_ID", "REPORT_ID", "LOCALE", "OUTPUT", "REGION", "ENDPOINT")
    assert variables >= {f"DBSS_{name}" for name in (*names, "CA_FILE", "TOKEN")}
    for kind in ("instance", "report", "template", "download", "check", "generated", "deleted"):
        assert f"| `{kind}` |" in readme
    for kind in ("mirror", "failure", "gap", "option", "error"):
        assert f"| `{kind}` |" in readme


def test_program_needs_only_libc(command: Command) -> None:
    needed = subprocess.run(
        ["readelf", "-d", command.program], check=True, capture_output=True, text=True
    ).stdout
    libraries = set(re.findall(r"\[(lib\w+|ld-linux)[^]]*\.so", needed))
    assert libraries <= {"libc", "libm", "ld-linux"}
    assert command.program.stat().st_size < 5_000_000


# Completions and man pages.


def test_completions_are_valid_in_their_shells(command: Command, tmp_path: Path) -> None:
    bash = command.prints("completions", "bash")
    script = tmp_path / "completions.bash"
    script.write_text(bash)
    done = subprocess.run(
        [
            need_tool("bash"),
            "-c",
            f"source {script}; COMP_WORDS=(dbss down); COMP_CWORD=1; "
            '_dbss dbss down dbss; echo "${COMPREPLY[@]}"; '
            "COMP_WORDS=(dbss mirror --suc); COMP_CWORD=2; "
            '_dbss dbss --suc mirror; echo "${COMPREPLY[@]}"',
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("download\n--success-file\n", "")
    (tmp_path / "dbss.fish").write_text(command.prints("completions", "fish"))
    (tmp_path / "_dbss").write_text(command.prints("completions", "zsh"))
    if fish := shutil.which("fish"):
        lines = [
            subprocess.run(
                [fish, "--no-config", "-c", f"source dbss.fish; complete -C {words!r}"],
                check=True,
                cwd=tmp_path,
                capture_output=True,
                text=True,
            ).stdout.splitlines()
            for words in ("dbss down", "dbss mirror --suc")
        ]
        assert [[line.split("\t")[0] for line in part] for part in lines] == [
            ["download"],
            ["--success-file"],
        ]
    if zsh := shutil.which("zsh"):
        # Its completion needs a terminal; so only whether it loads.
        load = "autoload -Uz compinit && compinit -u -D && whence -w _dbss && echo $_comps[dbss]"
        done = subprocess.run(
            [zsh, "-f", "-c", f"fpath=($PWD $fpath) && {load} && autoload +X _dbss"],
            check=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines() == ["_dbss: function", "_dbss"]


def test_man_pages_render_without_warning(command: Command) -> None:
    command.prints("man", "pages")
    assert command.files() == ["pages"]
    pages = sorted((command.directory / "pages").iterdir())
    assert [page.name for page in pages] == sorted(
        ["dbss.1", *(f"dbss-{name}.1" for name in SUBCOMMANDS)]
    )
    groff = need_tool("groff")
    for page in pages:
        done = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-rLL=78n", page], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), page
        text = re.sub(".\x08", "", done.stdout)
        assert "SYNOPSIS" in text
        assert "EXTRA" not in text
        name = page.stem.removeprefix("dbss-")
        if name in CONNECTING:
            flat = " ".join(text.replace("\u2010\n", "").split())
            # What -h leaves out is here.
            assert "Follow redirects of the service" in flat
            assert "130 cancelled" in flat
