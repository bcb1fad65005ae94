"""The C++ header: programs against the mock service, compilers, documentation."""

import json
import os
import re

import pytest

from conftest import need_tool
from mock_service import MockService
from test_abi_signatures import load_generator
from test_c import environment, expect_success, run

# An imported fixture; this file does not use the name directly.
__all__ = ["environment"]

PROGRAMS = ("idioms_gcc_17", "idioms_asan", "idioms_clang_20")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
FORBIDDEN = {
    "status": 403,
    "json": {
        "error_code": "DBSS.1",
        "error_msg": "not yours",
        "encoded_authorization_message": "encoded",
        "details": [{"error_code": "DBSS.2", "error_msg": "a detail"}, {"error_msg": "no code"}],
    },
    "headers": [["X-Request-Id", "the-request"], ["Retry-After", "7"]],
}
STALL = {"stall_after": 100}
# The scenarios of tests/cpp/idioms.cpp, and the faults of each.
SCENARIOS = {
    "download": {},
    "moves": {},
    "errors": {"report": FORBIDDEN},
    "information": {},
    "exceptions": {"report": STALL},
    "providers": {},
    "lists": {},
    "lists_again": {"@reports.list": {"status": 500, "skip": 1, "times": 1}},
    "management": {},
    "mirror": {"report": FORBIDDEN},
    "cancels": {"report": STALL},
    "many": {},
}


@pytest.fixture
def mock(build_dir):
    """A service for each test: its reports are counted."""
    with MockService(build_dir / "bin/dbss-mock") as running:
        yield running


@pytest.fixture
def service(mock, environment):
    """The environment of a program with the settings of a client."""
    mock.add_reports(5)
    return {
        **environment,
        "DBSS_ENDPOINT": mock.http,
        "DBSS_IAM_ENDPOINT": mock.iam,
        "DBSS_TOKEN": mock.token,
        "DBSS_PROJECT_ID": mock.project_id,
        "DBSS_INSTANCE_ID": mock.instance_id,
        "DBSS_REPORT_ID": mock.pdf["id"],
        "DBSS_TEMPLATE_ID": mock.templates[0]["id"],
        "REPORT_SIZE": str(mock.pdf["sizes"]["en-us"]),
        "ROUNDS": "2000",
    }


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cpp_idiom_holds(build_dir, tmp_path, mock, service, scenario, program):
    path = build_dir / "tests/cpp" / program
    if "clang" in program and not path.exists():
        pytest.skip("clang++ is not installed")
    for report, fault in SCENARIOS[scenario].items():
        mock.fault(mock.pdf["id"] if report == "report" else report, **fault)
    if scenario == "many" and program == "idioms_gcc_17":
        service["ROUNDS"] = "10000"
    expect_success(run([path, scenario], service, cwd=tmp_path))


@pytest.mark.parametrize("standard", ["17", "20", "23"])
@pytest.mark.parametrize("compiler", ["c++", "clang++"])
def test_cpp_header_alone_compiles_without_warnings(
    root, environment, tmp_path, compiler, standard
):
    need_tool(compiler)
    source = tmp_path / "header.cpp"
    source.write_text("#include <dbss.hpp>\n#include <dbss.hpp>\nint main() {}\n")
    # Clang 14 knows the newest one only by its earlier name.
    names = {"23": "2b"}
    flags = [f"-std=c++{names.get(standard, standard)}", *WARNINGS, f"-I{root / 'include'}"]
    expect_success(run([compiler, *flags, "-fsyntax-only", source], environment))


def test_cpp_objects_pass_between_standards_and_shared_objects(
    root, build_dir, environment, tmp_path
):
    # A shared object in C++20 that hides its symbols; the program is in C++17.
    (tmp_path / "library.hpp").write_text("""
        #include <dbss.hpp>
        #define SHOWN __attribute__((visibility("default")))
        SHOWN dbss::control stopped(const dbss::operation &of);
        SHOWN dbss::config with_log_that_throws();
        SHOWN void fail();
    """)
    (tmp_path / "library.cpp").write_text("""
        #include "library.hpp"
        dbss::control stopped(const dbss::operation &of)
        {
            std::stop_source source;
            source.request_stop();
            return {of, source.get_token()};
        }
        dbss::config with_log_that_throws()
        {
            dbss::config made;
            made.endpoint("http://127.0.0.1:1").token("a");
            made.on_log([](const dbss::log_record &) { throw std::runtime_error("from the log"); });
            return made;
        }
        void fail()
        {
            dbss::config().max_attempts(0);
        }
    """)
    (tmp_path / "program.cpp").write_text("""
        #include "library.hpp"
        #include <iostream>
        #ifdef __cpp_lib_jthread
        #error "not C++17"
        #endif
        int main()
        {
            const dbss::client client(with_log_that_throws());
            const std::string project(32, 'a');
            dbss::operation operation;
            try {
                dbss::client(dbss::config().endpoint("http://127.0.0.1:1").token("a"))
                    .check_credentials(project, stopped(operation));
            } catch (const dbss::cancelled_error &) {
                std::cout << "cancelled\\n";
            }
            try {
                client.check_credentials(project);
            } catch (const std::exception &error) {
                std::cout << error.what() << '\\n';
            }
            try {
                fail();
            } catch (const dbss::argument_error &error) {
                std::cout << error.parameter().value() << '\\n';
            }
        }
    """)
    flags = [*WARNINGS, f"-I{root / 'include'}", "-pthread"]
    hidden = ["-std=c++20", "-fvisibility=hidden", "-fPIC", "-shared"]
    made = ["c++", *flags, *hidden, "-o", "liblibrary.so", "library.cpp"]
    expect_success(run(made, environment, cwd=tmp_path))
    link = ["-L.", "-llibrary", f"-L{build_dir / 'lib'}", "-ldbss", "-Wl,-rpath,$ORIGIN"]
    made = ["c++", *flags, "-std=c++17", "-o", "program", "program.cpp", *link]
    expect_success(run(made, environment, cwd=tmp_path))
    printed = expect_success(run([tmp_path / "program"], environment))
    assert printed.splitlines() == ["cancelled", "from the log", "max_attempts"]


def test_cpp_header_uses_every_function_of_the_abi(root):
    functions = json.loads((root / "include/dbss-abi.json").read_text())["functions"]
    text = "".join((root / "include" / name).read_text() for name in ("dbss.hpp", "dbss_raw.hpp"))
    unused = {one["name"] for one in functions} - set(re.findall(r"\bdbss_\w+", text))
    # What others do as well: options by key, the call with an operation, the taken error.
    assert unused == {
        "dbss_config_set_access_key",
        "dbss_config_set_endpoint",
        "dbss_config_set_iam_user",
        "dbss_config_set_region",
        "dbss_config_set_token",
        "dbss_last_error",
        "dbss_report_download",
    }


def test_cpp_raw_header_alone_has_a_function_that_is_added(root, tmp_path):
    """A getter and an option that are added to the ABI need no line that is written by hand."""
    description = json.loads((root / "include/dbss-abi.json").read_text())
    [getter] = [one for one in description["functions"] if one["name"] == "dbss_error_attempts"]
    description["functions"].append({**getter, "name": "dbss_error_added"})
    description["options"]["mirror"].append(
        {**description["options"]["mirror"][0], "key": "added_ms", "type": "milliseconds"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "bindings/generate")
        generator = load_generator(root, "cpp")
        [text] = generator.generate(description).values()
    assert "std::uint32_t added() const { return dbss_error_added(native()); }" in text
    assert "Self &added(std::chrono::milliseconds value)" in text


def test_cpp_header_documents_every_name(root, tmp_path):
    need_tool("doxygen")
    settings = {
        "INPUT": f"{root / 'include/dbss.hpp'} {root / 'include/dbss_raw.hpp'}",
        "OUTPUT_DIRECTORY": tmp_path,
        "GENERATE_LATEX": "NO",
        "GENERATE_HTML": "NO",
        "GENERATE_XML": "YES",
        "QUIET": "YES",
        "EXCLUDE_SYMBOLS": "dbss::v0::detail",
        "PREDEFINED": "DBSS_API= __cpp_lib_jthread",
        "EXTRACT_STATIC": "YES",
        "WARN_NO_PARAMDOC": "NO",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (tmp_path / "Doxyfile").write_text(lines)
    done = run(["doxygen", tmp_path / "Doxyfile"], {**os.environ})
    assert (done.returncode, done.stderr) == (0, "")


def test_cpp_header_example_runs(root, build_dir, environment, tmp_path):
    opening = (root / "include/dbss.hpp").read_text().split("// These rules")[0]
    program = "\n".join(re.findall(r"^//     (.*)$", opening, re.MULTILINE))
    assert program.startswith("#include <dbss.hpp>")
    binary = compile_cpp(root, build_dir, environment, tmp_path, program)
    # It uses a real region, so here the call must fail before any traffic.
    done = run([binary, "cn-north-4", "a", "b"], environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert run([binary], environment).returncode == 2


def compile_cpp(root, build_dir, environment, directory, program):
    source = directory / "program.cpp"
    source.write_text(program)
    flags = ["-std=c++20", *WARNINGS, f"-I{root / 'include'}", "-pthread"]
    link = [f"-L{build_dir / 'lib'}", "-ldbss", "-o", source.with_suffix("")]
    expect_success(run(["c++", *flags, source, *link], environment))
    return source.with_suffix("")
