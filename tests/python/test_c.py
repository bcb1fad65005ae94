"""The C ABI: the header, and the checks of the programs in tests/c.

These variables make some checks longer: DBSS_TEST_ROUNDS (random cuts, 120), DBSS_TEST_KILLS
(kills during a save, 80), DBSS_TEST_SOAK and DBSS_TEST_EACH_ALLOCATION (`make soak`).
"""

import contextlib
import json
import re
import ssl
import sys

import pytest

import support
from support import BUILD, LIBRARY, ROOT, Server, need_tool, new_certificate, serve_report, tls_with

PROGRAMS = (
    *("abi", "download", "errors", "lists", "log", "operation", "network", "fork", "signals"),
    *("threads", "closing", "files", "mirror", "credentials"),
)
# They add instances permanently, so they have a service of their own.
SEPARATE = ("scarcity", "stack")
HOURS = 3600


def checks_in(program, *kinds):
    """The checks of a C program, with their kinds.

    They come from its source, because the program may not be built yet.
    """
    source = (ROOT / f"tests/c/{program}.c").read_text()
    found = re.findall(r"^NAMED_\w+\((\w+), ([A-Z]+)(?:, ([A-Z]+)\)$)?", source, re.MULTILINE)
    both = [((name, kind), (f"{name}_tls", kind_tls)) for name, kind, kind_tls in found]
    named = {name: kind for pair in both for name, kind in pair if kind}
    return {name: kind for name, kind in named.items() if not kinds or kind in kinds}


VALGRIND = [
    "valgrind",
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect",
    "--errors-for-leak-kinds=definite,indirect",
    "--track-fds=no",
    f"--suppressions={ROOT / 'tests/c/valgrind.supp'}",
]
# Cryptography is in assembly, for which valgrind cannot track initialisation.
VALGRIND_TLS = [*VALGRIND, "--undef-value-errors=no"]
# The C library tells by the address of a variable whether a frame that a thread's end
# unwinds is that of a clean-up handler, so variables must be on the real stack.
ASAN = {"ASAN_OPTIONS": "exitcode=66:detect_stack_use_after_return=0"}


@pytest.fixture
def mock(request, mock):
    """The service of all tests, or that of a program alone."""
    if request.node.callspec.params.get("program") not in SEPARATE:
        yield mock
    else:
        yield from support.new_mock()


@pytest.fixture
def fixtures(mock, tmp_path):
    """The file with the values of the mock service for C, as lines of name=value."""
    found = {name: value for name, value in mock.ready.items() if isinstance(value, str)}
    found["control"] = mock.control.removeprefix("http://").rstrip("/")
    found |= {"project": mock.project_id, "instance": mock.instance_id}
    found["template"] = mock.templates[0]["id"]
    for name, report in (("pdf", mock.pdf), ("zip", mock.zip)):
        hashes = report["sha256"]
        found |= {name: report["id"], f"{name}_en": hashes["en-us"], f"{name}_zh": hashes["zh-cn"]}
    path = tmp_path / "fixtures"
    path.write_text("".join(f"{name}={value}\n" for name, value in found.items()))
    return path


@pytest.fixture
def run_c(environment, tmp_path):
    """Runs a program, which leaves no temporary file; returns what it prints."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(program, *words, wrap=(), directory="tests/c", code=0, **variables):
        path = BUILD / directory / program
        if directory != "tests/c" and not path.exists():
            pytest.skip(f"{directory}/{program}: not built; make {directory} builds and runs it")
        given = {**environment, "TMPDIR": str(scratch), **variables}
        done = support.run(
            *(*wrap, path, *words), code=code, env=given, cwd=tmp_path, timeout=3 * HOURS
        )
        assert wrap or directory != "tests/c" or not done.stderr
        assert program not in PROGRAMS or directory != "tests/c" or not any(scratch.iterdir())
        return done.stderr if code else done.stdout

    return run


# The header.


@pytest.mark.parametrize("name", ["header_c99", "header_c11", "header_cpp"])
def test_header_alone_compiles_as_strict_c_and_cpp(run_c, name):
    run_c(name)


@pytest.mark.parametrize(
    ("call", "compiles"),
    [
        ("dbss_context_free(ctx)", True),
        ("dbss_context_free(config)", False),
        ("dbss_config_free(ctx)", False),
        ("dbss_report_download(ctx, id, id, id, 0, &report)", True),
        ("dbss_report_download(config, id, id, id, 0, &report)", False),
        ("dbss_error_free(dbss_error_take())", True),
        ("dbss_error_free(dbss_last_error())", False),
    ],
)
@pytest.mark.parametrize(("language", "compiler"), [("c", "CC"), ("c++", "CXX")])
def test_wrong_handle_type_does_not_compile(environment, language, compiler, call, compiles):
    source = f"""
        #include <dbss.h>
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report);
        void use(dbss_config *config, dbss_context *ctx, const char *id, dbss_buffer report)
        {{ {call}; (void)config; (void)ctx; (void)id; (void)report; }}
    """
    compiler = environment.get(compiler, {"c": "cc", "c++": "c++"}[language])
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", "-fsyntax-only"]
    support.run(compiler, "-x", language, *flags, "-", input=source, code=0 if compiles else 1)


# The checks.


@pytest.mark.parametrize("program", [*PROGRAMS, "scarcity", "soak", "stack"])
def test_checks_are_all_run(run_c, program):
    checks = checks_in(program)
    listed = run_c(program, "--list").splitlines()
    assert listed == [f"{name} {kind.lower()}" for name, kind in checks.items()]
    assert listed


@pytest.mark.parametrize(
    ("program", "check"),
    [(one, check) for one in (*PROGRAMS, "scarcity", "soak") for check in checks_in(one)],
)
def test_check_passes(run_c, fixtures, program, check):
    printed = run_c(program, fixtures, check)
    print(printed)
    assert f"ok {check}\n" in printed


UNLOAD = """
import ctypes, os, sys, time
from _ctypes import dlclose
ID = b"0123456789abcdef0123456789abcdef"
OPTIONS = {
    b"endpoint": b"http://no-such-host.invalid",
    b"allow_plaintext": b"true",
    b"connect_timeout_ms": b"1",
    b"token": b"token",
}
for _ in range(3):
    library = ctypes.CDLL(sys.argv[1])
    config, ctx, report = ctypes.c_void_p(), ctypes.c_void_p(), (ctypes.c_void_p * 2)()
    assert library.dbss_config_new(ctypes.byref(config)) == 0
    for key, value in OPTIONS.items():
        assert library.dbss_config_set(config, key, value) == 0
    assert library.dbss_context_new(config, ctypes.byref(ctx)) == 0
    status = library.dbss_report_download(ctx, ID, ID, ID, None, report)
    assert str(status) in sys.argv[2:], status
    library.dbss_context_free(ctx)
    library.dbss_config_free(config)
    dlclose(library._handle)
# The remaining look-ups must be able to end without the handle.
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.005)
"""


def test_unload_during_name_lookup_does_not_crash(environment):
    statuses = {one["name"]: str(one["value"]) for one in ABI["statuses"]}
    # Which of them depends on the speed of the system's resolver.
    values = [statuses[name] for name in ("DBSS_ERR_CONNECT_TIMEOUT", "DBSS_ERR_RESOLVE")]
    support.output(sys.executable, "-c", UNLOAD, LIBRARY, *values, env=environment)


@pytest.mark.parametrize(
    ("program", "kind"),
    [(one, kind) for one in PROGRAMS for kind in ("PLAIN", "TLS") if checks_in(one, kind)],
)
def test_checks_under_valgrind_pass(run_c, fixtures, program, kind):
    need_tool("valgrind")
    checks = checks_in(program, kind)
    valgrind = VALGRIND_TLS if kind == "TLS" else VALGRIND
    printed = run_c(program, fixtures, *checks, wrap=valgrind)
    assert f"{len(checks)} passed, 0 failed" in printed


ABI = json.loads((ROOT / "include/dbss-abi.json").read_text())
FUNCTIONS = [one["name"] for one in ABI["functions"]]


@pytest.mark.parametrize("tool", ["", "valgrind"])
def test_null_arguments_behave_as_documented(run_c, fixtures, tool):
    """Every function with every combination of NULL and valid pointers."""
    assert run_c("nulls", "--list").splitlines() == [f"{name} plain" for name in FUNCTIONS]
    command = [need_tool(tool), *VALGRIND[1:]] if tool else []
    assert f"{len(FUNCTIONS)} passed, 0 failed" in run_c("nulls", fixtures, wrap=command)


# The stack.


# The longest chain that is verified on the calling thread, and the longest allowed.
@pytest.fixture(scope="module", params=[2, 6])
def certificates(request, tmp_path_factory):
    """A root, a chain of authorities below it, and a server certificate."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = ["-addext", "basicConstraints=critical,CA:TRUE"]
    server = [
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    ]
    issuer, chain = None, []
    for name in ("root", *(f"authority{i}" for i in range(request.param)), "server"):
        settings = ["-newkey", "rsa:4096", "-sha384", *(server if name == "server" else authority)]
        path = directory / f"{name}.pem"
        issuer = new_certificate(path, f"{name} of a check", *settings, issuer=issuer)
        chain.insert(0, issuer.read_text())
    (directory / "chain.pem").write_text("".join(chain[:-1]))
    return directory


HANDSHAKES = "stack_of_handshakes_is_bounded"


@pytest.mark.parametrize(
    ("program", "check"), [("stack", one) for one in checks_in("stack") if one != HANDSHAKES]
)
def test_call_stays_within_documented_stack(run_c, fixtures, program, check):
    lines = run_c(program, fixtures, check).splitlines()
    lines = [line for line in lines if not line.startswith("stack ")]
    assert lines == [f"ok {check}", "1 passed, 0 failed"]


@pytest.mark.parametrize("program", ["stack"])
def test_certificate_verification_stays_within_documented_stack(
    run_c, certificates, fixtures, program
):
    """With servers that have long RSA keys."""
    chain, key = certificates / "chain.pem", certificates / "server.key"
    more = {"ca_rsa": certificates / "root.pem"}
    with contextlib.ExitStack() as running:
        for name, version in (("tls12", ssl.TLSVersion.TLSv1_2), ("tls13", ssl.TLSVersion.TLSv1_3)):
            tls = tls_with(chain, key, minimum_version=version, maximum_version=version)
            more[name] = running.enter_context(Server(serve_report, tls)).url
        with fixtures.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in more.items())
        test_call_stays_within_documented_stack(run_c, fixtures, program, HANDSHAKES)


# Sanitizers: make asan and make tsan build and run them.

# Checks that cannot run under AddressSanitizer, because of its memory use.
UNSUPPORTED_CHECKS = {
    # They search the memory of the process, of which the sanitizer maps terabytes.
    *("secrets_are_wiped", "secrets_are_wiped_tls"),
    # It limits the address space (RLIMIT_AS), which the sanitizer exceeds.
    "report_larger_than_memory_fails",
}
TSAN = {
    "TSAN_OPTIONS": "exitcode=66 halt_on_error=1 "
    f"suppressions={ROOT / 'tests/sanitizers/thread.suppressions'}"
}
# Those with many threads.
TSAN_CHECKS = {
    "abi": ["token_replaced_during_downloads"],
    "download": ["tenants_get_only_their_bytes", "tenants_get_only_their_bytes_tls"],
    "operation": [
        "every_phase_can_be_ended",
        "operation_freed_during_call_lets_it_finish",
        "stream_freed_during_read_cancels_it",
    ],
    "threads": [
        "callbacks_run_on_calling_thread",
        "replaced_provider_destroyed_on_calling_thread",
        "cancelled_thread_ends_after_call",
    ],
    "closing": [
        "context_closed_under_many_threads",
        "context_closed_under_many_threads_tls",
        "stream_closed_in_its_callback_ends",
        "token_request_is_no_longer_wanted",
        "context_close_releases_callbacks",
    ],
    "mirror": [
        "context_closed_during_run",
        "run_keeps_client_and_options",
        "cancelled_run_leaves_nothing_open",
        "result_shared_by_threads",
    ],
}


def sanitized_checks(program, *kinds):
    return [name for name in checks_in(program, *kinds) if name not in UNSUPPORTED_CHECKS]


@pytest.mark.parametrize(
    ("sanitizer", "program", "fault", "found"),
    [
        ("asan", "faulty", ["read_past_the_end"], "AddressSanitizer: heap-buffer-overflow"),
        ("asan", "faulty", ["leak"], "LeakSanitizer: detected memory leaks"),
        ("asan", "faulty", ["overflow"], "runtime error: signed integer overflow"),
        ("tsan", "racy", [], "data race"),
    ],
)
def test_sanitizer_detects_deliberate_fault(run_c, sanitizer, program, fault, found):
    assert found in run_c(program, *fault, directory=sanitizer, code=66, **ASAN, **TSAN)
    if fault:
        run_c(program, "nothing", directory=sanitizer, **ASAN)


# Checks that fork, set limits or send signals run in a separate process.
@pytest.mark.parametrize(
    ("program", "checks"),
    [
        *((one, checks) for one in PROGRAMS if (checks := sanitized_checks(one, "PLAIN", "TLS"))),
        *((one, [check]) for one in PROGRAMS for check in sanitized_checks(one, "LOAD")),
        ("nulls", []),
    ],
    ids=lambda value: "-".join(value[:1]) if isinstance(value, list) else value,
)
def test_checks_under_asan_have_no_fault(run_c, fixtures, program, checks):
    printed = run_c(program, fixtures, *checks, directory="asan", **ASAN)
    if skipped := re.match(r"skip \w+: (.*)", printed):
        support.skip(skipped[1])
    assert f"{len(checks or FUNCTIONS)} passed, 0 failed" in printed


@pytest.mark.parametrize(
    ("program", "check"), [(one, check) for one in TSAN_CHECKS for check in TSAN_CHECKS[one]]
)
def test_checks_under_tsan_have_no_data_race(run_c, fixtures, program, check):
    assert f"ok {check}\n" in run_c(program, fixtures, check, directory="tsan", **TSAN)
