"""The declarations of the package match the header, down to each type and value."""

from __future__ import annotations

import builtins
import ctypes
import importlib.util
import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import dbss
import pytest
from dbss import _abi as abi
from dbss import errors, ffi
from pycparser import c_ast

import c_declarations

VALUE_TYPES = {
    "uint8_t": ctypes.c_uint8,
    "int32_t": ctypes.c_int32,
    "dbss_status": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "int": ctypes.c_int,
    "void": None,
}
# Both are pointers: in the package, `user_data` is a Python object.
EQUIVALENT = {ctypes.py_object: ctypes.c_void_p}


def package_type(name: str) -> Any:
    """The type of the package for a type of the header."""
    if name in VALUE_TYPES:
        return VALUE_TYPES[name]
    camel = "".join(word.capitalize() for word in name.removeprefix("dbss_").split("_"))
    # The attribute with a handle's own name is the pointer type.
    return getattr(abi, f"_{camel}", None) or getattr(abi, camel)


def load_generator(root: Path, language: str) -> ModuleType:
    path = root / f"bindings/generate/{language}.py"
    spec = importlib.util.spec_from_file_location(f"generate_{language}", path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    return generator


@pytest.mark.parametrize("language", ["cpp", "go", "node", "python"])
def test_generated_files_are_up_to_date(
    root: Path,
    language: str,
    monkeypatch: pytest.MonkeyPatch,
    need_tool: Callable[[str], str],
) -> None:
    if language == "go":
        need_tool("gofmt")
    monkeypatch.syspath_prepend(root / "bindings/generate")
    description = json.loads((root / "include/dbss-abi.json").read_text())
    for path, text in load_generator(root, language).generate(description).items():
        assert path.read_text() == text, f"{path.name} is stale: run make abi"


@pytest.fixture(scope="module")
def header(root: Path) -> Path:
    return root / "include/dbss.h"


@pytest.fixture(scope="module")
def declarations(header: Path) -> list[Any]:
    return c_declarations.declarations(header)


@pytest.fixture(scope="module")
def functions(declarations: list[Any]) -> dict[str, c_ast.FuncDecl]:
    return {one.name: one.type for one in declarations if isinstance(one.type, c_ast.FuncDecl)}


def is_const(node: Any) -> bool:
    return "const" in node.quals


def expected_ctype(node: Any) -> Any:
    """The expected ctypes type for a C type."""
    if isinstance(node, c_ast.PtrDecl):
        target = node.type
        if isinstance(target, c_ast.PtrDecl):
            return ctypes.POINTER(expected_ctype(target))
        if isinstance(target.type, c_ast.IdentifierType) and target.type.names == ["void"]:
            return ctypes.c_void_p
        if isinstance(target.type, c_ast.IdentifierType) and target.type.names == ["char"]:
            # c_char_p is only right for strings that are not written to.
            return ctypes.c_char_p if is_const(target) else ctypes.POINTER(ctypes.c_char)
        return ctypes.POINTER(expected_ctype(target))
    if isinstance(node.type, c_ast.Struct):
        return package_type(node.type.name)
    [name] = node.type.names
    return package_type(name)


def parameters(function: c_ast.FuncDecl) -> list[Any]:
    return [one.type for one in c_declarations.named_parameters(function)]


def returns_status(function: c_ast.FuncDecl) -> bool:
    kind = function.type.type
    return isinstance(kind, c_ast.IdentifierType) and kind.names == ["dbss_status"]


def test_package_declares_exactly_header_functions(
    functions: dict[str, c_ast.FuncDecl],
) -> None:
    assert set(abi.library.functions) == set(functions)
    assert len(functions) > 100


def test_functions_have_header_types(functions: dict[str, c_ast.FuncDecl]) -> None:
    different = {}
    for name, function in functions.items():
        one = abi.library.functions[name]
        actual = (one.restype, [EQUIVALENT.get(kind, kind) for kind in one.argtypes])
        expected = (
            expected_ctype(function.type),
            [expected_ctype(one) for one in parameters(function)],
        )
        if actual != expected:
            different[name] = (actual, expected)
    assert different == {}


def test_callbacks_have_header_types(declarations: list[Any]) -> None:
    pointers = {
        one.name: one.type.type
        for one in declarations
        if isinstance(one, c_ast.Typedef)
        and isinstance(one.type, c_ast.PtrDecl)
        and isinstance(one.type.type, c_ast.FuncDecl)
    }
    assert len(pointers) >= 6
    for name, function in pointers.items():
        callback = package_type(name)
        actual = (callback._restype_, [EQUIVALENT.get(one, one) for one in callback._argtypes_])
        expected = (
            expected_ctype(function.type),
            [expected_ctype(one) for one in parameters(function)],
        )
        assert actual == expected, name


def test_constants_match_header(header: Path) -> None:
    found = re.findall(
        r"^#define DBSS_((?:LOG|FILE|FORMAT|OPTIONS|ID)_\w+) (\d+)$",
        header.read_text(),
        re.MULTILINE,
    )
    assert {name: getattr(abi, name) for name, _ in found} == {
        name: int(value) for name, value in found
    }
    assert len(found) == 14


def test_functions_are_attributes_with_their_names() -> None:
    for name, function in abi.library.functions.items():
        assert getattr(abi, name.removeprefix("dbss_")) is function


def test_fallible_functions_and_only_those_are_checked(
    functions: dict[str, c_ast.FuncDecl],
) -> None:
    checked = {
        name
        for name, one in abi.library.functions.items()
        if one.errcheck == abi.library._check_status
    }
    failing = {
        name
        for name, one in functions.items()
        # These return a status as a value, not as the outcome of a call.
        if returns_status(one) and not re.search(r"_(status|group|value)$", name)
    }
    assert checked == failing


def test_buffer_fields_match_header(declarations: list[Any]) -> None:
    with_inside = {
        one.name: one.type.type
        for one in declarations
        if isinstance(one, c_ast.Typedef)
        and isinstance(one.type, c_ast.TypeDecl)
        and isinstance(one.type.type, c_ast.Struct)
        and one.type.type.decls
    }
    assert set(with_inside) == {"dbss_buffer"}
    structure = with_inside["dbss_buffer"]
    fields = [(one.name, expected_ctype(one.type)) for one in structure.decls]
    assert list(abi.Buffer._fields_) == fields


def test_buffer_layout_matches_compiler(
    header: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <dbss.h>\n#include <stdio.h>\n"
        'int main(void) { printf("%zu %zu %zu\\n", sizeof(dbss_buffer),'
        " offsetof(dbss_buffer, data), offsetof(dbss_buffer, len)); return 0; }\n"
    )
    program = tmp_path / "layout"
    cc = environment.get("CC", "cc")
    subprocess.run([cc, f"-I{header.parent}", source, "-o", program], check=True, timeout=60)
    out = subprocess.run([program], check=True, capture_output=True, text=True, timeout=60).stdout
    layout = [ctypes.sizeof(abi.Buffer), abi.Buffer.data.offset, abi.Buffer.len.offset]
    assert [int(one) for one in out.split()] == layout


def header_statuses(header: Path) -> dict[str, int]:
    found = re.findall(r"^#define (DBSS_ERR_\w+) (\d+)$", header.read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_statuses_of_header_have_exactly_one_class_each(header: Path) -> None:
    statuses = header_statuses(header)
    assert {one.status_name: status for status, one in errors.STATUSES.items()} == statuses
    assert all(one.status == status for status, one in errors.STATUSES.items())
    assert len(statuses) > 30


def test_exception_classes_have_status_and_are_public() -> None:
    classes = {
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.Error) and one is not errors.Error
    }
    assert classes == set(errors.STATUSES.values())
    for one in {*classes, errors.Error}:
        assert getattr(dbss, one.__name__) is one
        assert one.__name__ in dbss.__all__


@pytest.mark.parametrize("status", sorted(errors.STATUSES))
def test_exception_class_has_group_and_name_of_its_status(status: int) -> None:
    one = errors.STATUSES[status]
    assert issubclass(one, errors.GROUPS[abi.status_group(status)])
    assert abi.status_name(status) == one.status_name.encode()
    words = one.__name__.removesuffix("Error")
    spelled = re.sub(r"(?<!^)(?=[A-Z])", "_", words).upper()
    assert one.status_name == f"DBSS_ERR_{spelled}"
    assert one.__module__ == "dbss"
    # A class with the name of a builtin exception derives from that exception.
    builtin = getattr(builtins, one.__name__, Exception)
    assert issubclass(one, builtin)


def test_versions_agree_in_all_files(root: Path, header: Path) -> None:
    # A Rust test compares the version of the pkg-config file with Cargo.toml.
    text = header.read_text()
    macros = dict(re.findall(r"^#define DBSS_VERSION_(\w+) (\d+)$", text, re.MULTILINE))
    version = ".".join(macros[part] for part in ("MAJOR", "MINOR", "PATCH"))
    [package] = re.findall(r'^version = "(.*)"$', (root / "Cargo.toml").read_text(), re.MULTILINE)
    description = json.loads((root / "include/dbss-abi.json").read_text())
    assert f'#define DBSS_VERSION "{version}"\n' in text
    assert {package, description["version"], dbss.__version__, dbss.version()} == {version}
    major, minor, patch = (int(part) for part in version.split("."))
    number = major * 10000 + minor * 100 + patch
    assert abi.version_number() == description["version_number"] == number


def test_handle_of_wrong_type_is_rejected() -> None:
    with ffi.temporary_handle(abi.Config, abi.config_new, abi.config_free) as config:
        with pytest.raises(ctypes.ArgumentError):
            abi.context_set_token(config, b"token")
        with pytest.raises(ctypes.ArgumentError):
            abi.error_free(config)
        with pytest.raises(ctypes.ArgumentError):
            abi.config_new(ffi.byref(abi.Context()))


def test_gil_is_released_only_by_blocking_functions(root: Path) -> None:
    """A function that releases a callback must not wait for the GIL."""
    description = json.loads((root / "include/dbss-abi.json").read_text())
    blocking = {one["name"] for one in description["functions"] if one["blocks"] != "never"}
    # Freeing a large buffer may take long.
    blocking.add("dbss_buffer_free")
    holding_gil = {
        name
        for name, one in abi.library.functions.items()
        if one._flags_ & ctypes._FUNCFLAG_PYTHONAPI
    }
    assert holding_gil == set(abi.library.functions) - blocking


def test_ctypes_is_imported_only_by_low_level_modules() -> None:
    package = Path(ffi.__file__).parent
    users = {
        one.name
        for one in package.glob("*.py")
        if re.search(r"^\s*(import|from) ctypes\b", one.read_text(), re.MULTILINE)
    }
    assert users == {"_abi.py", "ffi.py", "library.py"}
