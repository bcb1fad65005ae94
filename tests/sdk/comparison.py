"""The combinations, what each SDK does with them, and what differs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import trustme

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS = "libdbss"
PASSWORD = "changeit"
WORKERS = 2

# What two SDKs must agree on, and the words for it in the table.
COMPARED = {
    "key": "takes the key of {}",
    "security_token": "security token: {}",
    "project": "project: {}",
    "iam": "asks {}",
    "host": "asks {}",
    "domain_id": "sends the domain id: {}",
    "instances": "finds {}",
    "created": "creation: {}",
    "format": "the file begins with {}",
    "deleted": "deletion: {}",
    "left": "the report is gone: {}",
}
UNEXPLAINED = "Nobody has explained this."
DOMAIN = ".myhuaweicloud.com"
DOCUMENT = ROOT / "docs/sdk-comparison.md"

Combination = dict[str, Any]
Observed = dict[str, Any]


def load_combinations() -> list[Combination]:
    """The rows of combinations.json, with their parts and reasons put in."""
    document = json.loads((HERE / "combinations.json").read_text())
    rows = [_whole(row, document["parts"]) for row in document["combinations"]]
    for row in rows:
        row["differs"] = {
            sdk: document["reasons"][reason] for sdk, reason in row["differs"].items()
        }
    return rows


def _whole(row: Combination, parts: dict[str, Any]) -> Combination:
    whole: Combination = {
        "name": f"{row['group']}: {row['name']}",
        "group": row["group"],
        "short_name": row["name"],
        "metadata": None,
        "list": row.get("list", "oldest"),
        "implicit": row.get("implicit", False),
        "report": row.get("report", False),
        "differs": row.get("differs", {}),
    }
    for name in ("arguments", "environment", "files", "faults", "shapes"):
        whole[name] = {}
    for name in ("projects", "other_projects"):
        whole[name] = row.get(name, [])
    region = row.get("region", "cn-north-4")
    if region is not None:
        whole["arguments"]["region"] = region
    for one in [*(parts[name] for name in row["parts"]), row]:
        for name in ("arguments", "environment", "files", "faults", "shapes"):
            whole[name] |= one.get(name, {})
        whole["metadata"] = one.get("metadata", whole["metadata"])
    return whole


def hosts_of(combinations: Iterable[Combination]) -> list[str]:
    """All hosts that an SDK may ask for."""
    rows = list(combinations)
    regions = {row["arguments"].get("region", "cn-north-4") for row in rows} | {"cn-north-4"}
    names = {"iam.myhuaweicloud.com"} | set(re.findall(r"[a-z]+\.[a-z]+\.test", json.dumps(rows)))
    for region in regions:
        for service in ("dbss", "iam", "sts"):
            names |= {f"{service}.{region}.myhuaweicloud.{end}" for end in ("com", "eu")}
    return sorted(names)


def programs(build: Path) -> dict[str, dict[str, Any]]:
    """How each SDK is run; those that are not built are left out."""
    found: dict[str, dict[str, Any]] = {
        OURS: {"module": str(HERE / "python/ours.py")},
        "Python": {"module": str(HERE / "python/official.py")},
    }
    go, java = build / "sdk/official-go", build / "sdk/java"
    if go.is_file():
        found["Go"] = {"command": [str(go)]}
    if (java / "Official.class").is_file():
        # Java takes the home directory from the list of users.
        options = ["-Duser.home=$HOME", f"-Djavax.net.ssl.trustStorePassword={PASSWORD}"]
        fast = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        classes = ["-cp", f"{java}:{java}/*"]
        found["Java"] = {"command": ["java", *fast, *options, *classes, "Official"]}
    return found


def namespace() -> list[str]:
    """The command that runs another one in network and mount namespaces of its own."""
    return ["unshare", "--map-root-user", "--net", "--mount"]


def run(
    combinations: list[Combination], sdks: dict[str, dict[str, Any]], build: Path
) -> dict[str, dict[str, Observed]]:
    """What each SDK does: by combination, by SDK."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        directory = Path(name)
        settings = _settings(combinations, sdks, build, directory)
        workers = []
        for number in range(WORKERS):
            own = directory / str(number)
            own.mkdir()
            part = {"directory": str(own), "combinations": combinations[number::WORKERS]}
            process = subprocess.Popen(
                [*namespace(), sys.executable, str(HERE / "worker.py")],
                env={**os.environ, **_library(build)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            workers.append(running.enter_context(process))
            assert process.stdin is not None
            process.stdin.write(json.dumps({**settings, **part}) + "\n")
            process.stdin.close()
        result: dict[str, dict[str, Observed]] = {row["name"]: {} for row in combinations}
        for process in workers:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                result[found["combination"]][found["sdk"]] = found["observed"]
            if process.wait() != 0:
                raise RuntimeError("a worker failed; its messages are above")
        return result


def _library(build: Path) -> dict[str, str]:
    """The variables with which Python finds libdbss."""
    return {
        "DBSS_LIBRARY": str(build / "lib/libdbss.so.0"),
        "PYTHONPATH": f"{ROOT / 'bindings/python'}:{ROOT / 'tests/python'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _settings(
    combinations: list[Combination], sdks: dict[str, dict[str, Any]], build: Path, directory: Path
) -> dict[str, Any]:
    hosts = hosts_of(combinations)
    authority = trustme.CA()
    issued = authority.issue_cert(*hosts)
    files = {name: directory / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    issued.private_key_pem.write_to_path(str(files["key"]))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(files["certificate"]), append=True)
    if "Java" in sdks:
        store = directory / "trust.p12"
        command = f"keytool -importcert -noprompt -alias test -file {files['ca']}"
        command += f" -keystore {store} -storetype PKCS12 -storepass {PASSWORD}"
        subprocess.run(command.split(), check=True, capture_output=True)
        java = sdks["Java"]["command"]
        java.insert(1, f"-Djavax.net.ssl.trustStore={store}")
    kept = ("PATH", "LANG", "JAVA_HOME")
    return {
        "mock": str(build / "bin/dbss-mock"),
        "hosts": hosts,
        "sdks": sdks,
        "ca_file": str(files["ca"]),
        "certificate": str(files["certificate"]),
        "key": str(files["key"]),
        "environment": {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **_library(build),
            # Where the SDKs for Python and Go find the authority.
            "REQUESTS_CA_BUNDLE": str(files["ca"]),
            "SSL_CERT_FILE": str(files["ca"]),
            "SSL_CERT_DIR": str(directory),
        },
    }


def differences(ours: Observed, theirs: Observed) -> list[str]:
    """What an SDK does otherwise than libdbss. Two failures are the same."""
    if "error" in theirs:
        return [] if "error" in ours else [f"fails ({theirs['error']})"]
    if "error" in ours:
        return [shown(theirs)]
    return [
        words.format(_text(theirs[name]))
        for name, words in COMPARED.items()
        if name in theirs and ours[name] != theirs[name]
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(value) or "no IAM"
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return str(value).replace(DOMAIN, "")


def shown(observed: Observed) -> str:
    """What an SDK did, in a few words."""
    if "error" in observed:
        return f"fails ({observed['error']})"
    token = " with a security token" if observed["security_token"] else ""
    count = len(observed["instances"])
    instances = f"{count} instance" + "s" * (count != 1)
    hosts = ", ".join([*observed["iam"], observed["host"]]).replace(DOMAIN, "")
    return f"key of {observed['key']}{token}; {hosts}; {instances}"


def versions() -> dict[str, str]:
    """The versions of the official SDKs, by language."""
    go = re.search(r"sdk-go-v3 v(\S+)", (HERE / "go/go.mod").read_text())
    assert go is not None
    project = (HERE / "java/pom.xml").read_text()
    java = re.findall(r"huaweicloud-sdk-(\w+)</artifactId>\s*<version>([^<]+)", project)
    return {
        "Python": metadata.version("huaweicloudsdkdbss"),
        "Go": go[1],
        "Java": ", ".join(f"{name} {version}" for name, version in java),
    }


def document(combinations: list[Combination], observed: dict[str, dict[str, Observed]]) -> str:
    """The text of docs/sdk-comparison.md."""
    official = versions()
    notes: list[str] = []
    same = dict.fromkeys(official, 0)
    tables: list[str] = []
    group = None
    for row in combinations:
        if row["group"] != group:
            group = row["group"]
            heading = " | ".join(["combination", OURS, *official])
            tables += ["", f"## {group}", "", f"| {heading} |", "| --- " * 5 + "|"]
        ours = observed[row["name"]][OURS]
        cells = [row["short_name"], shown(ours)]
        for sdk in official:
            found = differences(ours, observed[row["name"]][sdk])
            same[sdk] += not found
            reason = row["differs"].get(sdk, UNEXPLAINED)
            if found and reason not in notes:
                notes.append(reason)
            cells.append(f"{'; '.join(found)} [{notes.index(reason) + 1}]" if found else "same")
        tables.append(f"| {' | '.join(cells)} |")
    counts = [
        f"| {sdk} | {version} | {same[sdk]} of {len(combinations)} |"
        for sdk, version in official.items()
    ]
    listed = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([INTRODUCTION, *counts, *tables, "", "## Notes", "", *listed, ""])


INTRODUCTION = """\
# libdbss and the official SDKs

Which credentials, project and hosts libdbss finds, and which the official SDKs of Huawei Cloud
find in the same place. `make sdk-comparison` writes this file: it runs libdbss and the SDKs,
unchanged, in a network namespace where all hosts lead to the mock service, and reads from the
requests what each of them did. `tests/sdk/combinations.json` has the environment, files and
arguments of each combination. `make sdk` fails if a difference has no reason there.

In the column of libdbss: whose access key signs the requests; the hosts that are asked, those of
IAM and STS first, without myhuaweicloud.com; how many instances it lists. Two that fail are the
same, whatever their errors. The SDKs find credentials through their chain for regional services,
such as `CredentialProviderChain.get_basic()`.

| SDK | version | same as libdbss |
| --- | --- | --- |"""


def main() -> None:
    """Writes and prints the document; with arguments, prints what the SDKs do with some rows."""
    build = Path(os.environ.get("DBSS_BUILD_DIR") or ROOT / "build").resolve()
    wanted = " ".join(sys.argv[1:])
    combinations = [row for row in load_combinations() if wanted in row["name"]]
    sdks = programs(build)
    observed = run(combinations, sdks, build)
    if not wanted:
        missing = versions().keys() - sdks.keys()
        assert not missing, f"not built: {missing}"
        text = document(combinations, observed)
        DOCUMENT.write_text(text)
        print(text)
        return
    for name, found in observed.items():
        print(f"== {name}")
        for sdk, one in found.items():
            print(f"   {sdk:8} {shown(one)}")
            for line in [*one["requests"], *one.get("message", "").splitlines()]:
                print(f"            {line}")


if __name__ == "__main__":
    main()
