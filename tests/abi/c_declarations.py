"""Parses the declarations of a C header."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pycparser import CParser, c_ast

# Stubs for the system headers, whose extensions pycparser does not support.
STUBS = {
    "stddef.h": "typedef unsigned long size_t;\n#define NULL ((void *)0)\n",
    "stdint.h": """
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
""",
}


def declarations(header: Path) -> list[Any]:
    """The declarations of a header, parsed; those of the stubs come first."""
    with tempfile.TemporaryDirectory() as stubs:
        for name, text in STUBS.items():
            Path(stubs, name).write_text(text)
        compiler = os.environ.get("CC", "cc")
        # Without attributes, which the parser does not support.
        command = [compiler, "-E", "-P", "-U__GNUC__", "-nostdinc", f"-I{stubs}", str(header)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    parsed: list[Any] = CParser().parse(done.stdout, str(header)).ext
    return parsed


def c_type(node: Any) -> str:
    """The C spelling of a type, such as `const char *`."""
    if isinstance(node, c_ast.PtrDecl):
        target = c_type(node.type)
        return target + ("*" if target.endswith("*") else " *")
    inner = node.type
    name = inner.name if isinstance(inner, c_ast.Struct) else " ".join(inner.names)
    return " ".join([*node.quals, name])


def named_parameters(function: c_ast.FuncDecl) -> list[Any]:
    """The parameters; none for `(void)`."""
    return [one for one in function.args.params if one.name is not None]
