"""include/dbss.cdef.h, for C parsers without a preprocessor."""

import subprocess

import pytest
from pycparser import CParser, c_ast, c_generator

import c_declarations

LUA = """
local ffi = require('ffi')
ffi.cdef(io.open(arg[1]):read('*a'))
local dbss = ffi.load(arg[2])
local config, operation = ffi.new('dbss_config *[1]'), ffi.new('dbss_operation *[1]')
assert(dbss.dbss_config_new(config) == dbss.DBSS_OK)
assert(dbss.dbss_operation_new(operation) == dbss.DBSS_OK)
assert(dbss.dbss_config_set(config[0], 'nonsense', '1') == dbss.DBSS_ERR_UNKNOWN_KEY)
print(ffi.string(dbss.dbss_version()))
print(ffi.string(dbss.dbss_status_name(dbss.DBSS_ERR_CLOSED)))
print(ffi.string(dbss.dbss_error_parameter(dbss.dbss_last_error())))
dbss.dbss_operation_free(operation[0])
dbss.dbss_config_free(config[0])
"""

PHP = """<?php
$dbss = FFI::cdef(file_get_contents($argv[1]), $argv[2]);
$config = $dbss->new('dbss_config *');
$operation = $dbss->new('dbss_operation *');
if ($dbss->dbss_config_new(FFI::addr($config)) !== $dbss->DBSS_OK) exit(2);
if ($dbss->dbss_operation_new(FFI::addr($operation)) !== $dbss->DBSS_OK) exit(3);
if ($dbss->dbss_config_set($config, 'nonsense', '1') !== $dbss->DBSS_ERR_UNKNOWN_KEY) exit(4);
echo $dbss->dbss_version(), "\\n";
echo $dbss->dbss_status_name($dbss->DBSS_ERR_CLOSED), "\\n";
echo $dbss->dbss_error_parameter($dbss->dbss_last_error()), "\\n";
$dbss->dbss_operation_free($operation);
$dbss->dbss_config_free($config);
"""


@pytest.fixture(scope="module")
def cdef(root):
    return root / "include/dbss.cdef.h"


@pytest.mark.parametrize(
    ("command", "script"), [("luajit", LUA), ("php", PHP)], ids=["luajit", "php"]
)
def test_interpreter_loads_cdef_unmodified(cdef, library, tmp_path, command, script, need_tool):
    path = tmp_path / "script"
    path.write_text(script)
    done = subprocess.run(
        [need_tool(command), path, cdef, library], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, status, parameter = done.stdout.splitlines()
    assert version.count(".") == 2
    assert (status, parameter) == ("DBSS_ERR_CLOSED", "key")


def test_cdef_declares_what_the_header_declares(root, cdef):
    text = cdef.read_text()
    assert "#" not in text
    # The parser supports neither comments nor the types of the system headers.
    types = "\n".join(c_declarations.STUBS.values()).replace("#define NULL ((void *)0)", "")
    parsed = CParser().parse(types + text.partition("*/")[2]).ext
    generator = c_generator.CGenerator()

    def declarations(all_of):
        return {
            generator.visit(one)
            for one in all_of
            if isinstance(one, c_ast.Decl | c_ast.Typedef)
            and one.name
            and one.name.startswith("dbss_")
        }

    header = c_declarations.declarations(root / "include/dbss.h")
    assert declarations(parsed) == declarations(header)
