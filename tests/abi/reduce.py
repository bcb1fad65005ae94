"""Reduces the output of abidw to the exported functions and their types.

It reads standard input. It keeps only the public parts of a type: its name without the
Rust module, its public fields and, if it has some, its size. The result is small, and
depends neither on the machine nor on the location of a type in the sources.
"""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement


def reduced(corpus: Element) -> Element:
    known = {one.get("id"): one for one in corpus.iter() if one.get("id")}
    out = Element("abi-corpus", {k: v for k, v in corpus.items() if k != "path"})
    symbols = corpus.find("elf-function-symbols")
    assert symbols is not None
    out.append(symbols)
    unit = SubElement(
        out, "abi-instr", {"address-size": "64", "path": "dbss", "language": "LANG_C99"}
    )
    names: dict[str, str] = {}

    def use(identifier: str) -> str:
        """The new id of a type; writes the type at its first use."""
        if identifier in names:
            return names[identifier]
        one = known[identifier]
        tag = one.tag
        attributes = {k: v for k, v in one.items() if k not in ("id", "type-id", "filepath")}
        # The name of a callback contains its types.
        attributes["name"] = re.sub(r"\bdbss::\w+::", "", one.get("name", ""))
        if tag == "pointer-type-def":
            del attributes["name"]
            attributes["type-id"] = use(one.attrib["type-id"])
        elif tag == "enum-decl":
            # Rust represents the void of C as an enumeration.
            tag, attributes = ("type-decl", {"name": one.attrib["name"], "size-in-bits": "8"})
        elif tag not in ("class-decl", "type-decl"):
            sys.exit(f"unsupported kind of type in the ABI: {tag}")
        fields = [field for field in one.findall("data-member") if field.get("access") == "public"]
        if tag == "class-decl" and not fields:
            # The size of an opaque structure is not visible to users.
            attributes["size-in-bits"] = "0"
        types = [use(field[0].attrib["type-id"]) for field in fields]
        names[identifier] = attributes["id"] = f"type-id-{len(names) + 1}"
        written = SubElement(unit, tag, attributes)
        for field, kind in zip(fields, types, strict=True):
            kept = SubElement(written, "data-member", field.attrib)
            SubElement(kept, "var-decl", {**field[0].attrib, "type-id": kind})
        return names[identifier]

    exported = {symbol.get("name") for symbol in symbols}
    functions = {
        one.attrib["name"]: one
        for one in corpus.iter("function-decl")
        if one.get("elf-symbol-id") in exported
    }
    if missing := exported - set(functions):
        sys.exit(f"missing types of {', '.join(sorted(map(str, missing)))}")
    for _, one in sorted(functions.items()):
        parts = [
            (part.tag, {**part.attrib, "type-id": use(part.attrib["type-id"])}) for part in one
        ]
        written = SubElement(unit, "function-decl", one.attrib)
        for tag, attributes in parts:
            SubElement(written, tag, attributes)
    ElementTree.indent(out, " ")
    return out


if __name__ == "__main__":
    print(ElementTree.tostring(reduced(ElementTree.parse(sys.stdin).getroot()), encoding="unicode"))
