"""Finds source files that import each other in a circle: Rust and Python.

A file imports another if it uses an item that the other one defines; a re-export leads
to the file of the definition. In Python, imports for types only (TYPE_CHECKING) and
imports inside functions do not count.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
Name = tuple[str, ...]
Edges = dict[Path, set[Path]]


class Crate:
    """The modules of a Rust crate, and where each name that they use is defined."""

    def __init__(self, root: Path) -> None:
        self.files: dict[Name, Path] = {}
        self.texts: dict[Name, str] = {}
        self.exports: dict[Name, dict[str, Name]] = {}
        self._load((), root / "lib.rs", root)
        for module, text in self.texts.items():
            self.exports[module] = {
                path[-1] if alias is None else alias: full
                for is_public, path, alias in uses(text)
                if is_public and (full := self._absolute(module, path))
            }

    def _load(self, module: Name, file: Path, folder: Path) -> None:
        # Unit tests stand at the end of a file, and do not count.
        text = re.split(r"#\[cfg\(test\)\]\s*mod ", file.read_text())[0]
        text = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"#\[cfg\((?:fuzzing|doctest)\)\][^;]*;", "", text)
        self.files[module], self.texts[module] = file, text
        for name in re.findall(
            r"^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);", text, re.MULTILINE
        ):
            for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if child.exists():
                    self._load((*module, name), child, folder / name)

    def _absolute(self, module: Name, path: Name) -> Name | None:
        if path[0] == "crate":
            return path[1:]
        if path[0] == "self":
            return module + path[1:]
        ups = next((i for i, part in enumerate(path) if part != "super"), len(path))
        if ups:
            return module[: len(module) - ups] + path[ups:]
        return module + path if (*module, path[0]) in self.files else None

    def _definition(
        self, name: Name, followed: frozenset[Name] = frozenset()
    ) -> Path | None:
        for end in range(len(name), -1, -1):
            module, rest = name[:end], name[end:]
            if module not in self.files:
                continue
            if (
                rest
                and rest[0] in self.exports[module]
                and (*module, rest[0]) not in followed
            ):
                target = self.exports[module][rest[0]] + rest[1:]
                return self._definition(target, followed | {(*module, rest[0])})
            return self.files[module]
        return None

    def edges(self) -> Edges:
        found: Edges = {}
        for module, text in self.texts.items():
            paths = [path for is_public, path, _ in uses(text) if not is_public]
            body = re.sub(r"\buse [^;]+;", "", text)
            paths += [
                tuple(p.split("::"))
                for p in re.findall(r"\b(?:crate|super)(?:::\w+)+", body)
            ]
            for path in paths:
                full = self._absolute(module, path)
                file = None if full is None else self._definition(full)
                if file and file != self.files[module]:
                    found.setdefault(self.files[module], set()).add(file)
        return found


def uses(text: str) -> Iterator[tuple[bool, Name, str | None]]:
    """Whether it is a re-export, the path, and its other name, of each `use`."""
    for public, tree in re.findall(
        r"^\s*(pub(?:\([^)]*\))? )?use ([\w\s:{},*]+);", text, re.MULTILINE
    ):
        for path in expand(re.sub(r"\s+", " ", tree).strip()):
            path, _, alias = path.partition(" as ")
            parts = tuple(
                part for part in path.split("::") if part != "self" or path == "self"
            )
            yield bool(public), parts, alias or None


def expand(tree: str) -> Iterator[str]:
    start, brace, rest = tree.partition("{")
    if not brace:
        yield tree
        return
    depth, part = 0, ""
    for character in rest[: rest.rindex("}")] + ",":
        if character == "," and depth == 0:
            if part.strip():
                yield from expand(start + part.strip())
            part = ""
        else:
            depth += (character == "{") - (character == "}")
            part += character


def python_edges(package: Path) -> Edges:
    found: Edges = {}
    for file in package.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if not isinstance(node, ast.ImportFrom) or node.level != 1:
                continue
            names = (
                [node.module] if node.module else [alias.name for alias in node.names]
            )
            for name in names:
                other = package / f"{name}.py"
                if other.exists():
                    found.setdefault(file, set()).add(other)
    return found


def circle(edges: Edges) -> list[Path]:
    """The files of one circle; none if there is no circle."""
    done: set[Path] = set()

    def visit(file: Path, way: list[Path]) -> list[Path]:
        if file in way:
            return [*way[way.index(file) :], file]
        if file not in done:
            for other in sorted(edges.get(file, ())):
                if found := visit(other, [*way, file]):
                    return found
            done.add(file)
        return []

    for file in sorted(edges):
        if found := visit(file, []):
            return found
    return []


def main() -> int:
    graphs = [Crate(ROOT / "src").edges(), Crate(ROOT / "src/ffi").edges()]
    graphs.append(python_edges(ROOT / "bindings/python/dbss"))
    circles = [found for edges in graphs if (found := circle(edges))]
    for found in circles:
        names = " -> ".join(str(file.relative_to(ROOT)) for file in found)
        print(f"imports in a circle: {names}", file=sys.stderr)
    return 1 if circles else 0


if __name__ == "__main__":
    sys.exit(main())
