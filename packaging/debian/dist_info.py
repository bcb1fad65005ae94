"""Writes what tells Python that the package dbss is installed, and which version.

Usage: dist_info.py PYPROJECT VERSION FOLDER, where FOLDER has Python's packages.
"""

import sys
from pathlib import Path

import tomllib

pyproject, version, folder = sys.argv[1:]
project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
info = Path(folder, f"{project['name']}-{version}.dist-info")
info.mkdir(parents=True)
fields = [
    ("Metadata-Version", "2.1"),
    ("Name", project["name"]),
    ("Version", version),
    ("Summary", project["description"]),
    ("License", project["license"]),
    *(("Classifier", classifier) for classifier in project["classifiers"]),
    ("Requires-Python", project["requires-python"]),
]
(info / "METADATA").write_text("".join(f"{name}: {value}\n" for name, value in fields))
# With this, and no RECORD, pip leaves the files to dpkg.
(info / "INSTALLER").write_text("debian\n")
(info / "top_level.txt").write_text("dbss\n")
