"""What the generators of all languages share: the description of the ABI, and its output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = ROOT / "include/dbss-abi.json"

Item = dict[str, Any]


def base_type(c_type: str) -> str:
    """A C type without const and pointers."""
    return c_type.replace("const ", "").rstrip("* ")


def getters(description: Item, handle: str) -> list[Item]:
    """The functions that only return a value of a handle; one crossing can read all."""
    return [
        one
        for one in description["functions"]
        if not one["fallible"]
        and one["returns"]["kind"] in ("string", "integer", "status")
        and [(p["kind"], p.get("of")) for p in one["parameters"]] == [("handle", handle)]
    ]


def load_description() -> Item:
    """The description of the ABI."""
    description: Item = json.loads(DESCRIPTION.read_text())
    if description["format"] != 2:
        raise SystemExit(f"{DESCRIPTION}: format {description['format']} is not known here")
    return description


def filtered(command: list[str], text: str) -> str:
    """What a program, such as a formatter, makes of a text."""
    return subprocess.run(
        command, input=text, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def write(generate: Callable[[Item], dict[Path, str]]) -> None:
    """Writes the files of a generator."""
    for path, text in generate(load_description()).items():
        path.write_text(text)
