"""Generates the raw layer and the tables of the Java package from include/dbss-abi.json.

    python bindings/generate/java.py

It writes, under bindings/java/src/main, the interface of all functions of the ABI, its
implementations by FFM (Java 22 and newer) and by JNA (older), what java_tables.py makes of the
tables, and a method with many parameters. `make abi` runs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common import ROOT, Item, getters, write
from java_tables import PACKAGE, camel, doc, file_of, tables

SOURCE = ROOT / "bindings/java/src/main"
INTERNAL = f"{PACKAGE}.internal"
# The type in Java of a value in C. Pointers are long: they need no object in Java, and both
# FFM and JNA pass them as they pass a 64-bit integer.
TYPES = {
    "int": "int",
    "int32_t": "int",
    "uint32_t": "int",
    "dbss_status": "int",
    "int64_t": "long",
    "size_t": "long",
    "void": "void",
}
# The types of texts that functions return, and the methods of Memory that read them.
TEXTS = {"utf-8": ("String", "string"), "bytes": ("byte[]", "bytes")}
LAYOUTS = {"int": "JAVA_INT", "long": "JAVA_LONG"}
# Taken right after another call. Linked beforehand, so that a virtual thread cannot leave
# its carrier in between.
LINKED_FIRST = ("dbss_error_take()", "dbss_error_status(0)")


def java_type(c_type: str) -> str:
    return TYPES.get(c_type, "long")


def parameters(function: Item) -> str:
    return ", ".join(f"{java_type(p['c_type'])} {p['name']}" for p in function["parameters"])


def arguments(function: Item) -> str:
    return ", ".join(p["name"] for p in function["parameters"])


def result(function: Item) -> str:
    return java_type(function["returns"]["c_type"])


def is_text(function: Item) -> bool:
    return bool(function["returns"]["kind"] == "string")


def descriptor(function: Item) -> str:
    types = [LAYOUTS[java_type(p["c_type"])] for p in function["parameters"]]
    if result(function) == "void":
        return f"FunctionDescriptor.ofVoid({', '.join(types)})"
    return f"FunctionDescriptor.of({', '.join([LAYOUTS[result(function)], *types])})"


def interface_file(description: Item) -> Iterator[str]:
    yield "/**"
    yield " * The functions of libdbss. A pointer is a long, and 0 is NULL. Text is UTF-8 and has a"
    yield " * NUL at its end, in memory of {@link Memory}."
    yield " */"
    yield "public interface Abi extends Memory {"
    for one in description["constants"]:
        yield f"  /** {doc(one['summary'])} */"
        yield f"  int {one['name']} = {one['value']};"
        yield ""
    yield "  /** What libdbss calls; nothing may be thrown. */"
    yield "  interface Callbacks {"
    for one in description["callbacks"]:
        yield f"    /** {doc(one['summary'])} */"
        yield f"    {result(one)} {one['name']}({parameters(one)});"
        yield ""
    yield "  }"
    yield ""
    yield "  /** Makes the functions for C that call these. Called once, before the others. */"
    yield "  void install(Callbacks callbacks);"
    for one in description["callbacks"]:
        yield ""
        yield f"  /** The address of {one['name']}. */"
        yield f"  long {one['name']}();"
    for one in description["functions"]:
        yield ""
        yield f"  /** {doc(one['summary'])} */"
        yield f"  {result(one)} {one['name']}({parameters(one)});"
    yield "}"


def jna_file(description: Item) -> Iterator[str]:
    yield "import com.sun.jna.Callback;"
    yield "import com.sun.jna.CallbackReference;"
    yield "import com.sun.jna.Native;"
    yield "import com.sun.jna.NativeLibrary;"
    yield "import com.sun.jna.Pointer;"
    yield ""
    yield "/** The functions of libdbss, by JNA. */"
    yield "public final class JnaAbi extends JnaMemory implements Abi {"
    for one in description["callbacks"]:
        yield f"  private Callback {one['name']};"
    yield ""
    yield "  /** Loads the library. */"
    yield "  public JnaAbi(String path) {"
    yield "    Native.register(JnaAbi.class, NativeLibrary.getInstance(path));"
    yield "  }"
    yield ""
    yield "  private static long address(Callback callback) {"
    yield "    return Pointer.nativeValue(CallbackReference.getFunctionPointer(callback));"
    yield "  }"
    for one in description["callbacks"]:
        yield ""
        yield f"  /** {one['name']}. */"
        yield f"  public interface {camel(one['name'], first=True)} extends Callback {{"
        yield f"    /** {doc(one['summary'])} */"
        yield f"    {result(one)} invoke({parameters(one)});"
        yield "  }"
    yield ""
    yield "  @Override"
    yield "  public void install(Callbacks callbacks) {"
    for one in description["callbacks"]:
        kind = camel(one["name"], first=True)
        yield f"    {one['name']} = ({kind}) callbacks::{one['name']};"
    yield "  }"
    for one in description["callbacks"]:
        yield ""
        yield "  @Override"
        yield f"  public long {one['name']}() {{"
        yield f"    return address({one['name']});"
        yield "  }"
    for one in description["functions"]:
        yield ""
        yield "  @Override"
        yield f"  public native {result(one)} {one['name']}({parameters(one)});"
    yield "}"


def ffm_file(description: Item) -> Iterator[str]:
    yield "import static java.lang.foreign.ValueLayout.JAVA_INT;"
    yield "import static java.lang.foreign.ValueLayout.JAVA_LONG;"
    yield ""
    yield "import java.lang.foreign.FunctionDescriptor;"
    yield "import java.lang.invoke.MethodHandle;"
    yield ""
    yield "/** The functions of libdbss, by the foreign function interface of Java. */"
    yield "public final class FfmAbi extends FfmMemory implements Abi {"
    yield "  private Callbacks callbacks;"
    for one in description["callbacks"]:
        yield f"  private long {one['name']};"
    yield ""
    yield "  /** Loads the library. */"
    yield "  public FfmAbi(String path) {"
    yield "    open(path);"
    yield from (f"    {call};" for call in LINKED_FIRST)
    yield "  }"
    yield ""
    yield "  @Override"
    yield "  public void install(Callbacks callbacks) {"
    yield "    this.callbacks = callbacks;"
    yield "  }"
    for one in description["callbacks"]:
        name = one["name"]
        yield ""
        yield "  @Override"
        yield f"  public synchronized long {name}() {{"
        yield f"    if ({name} == 0) {{"
        yield f'      {name} = stub(Callbacks.class, callbacks, "{name}", {descriptor(one)});'
        yield "    }"
        yield f"    return {name};"
        yield "  }"
    for one in description["functions"]:
        name, returned = one["name"], result(one)
        call = f"{name}.H.invokeExact({arguments(one)})"
        yield ""
        # A class of its own for each, so that only what is called is linked.
        yield f"  private static final class {name} {{"
        yield f'    static final MethodHandle H = link("{name}", {descriptor(one)});'
        yield "  }"
        yield ""
        yield "  @Override"
        yield f"  public {returned} {name}({parameters(one)}) {{"
        yield "    try {"
        yield f"      {call};" if returned == "void" else f"      return ({returned}) {call};"
        yield "    } catch (Throwable e) {"
        yield "      throw unexpected(e);"
        yield "    }"
        yield "  }"
    yield "}"


def fields_file(description: Item) -> Iterator[str]:
    """Classes that read all values of a handle."""
    yield "import java.io.Serializable;"
    yield ""
    yield "/** The values of handles; a string that is NULL is null. */"
    yield "public final class Fields {"
    yield "  private Fields() {}"
    for one in description["handles"]:
        found = getters(description, one["name"])
        if not found:
            continue
        name = camel(one["name"], first=True)
        yield ""
        yield f"  /** Those of {one['name']}. */"
        yield f"  public static final class {name} implements Serializable {{"
        yield "    private static final long serialVersionUID = 1;"
        yield ""
        for getter in found:
            kind = TEXTS[getter["returns"]["encoding"]][0] if is_text(getter) else result(getter)
            field = camel(getter["name"].removeprefix(f"{one['name']}_"))
            yield f"    /** {doc(getter['summary'])} */"
            yield f"    public final {kind} {field};"
            yield ""
        yield "    /** Reads them. */"
        yield f"    public {name}(Abi abi, long handle) {{"
        for getter in found:
            call = f"abi.{getter['name']}(handle)"
            if is_text(getter):
                call = f"abi.{TEXTS[getter['returns']['encoding']][1]}({call})"
            yield f"      {camel(getter['name'].removeprefix(one['name'] + '_'))} = {call};"
        yield "    }"
        yield "  }"
    yield "}"


def stack_file() -> Iterator[str]:
    names = [f"p{i}" for i in range(40)]
    yield "/** The stack of a thread. */"
    yield "public final class Stack {"
    yield "  private Stack() {}"
    yield ""
    yield "  /** Throws a StackOverflowError if fewer than about 80 KiB are left. */"
    yield "  public static void probe() {"
    yield f"    use(110, {', '.join('0' for _ in names)});"
    yield "  }"
    yield ""
    yield "  // So many parameters make frames of about 700 bytes; the compiler cannot reduce them."
    yield f"  private static long use(int left, {', '.join(f'long {one}' for one in names)}) {{"
    yield f"    return left == 0 ? 0 : use(left - 1, {', '.join(names)}) + {names[-1]};"
    yield "  }"
    yield "}"


def generate(description: Item) -> dict[Path, str]:
    """The contents of the files by path."""
    internal = INTERNAL.replace(".", "/")
    made = {
        SOURCE / "java" / internal / "Abi.java": interface_file(description),
        SOURCE / "java" / internal / "JnaAbi.java": jna_file(description),
        SOURCE / "java22" / internal / "FfmAbi.java": ffm_file(description),
        SOURCE / "java" / internal / "Fields.java": fields_file(description),
        SOURCE / "java" / internal / "Stack.java": stack_file(),
    }
    files = {path: file_of(INTERNAL, lines) for path, lines in made.items()}
    for name, lines in tables(description).items():
        files[SOURCE / "java" / PACKAGE.replace(".", "/") / f"{name}.java"] = file_of(
            PACKAGE, lines
        )
    return files


if __name__ == "__main__":
    write(generate)
