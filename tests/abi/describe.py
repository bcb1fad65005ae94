"""Describes the ABI for programs that make wrappers, in include/dbss-abi.json.

The types come from the declarations of include/dbss.h. What C cannot say (what
NULL does, who frees what, what blocks) comes from the comments, which say it in
set phrases; where one is missing, this ends with an error that names the
function. `make abi` runs it. The format is that of include/dbss-abi.schema.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycparser import CParser, c_ast

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "include/dbss.h"
DESCRIPTION = ROOT / "include/dbss-abi.json"
FORMAT = 1

# The system's headers hold extensions that pycparser does not know.
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
# The size of each type in a structure, by the size of a pointer.
SIZES = {
    "uint8_t": 1,
    "int": 4,
    "int32_t": 4,
    "uint32_t": 4,
    "int64_t": 8,
    "size_t": None,
}


class UnclearError(Exception):
    """A comment of the header does not say what it must."""


def declarations(header: Path = HEADER) -> list[Any]:
    """The declarations of the header, parsed; those of the stubs come first."""
    with tempfile.TemporaryDirectory() as stubs:
        for name, text in STUBS.items():
            Path(stubs, name).write_text(text)
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-E", "-P", "-nostdinc", f"-I{stubs}", str(header)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise UnclearError(done.stderr)
    parsed: list[Any] = CParser().parse(done.stdout, str(header)).ext
    return parsed


def c_type(node: Any) -> str:
    """A type as C spells it, such as `const char *`."""
    if isinstance(node, c_ast.PtrDecl):
        target = c_type(node.type)
        return target + ("*" if target.endswith("*") else " *")
    inner = node.type
    name = inner.name if isinstance(inner, c_ast.Struct) else " ".join(inner.names)
    return " ".join([*node.quals, name])


# The comments


@dataclass
class Comment:
    """The comment of one item of the header, and the section that it stands in."""

    name: str
    section: str
    text: str

    @property
    def flat(self) -> str:
        return " ".join(self.text.split())

    @property
    def summary(self) -> str:
        """The first sentence."""
        paragraph = " ".join(self.text.split("\n\n")[0].split())
        return re.split(r"(?<=[.])\s+(?=[A-Z\"`*])|:$", paragraph)[0]

    def find(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.flat)

    def need(self, pattern: str, what: str) -> re.Match[str]:
        found = self.find(pattern)
        if found is None:
            raise UnclearError(f"{self.name} does not say {what}")
        return found


def comments(header: str) -> dict[str, Comment]:
    """The comments by the name of what they explain."""
    found = {}
    section = ""
    pattern = r"^ \* (\d+\. .*)$|^/\*\*\n((?: \*.*\n)+?) \*/\n(.+(?:\n.+)*)"
    for match in re.finditer(pattern, header, re.MULTILINE):
        title, text, item = match.groups()
        if title is not None:
            section = title
            continue
        lines = [re.sub(r"^ \* ?", "", line) for line in text.splitlines()]
        name = (
            re.match(r"#define (\w+)", item)
            or re.match(r"struct (\w+);", item)
            or re.search(r"\(\*(\w+)\)", item)
            or re.search(r"\b(\w+)\(", item)
            or re.search(r"\b(\w+);$", header[match.start(3) :].split("\n\n")[0])
        )
        if name is None:
            raise UnclearError(f"a comment of nothing: {item}")
        found[name[1]] = Comment(name[1], section, "\n".join(lines).strip())
    return found


# The facts


class Description:
    """Reads the facts out of a header, with those that no longer change out of the last one."""

    def __init__(self, header: Path, last: dict[str, Any]) -> None:
        self.text = header.read_text()
        self.comments = comments(self.text)
        self.macros = dict(re.findall(r"^#define (DBSS_\w+) (.+)$", self.text, re.MULTILINE))
        self.version: str = json.loads(self.macros["DBSS_VERSION"])
        self.since = {
            one["name"]: one["since"]
            for kind in (
                "functions",
                "handles",
                "structs",
                "callbacks",
                "constants",
                "statuses",
            )
            for one in last.get(kind, [])
        }
        self.functions: dict[str, c_ast.FuncDecl] = {}
        self.callbacks: dict[str, c_ast.FuncDecl] = {}
        self.structs: dict[str, c_ast.Struct] = {}
        self.handles: list[str] = []
        self.aliases: dict[str, str] = {}
        for one in declarations(header):
            if not one.name or not one.name.startswith("dbss_"):
                continue
            kind = one.type
            if isinstance(kind, c_ast.FuncDecl):
                self.functions[one.name] = kind
            elif isinstance(kind, c_ast.PtrDecl) and isinstance(kind.type, c_ast.FuncDecl):
                self.callbacks[one.name] = kind.type
            elif isinstance(kind.type, c_ast.Struct):
                if kind.type.decls:
                    self.structs[one.name] = kind.type
                else:
                    self.handles.append(one.name)
            else:
                self.aliases[one.name] = c_type(kind)

    def whole(self) -> dict[str, Any]:
        number = 0
        for part in self.version.split("."):
            number = number * 100 + int(part)
        statuses = [name for name in self.macros if re.match(r"DBSS_(OK|ERR_\w+)$", name)]
        constants = [name for name in self.comments if name in self.macros]
        return {
            "$schema": "dbss-abi.schema.json",
            "format": FORMAT,
            "library": "dbss",
            "version": self.version,
            "version_number": number,
            "soname": json.loads(self.macros["DBSS_SONAME"]),
            "aliases": [{**self.head(name), "c_type": text} for name, text in self.aliases.items()],
            "statuses": [self.status(name) for name in statuses],
            "constants": [
                {**self.head(name), "value": int(self.macros[name])}
                for name in constants
                if name not in statuses
            ],
            "handles": [self.handle(name) for name in self.handles],
            "structs": [self.struct(name) for name in self.structs],
            "callbacks": [self.callback(name) for name in self.callbacks],
            "functions": [self.function(name) for name in self.functions],
        }

    def comment(self, name: str) -> Comment:
        if name not in self.comments:
            raise UnclearError(f"{name} has no comment")
        return self.comments[name]

    def head(self, name: str) -> dict[str, Any]:
        comment = self.comment(name)
        return {
            "name": name,
            "since": self.since.get(name, self.version),
            "section": comment.section,
            "summary": comment.summary,
            "doc": comment.text,
        }

    def status(self, name: str) -> dict[str, Any]:
        value = int(self.macros[name])
        [group] = [
            other
            for other, text in self.macros.items()
            if re.match(r"DBSS_(OK|ERR_\w+)$", other) and int(text) == value // 100 * 100
        ]
        return {**self.head(name), "value": value, "group": group}

    def handle(self, name: str) -> dict[str, Any]:
        return {**self.head(name), "free": self.free(name)}

    def free(self, name: str) -> str:
        free = f"{name}_free"
        if free not in self.functions:
            raise UnclearError(f"{name} has no {free}()")
        return free

    def struct(self, name: str) -> dict[str, Any]:
        fields = self.structs[name].decls
        described = [
            {"name": one.name, "c_type": c_type(one.type), **self.kind(one)} for one in fields
        ]
        layouts = []
        for pointer in (4, 8):
            offset, alignment, offsets = 0, 1, []
            for one in fields:
                is_pointer = isinstance(one.type, c_ast.PtrDecl)
                size = pointer if is_pointer else SIZES[c_type(one.type)] or pointer
                offset = -(-offset // size) * size
                offsets.append(offset)
                offset += size
                alignment = max(alignment, size)
            size = -(-offset // alignment) * alignment
            layout = {
                "pointer": pointer,
                "size": size,
                "alignment": alignment,
                "offsets": offsets,
            }
            layouts.append(layout)
        return {
            **self.head(name),
            "free": self.free(name),
            "fields": described,
            "layouts": layouts,
        }

    def kind(self, parameter: Any) -> dict[str, Any]:
        """What a parameter, field or result is to a wrapper."""
        node = parameter.type if isinstance(parameter, c_ast.Decl) else parameter
        if not isinstance(node, c_ast.PtrDecl):
            name = c_type(node).removeprefix("const ")
            if name in self.callbacks:
                return {"kind": "callback", "of": name}
            if name == "dbss_status":
                return {"kind": "status"}
            return {"kind": "void" if name == "void" else "integer"}
        target = node.type
        while isinstance(target, c_ast.PtrDecl):
            target = target.type
        name = c_type(target).removeprefix("const ")
        if name in self.handles:
            return {"kind": "handle", "of": name}
        if name in self.structs:
            return {"kind": "struct", "of": name}
        if name == "char":
            return {"kind": "string" if "const" in target.quals else "bytes"}
        if name == "void" and getattr(parameter, "name", None) == "user_data":
            return {"kind": "user_data"}
        return {"kind": "bytes" if name in ("void", "uint8_t") else "integer"}

    def callback(self, name: str) -> dict[str, Any]:
        comment = self.comment(name)
        thread = comment.need(
            r"Runs on ((the thread of the call)|any thread|whatever thread lets go last"
            r"|the thread of one of the calls)",
            "on which thread it runs",
        )
        parameters = []
        for one in self.callbacks[name].args.params:
            told = {"name": one.name, "c_type": c_type(one.type), **self.kind(one)}
            if told["kind"] in ("handle", "string", "bytes"):
                told |= self.handed_over(comment, one.name)
            parameters.append(told)
        return {
            **self.head(name),
            "thread": "calling" if thread[2] else "any",
            "concurrent": bool(comment.find("on several at once")),
            "returns": {
                "c_type": c_type(self.callbacks[name].type),
                **self.kind(self.callbacks[name].type),
            },
            "parameters": parameters,
        }

    def handed_over(self, comment: Comment, name: str) -> dict[str, Any]:
        said = comment.need(
            rf"`{name}`[^`]*?(?:is (yours): answer it, now or later, and end it with (\w+)\(\)"
            r"|(?:`(\w+)` bytes[^`]*?)?valid until it returns)",
            f"how long `{name}` is valid",
        )
        if said[1]:
            return {"ownership": {"kind": "owned", "free": said[2]}}
        size = {"size": said[3]} if said[3] else {}
        return {"ownership": {"kind": "borrowed", "until": ["return"]}, **size}

    def function(self, name: str) -> dict[str, Any]:
        comment = self.comment(name)
        comment.need(r"Any thread\b", "on which threads it may be called")
        waits = comment.need(
            r"(Never blocks)|(Uses the network)|Reads files|May wait for a moment",
            "whether it blocks",
        )
        declared = self.functions[name]
        fallible = c_type(declared.type) == "dbss_status" and bool(comment.find("Errors: "))
        parameters = [self.parameter(name, one, fallible) for one in named_parameters(declared)]
        signal = comment.find("May be called from a signal handler")
        if comment.find(r"DBSS_ERR_NULL_ARGUMENT") is None and any(
            one.get("nullability") == "required" for one in parameters
        ):
            raise UnclearError(f"{name} does not say DBSS_ERR_NULL_ARGUMENT")
        return {
            **self.head(name),
            "fallible": fallible,
            "blocks": waits[1] is None,
            "network": waits[2] is not None,
            "async_signal_safe": signal is not None,
            "returns": self.result(name, parameters),
            "parameters": parameters,
            "callbacks": self.callback_groups(parameters),
        }

    def parameter(self, function: str, one: Any, fallible: bool) -> dict[str, Any]:
        name: str = one.name
        kind = self.kind(one)
        told = {"name": name, "c_type": c_type(one.type), **kind, "direction": "in"}
        if not isinstance(one.type, c_ast.PtrDecl) and kind["kind"] != "callback":
            return told
        if kind["kind"] == "user_data":
            return {**told, "nullability": "optional"}
        if not fallible:
            told["nullability"] = "ignored"
            if kind["kind"] == "struct":
                told["direction"] = "inout"
            if kind["kind"] == "string":
                told["encoding"] = "utf-8"
            return told
        comment, mark = self.mark(function, name)
        told["nullability"] = "required" if mark.startswith("required") else "optional"
        if kind["kind"] == "string":
            told["encoding"] = "bytes" if mark.endswith("bytes") else "utf-8"
        room = re.search(r"room for `?(\w+)`? bytes", self.segment(comment, name))
        if room is not None:
            told["size"] = room[1]
        if name.startswith("out_") or room is not None:
            told["direction"] = "out"
        if told["direction"] == "out":
            # Everything else that a call hands out is empty when it fails.
            late = "also when this function fails" in self.segment(comment, name)
            told["set_on_failure"] = late
        if told["direction"] == "out" and kind["kind"] in ("handle", "struct"):
            free = comment.need(
                r"yours\b[^.;]*?end (?:it|them) with (dbss_\w+_free)\(\)",
                f"who frees `{name}`",
            )[1]
            if free != self.free(kind["of"]):
                raise UnclearError(f"{function} has {free}() end `{name}`")
            told["ownership"] = {"kind": "owned", "free": free}
        return told

    def segment(self, comment: Comment, name: str) -> str:
        """What a comment says from a parameter's name on, to the next sentence that begins
        with a parameter."""
        after = comment.flat.partition(f"`{name}`")[2]
        return re.split(r"(?<=[.;]) `", after)[0]

    def mark(self, function: str, name: str) -> tuple[Comment, str]:
        """How a parameter is marked: required, or what NULL is for; there or where it points."""
        comment = self.comment(function)
        segment = self.segment(comment, name)
        marked = re.match(
            r"(?:(?:, `\w+`)*,? and `\w+`)? \((required(?:, bytes)?|may be NULL)\b"
            r"|(?:(?:, `\w+`)*,? and `\w+`)?(?: (may be NULL)|:?[^`]*?\b(NULL (?:for|leaves) ))",
            segment,
        )
        if marked is not None:
            return comment, marked[1] or marked[2] or marked[3].strip()
        elsewhere = re.match(
            r"(?:(?:, `\w+`)*,? and `\w+`)? as for (dbss_\w+)\(\)", segment
        ) or comment.find(
            r"(?:other|first \w+) parameters as for (dbss_\w+)\(\)|therwise as (dbss_\w+)\(\)"
        )
        if elsewhere is None:
            raise UnclearError(f"{function} does not say whether `{name}` may be NULL")
        return self.mark(next(group for group in elsewhere.groups() if group), name)

    def result(self, name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        comment = self.comment(name)
        node = self.functions[name].type
        told = {"c_type": c_type(node), **self.kind(node)}
        if told["kind"] == "void":
            if any(one.get("nullability") == "ignored" for one in parameters):
                comment.need(r"NULL (?:and [\w ]+ )?do(?:es)? nothing", "that NULL does nothing")
            return told
        sentence = comment.find(r"Returns .*?[.](?= |$)")
        told["meaning"] = sentence[0] if sentence else comment.summary
        if any(one.get("nullability") == "ignored" for one in parameters):
            said = comment.need(
                r"(?:^|[.;:] )([^.;:]*?)[ ,](?:and )?for NULL\b", "what it is for NULL"
            )
            value = re.search(r'-?\b\d+\b|-\d+|""|\bNULL\b|\bDBSS_\w+', said[1])
            if value is None:
                raise UnclearError(f"{name} does not say what it is for NULL")
            told["for_null"] = self.value(value[0])
        if isinstance(node, c_ast.PtrDecl):
            told["nullable"] = self.nullable(comment)
            told["ownership"] = self.ownership(comment, parameters)
            if told["kind"] == "string":
                told["encoding"] = "bytes" if comment.find("Returns bytes") else "utf-8"
        return told

    def value(self, text: str) -> int | str | None:
        if text == "NULL":
            return None
        if text == '""':
            return ""
        return int(self.macros.get(text, text))

    def nullable(self, comment: Comment) -> bool:
        never = comment.find(r'never NULL|"" for NULL')
        if never is None:
            comment.need(r"NULL (?:wh\w+|past|until|for NULL)", "when it is NULL")
        return never is None

    def ownership(self, comment: Comment, parameters: list[dict[str, Any]]) -> dict[str, Any]:
        said = comment.need(
            r"Returns a (static) string|\byours\b[^.]*?end it with (dbss_\w+_free)\(\)"
            r"|(lives) as long as the|(Lent: )?valid (on this thread )?until ([^.;]*)",
            "who frees what it returns",
        )
        if said[1]:
            return {"kind": "static"}
        if said[2]:
            return {"kind": "owned", "free": said[2]}
        if said[5]:
            # The error of the thread, which belongs to no handle of the caller's.
            until = ["next_call_on_thread", *re.findall(r"(dbss_\w+)\(\)", said[6])]
            return {"kind": "borrowed", "from": None, "until": until}
        [lender] = [one for one in parameters if one["kind"] == "handle"]
        free = self.free(lender["of"])
        until = [free]
        if said[6]:
            until = re.findall(r"(dbss_\w+)\(\)", said[6])
            if free not in until:
                raise UnclearError(f"{comment.name} does not say that {free}() ends its result")
            if said[6].startswith("the next call of the"):
                until = ["next_call_on_handle", *until]
        return {"kind": "borrowed", "from": lender["name"], "until": until}

    def callback_groups(self, parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Which parameters are one callback: the function, its data and the end of that."""
        groups = []
        for i, one in enumerate(parameters):
            if one["kind"] != "callback" or one["of"] == "dbss_destroy_fn":
                continue
            following = [after["name"] for after in parameters[i + 1 : i + 3]]
            if following[:1] != ["user_data"]:
                raise UnclearError(f"`{one['name']}` has no user_data after it")
            destroy = "destroy" if following[1:] == ["destroy"] else None
            # Without a destroy function it is not kept.
            lifetime = "call" if destroy is None else "until_destroy"
            groups.append(
                {
                    "fn": one["name"],
                    "user_data": "user_data",
                    "destroy": destroy,
                    "lifetime": lifetime,
                }
            )
        return groups


def named_parameters(function: c_ast.FuncDecl) -> list[Any]:
    """The parameters; none for `(void)`."""
    return [one for one in function.args.params if one.name is not None]


def describe(header: Path = HEADER, last: Path = DESCRIPTION) -> dict[str, Any]:
    """The description of a header; what was in the last one keeps its `since`."""
    return Description(header, json.loads(last.read_text()) if last.exists() else {}).whole()


def text_of(description: dict[str, Any]) -> str:
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    try:
        DESCRIPTION.write_text(text_of(describe()))
    except UnclearError as unclear:
        sys.exit(f"{HEADER.name}: {unclear}")


if __name__ == "__main__":
    main()
