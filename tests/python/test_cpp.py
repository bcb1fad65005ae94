"""The C++ header: programs against the mock service, compilers, documentation."""

import json
import re
import sys

import pytest

from support import BUILD, ROOT, need_tool, new_mock, output, run
from test_abi import description, generate

# Imported fixtures; this file does not use the names directly.
__all__ = ["description", "generate"]

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
# The scenarios of tests/cpp/idioms.cpp, and the faults of some.
SCENARIOS = (
    *("download", "moves", "null_pointers", "errors", "information", "exceptions", "providers"),
    *("lists", "lists_again", "management", "mirror", "cancels", "many"),
)
FAULTS = {
    "errors": {"report": FORBIDDEN},
    "exceptions": {"report": STALL},
    "lists_again": {"@reports.list": {"status": 500, "skip": 1, "times": 1}},
    "mirror": {"report": FORBIDDEN},
    "cancels": {"report": STALL},
}
# A service for each test: its reports are counted.
mock = pytest.fixture(new_mock)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cpp_idiom_holds(tmp_path, mock, service, scenario, program):
    path = BUILD / "tests/cpp" / program
    if "clang" in program and not path.exists():
        pytest.skip("clang++ is not installed")
    for report, fault in FAULTS.get(scenario, {}).items():
        mock.fault(mock.pdf["id"] if report == "report" else report, **fault)
    mock.add_reports(5)
    more = {
        "DBSS_IAM_ENDPOINT": mock.iam,
        "DBSS_TEMPLATE_ID": mock.templates[0]["id"],
        "OTHER_REPORT_ID": mock.reports[1]["id"],
        "REPORT_SIZE": str(mock.pdf["sizes"]["en-us"]),
        "ROUNDS": "10000" if (scenario, program) == ("many", "idioms_gcc_17") else "2000",
    }
    output(path, scenario, env={**service, **more}, cwd=tmp_path)


@pytest.mark.parametrize("standard", ["17", "20", "23"])
@pytest.mark.parametrize("compiler", ["c++", "clang++"])
def test_cpp_header_alone_compiles_without_warnings(environment, compiler, standard):
    need_tool(compiler)
    source = "#include <dbss.hpp>\n#include <dbss.hpp>\nint main() {}\n"
    # Clang 14 knows the newest one only by its earlier name.
    standard = {"23": "2b"}.get(standard, standard)
    flags = [f"-std=c++{standard}", *WARNINGS, f"-I{ROOT / 'include'}", "-x", "c++"]
    output(compiler, *flags, "-fsyntax-only", "-", input=source, env=environment)


# A shared object in C++20 that hides its symbols; the program is in C++17.
LIBRARY_HEADER = """
#include <dbss.hpp>
#define SHOWN __attribute__((visibility("default")))
SHOWN dbss::control stopped(const dbss::operation &of);
SHOWN dbss::config with_log_that_throws();
SHOWN void fail();
"""
LIBRARY = """
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
"""
PROGRAM = """
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
"""


def test_cpp_objects_pass_between_standards_and_shared_objects(environment, tmp_path):
    sources = {"library.hpp": LIBRARY_HEADER, "library.cpp": LIBRARY, "program.cpp": PROGRAM}
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    hidden = "-std=c++20 -fvisibility=hidden -fPIC -shared -o liblibrary.so library.cpp"
    program = f"-std=c++17 -o program program.cpp -L. -llibrary -L{BUILD / 'lib'} -ldbss"
    for words in (hidden.split(), [*program.split(), "-Wl,-rpath,$ORIGIN"]):
        flags = [*WARNINGS, f"-I{ROOT / 'include'}", "-pthread"]
        output("c++", *flags, *words, env=environment, cwd=tmp_path)
    printed = output(tmp_path / "program", env=environment)
    assert printed.splitlines() == ["cancelled", "from the log", "max_attempts"]


# A plugin has its own copy of the header's variables.
PLUGIN = """
#include <dbss.hpp>
extern "C" void set_log(dbss::config &of)
{
    of.on_log([](const dbss::log_record &) { throw std::runtime_error("log"); });
}
extern "C" void set_provider(dbss::config &of)
{
    of.token_provider([](bool) -> std::string { throw std::runtime_error("provider"); });
}
extern "C" void set_progress(dbss::operation &of)
{
    of.on_progress([](const dbss::progress &) { throw std::runtime_error("progress"); });
}
extern "C" void call(const dbss::client &client, const dbss::control &under)
{
    client.check_credentials(std::string(32, 'a'), under);
}
"""
HOST = """
#include <dbss.hpp>
#include <dlfcn.h>
#include <iostream>
static void *plugin;
template <class... Arguments> void in_plugin(const char *name, Arguments &...arguments)
{
    reinterpret_cast<void (*)(Arguments &...)>(dlsym(plugin, name))(arguments...);
}
static void call(const dbss::client &client, const dbss::control &under = {})
{
    for (const bool here : {true, false})
        try {
            if (here)
                client.check_credentials(std::string(32, 'a'), under);
            else
                in_plugin("call", client, under);
        } catch (const std::exception &error) {
            std::cout << error.what() << std::endl;
        }
}
static dbss::config settings()
{
    dbss::config made;
    made.endpoint("http://127.0.0.1:1").max_attempts(1).token("a");
    return made;
}
int main()
{
    plugin = dlopen("./plugin.so", RTLD_NOW | RTLD_LOCAL);
    dbss::config logging = settings(), providing = settings();
    in_plugin("set_log", logging);
    in_plugin("set_provider", providing);
    call(dbss::client(logging));
    call(dbss::client(providing));
    dbss::operation operation;
    in_plugin("set_progress", operation);
    call(dbss::client(settings()), operation);
    operation.on_progress(
        [](const dbss::progress &) { throw std::runtime_error("host progress"); });
    call(dbss::client(settings()), operation);
    dbss::config own = settings();
    own.on_log([](const dbss::log_record &) { throw std::runtime_error("host log"); });
    call(dbss::client(own));
}
"""


@pytest.mark.parametrize("compiler", ["c++", "clang++"])
def test_cpp_exceptions_of_callbacks_pass_between_a_program_and_its_plugin(
    environment, tmp_path, compiler
):
    need_tool(compiler)
    (tmp_path / "plugin.cpp").write_text(PLUGIN)
    (tmp_path / "host.cpp").write_text(HOST)
    for words in ("-fPIC -shared -o plugin.so plugin.cpp", "-o host host.cpp"):
        flags = [*WARNINGS, "-std=c++17", f"-I{ROOT / 'include'}", "-pthread", *words.split()]
        link = [f"-L{BUILD / 'lib'}", "-ldbss", "-ldl"]
        output(compiler, *flags, *link, env=environment, cwd=tmp_path)
    printed = output(tmp_path / "host", env=environment, cwd=tmp_path).splitlines()
    names = ("log", "provider", "progress", "host progress", "host log")
    assert printed == [name for name in names for _ in range(2)]


@pytest.mark.parametrize(
    ("standard", "code", "message"),
    [
        ("14", "", "needs C.*17 or newer"),
        (
            "17",
            'dbss::config().token_provider([](auto) { return std::string("a"); });',
            "a provider that returns a token takes bool",
        ),
    ],
)
def test_cpp_header_says_what_does_not_compile(environment, standard, code, message):
    flags = [f"-std=c++{standard}", f"-I{ROOT / 'include'}", "-x", "c++", "-fsyntax-only", "-"]
    source = f"#include <dbss.hpp>\nint main() {{ {code} }}\n"
    done = run("c++", *flags, code=1, input=source, env=environment)
    assert re.search(message, done.stderr)


def test_cpp_header_uses_every_function_of_the_abi(description):
    text = "".join((ROOT / "include" / name).read_text() for name in ("dbss.hpp", "dbss_raw.hpp"))
    functions = {one["name"] for one in description["functions"]}
    unused = functions - set(re.findall(r"\bdbss_\w+", text))
    # What others do as well: options by key, the call with an operation, the taken error.
    options = ("access_key", "endpoint", "iam_user", "region", "token")
    others = {f"dbss_config_set_{name}" for name in options}
    assert unused == {*others, "dbss_last_error", "dbss_report_download"}


def test_cpp_raw_header_alone_has_a_function_that_is_added(description, generate):
    """A getter and an option that are added to the ABI need no line that is written by hand."""
    added = json.loads(json.dumps(description))
    [getter] = [one for one in added["functions"] if one["name"] == "dbss_error_attempts"]
    added["functions"].append({**getter, "name": "dbss_error_added"})
    option = {**added["options"]["mirror"][0], "key": "added_ms", "type": "milliseconds"}
    added["options"]["mirror"].append(option)
    [text] = generate("cpp", added).values()
    assert "std::uint32_t added() const { return dbss_error_added(native()); }" in text
    assert "Self &added(std::chrono::milliseconds value)" in text


def test_headers_of_c_and_cpp_document_every_name(tmp_path):
    need_tool("doxygen")
    output(sys.executable, ROOT / "packaging/reference.py", tmp_path, "c", "cpp")
