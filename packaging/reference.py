"""Writes the reference documentation, a directory for each language, from the comments in the code.

    python packaging/reference.py OUT [LANGUAGE...]

The tool of each language makes it. A public name without a comment, a broken link or an
unknown tag is an error. A page in OUT links those that were made. Python's needs pdoc, and
libdbss at DBSS_LIBRARY; Java's the jar of `make java`; Node's the packages of `make node`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import typing
import warnings
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "packaging/reference"
BUILD = Path(os.environ.get("DBSS_BUILD_DIR", ROOT / "build"))


def run(*command: str | Path, **options: object) -> None:
    subprocess.run(command, **{"cwd": ROOT, "check": True, **options})


def doxygen(out: Path, settings: str) -> None:
    shared = f"@INCLUDE = packaging/reference/Doxyfile\nOUTPUT_DIRECTORY = {out}\nHTML_OUTPUT = .\n"
    run("doxygen", "-", input=(shared + settings).encode())


def c(out: Path) -> None:
    doxygen(out, "PROJECT_NAME = dbss.h\nINPUT = include/dbss.h\nOPTIMIZE_OUTPUT_FOR_C = YES\n")


def cpp(out: Path) -> None:
    doxygen(out, "PROJECT_NAME = dbss.hpp\nINPUT = include/dbss.hpp include/dbss_raw.hpp\n")


def python(out: Path) -> None:
    import dbss
    import pdoc.doc
    from dbss import aio, base_error

    # Where the source of its attributes is.
    base_error.Error.__module__ = base_error.__name__
    for one in (dbss.Detail, dbss.Progress, dbss.Token):
        one.__new__.__annotations__ = typing.get_type_hints(one)
    # Types for type checkers alone are shown as they are written.
    warnings.filterwarnings("ignore", module="pdoc.doc_types")

    # Members of a base that is not public stand with the class.
    original = pdoc.doc.Class._taken_from

    def taken_from(self: pdoc.doc.Class, name: str, value: object) -> tuple[str, str]:
        module, base = original(self, name, value)
        hidden = module.startswith("dbss") and base.split(".")[0] not in public
        return (self.modulename, f"{self.qualname}.{name}") if hidden else (module, base)

    public = {*dbss.__all__, *aio.__all__}
    pdoc.doc.Class._taken_from = taken_from

    missing = []
    members = [pdoc.doc.Module(module) for module in (dbss, aio)]
    while members:
        member = members.pop()
        if isinstance(member, pdoc.doc.Namespace):
            members += [one for one in member.own_members if not one.name.startswith("_")]
        if not member.docstring:
            missing.append(member.fullname)
    if missing:
        raise SystemExit(f"without a docstring: {', '.join(sorted(missing))}")
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(dbss.__name__, aio.__name__, output_directory=out)


def go(out: Path) -> None:
    run("go", "run", HERE / "main.go", ".", out / "index.html", cwd=ROOT / "bindings/go")


def java(out: Path) -> None:
    (jar,) = (BUILD / "java").glob("dbss-*-javadoc.jar")
    zipfile.ZipFile(jar).extractall(out)


def node(out: Path) -> None:
    run("node_modules/.bin/typedoc", "--out", out, cwd=ROOT / "bindings/node")


def rust(out: Path) -> None:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    environment = {**os.environ, "RUSTDOCFLAGS": "-D warnings", "CARGO_TARGET_DIR": str(target)}
    run("cargo", "doc", "--quiet", "--locked", "--no-deps", "-p", "dbss", env=environment)
    made = target / os.environ.get("CARGO_BUILD_TARGET", "") / "doc"
    shutil.copytree(made, out)


# What makes the reference of a language, and the page that it begins with.
LANGUAGES = {
    "C": (c, "dbss_8h.html"),
    "C++": (cpp, "namespacedbss.html"),
    "Python": (python, "dbss.html"),
    "Go": (go, "index.html"),
    "Java": (java, "index.html"),
    "Node.js": (node, "index.html"),
    "Rust": (rust, "dbss/index.html"),
}


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    links = []
    for language, (make, page) in LANGUAGES.items():
        name = make.__name__
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            make(out / name)
        except subprocess.CalledProcessError:
            raise SystemExit(f"the reference of {language} failed") from None
        if not (out / name / page).is_file():
            raise SystemExit(f"the reference of {language} has no page {page}")
        links.append(f'<li><a href="{name}/{page}">{language}</a></li>\n')
    title = "<title>Reference of libdbss</title>\n<h1>Reference of libdbss</h1>\n"
    head = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{title}'
    (out / "index.html").write_text(f"{head}<ul>\n{''.join(links)}</ul>\n</html>\n")


if __name__ == "__main__":
    main()
