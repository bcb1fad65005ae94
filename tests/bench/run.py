"""The benchmark: compares libdbss with other clients (its peers).

    run.py BUILD [ROUNDS]

In each round every peer does every kind of work, one right after the other. So other load
on the machine affects all of them equally. A reported figure is the median of all rounds.
A reported ratio is the median of the ratios within each round, with the minimum and the
maximum. CPU seconds are more reliable than wall time.

Writes BUILD/bench/bench.json, bench.md and bench.svg.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BULK, STREAM, SMALL = 1 << 30, 256 << 20, 16 << 10
BULK_ID, STREAM_ID, SMALL_ID, WARM_UP_ID = (
    "benchmark-bulk-report",
    "benchmark-stream-report",
    "benchmark-small-report",
    "benchmark-warm-up",
)
SMALL_COUNT, SDK_COUNT = 10_000, 200
# Work on a single thread runs on its own processor, the last one.
PROCESSORS = os.sched_getaffinity(0)
OWN_PROCESSOR = {max(PROCESSORS)}

COMPILED = Path(tempfile.mkdtemp(prefix="dbss-bench-"))

Figures = dict[str, float]


@dataclass
class Work:
    """A kind of work, and the peers that can do it."""

    name: str
    # Figures are divided by `units` and reported in this unit.
    unit: str
    units: float
    peers: dict[str, Callable[[], Figures]]
    rounds: list[dict[str, Figures]] = field(default_factory=list)

    def median(self, peer: str, figure: str) -> float:
        return statistics.median(one[peer][figure] for one in self.rounds) / self.units

    def ratio(self, figure: str, peer: str, to: str) -> tuple[float, float, float]:
        ratios = sorted(one[peer][figure] / one[to][figure] for one in self.rounds)
        return statistics.median(ratios), ratios[0], ratios[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    plain: int
    tls: int
    ca_file: Path

    def at(self, tls: bool) -> list[str]:
        return [
            "127.0.0.1",
            str(self.tls if tls else self.plain),
            str(self.ca_file) if tls else "-",
        ]


@dataclass
class Servers:
    """Three instances of nginx.

    A response from another processor costs an interrupt. In a virtual machine that takes
    about 20 µs, more than any peer needs for a small report. The scheduler decides whether
    it happens. So the processors of the servers are fixed.
    """

    # On the processor of the client: for sequential small reports.
    together: Server
    # On the first processor: for large transfers, where interrupts do not matter.
    apart: Server
    # Two workers on any processor: for many threads.
    free: Server


@contextmanager
def servers() -> Iterator[Servers]:
    """Serves the reports, over plain http and TLS 1.3."""
    with (
        tempfile.TemporaryDirectory(prefix="dbss-bench-") as name,
        ExitStack() as stack,
    ):
        place = Path(name)
        place.chmod(0o755)
        reports = place / "reports"
        reports.mkdir()
        for report, size in (
            (BULK_ID, BULK),
            (STREAM_ID, STREAM),
            (SMALL_ID, SMALL),
            (WARM_UP_ID, SMALL),
        ):
            with (reports / report).open("wb") as file:
                file.write(b"%PDF-1.7\n")
                file.truncate(size)
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(place / "ca.pem")
        certificate = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
        certificate.private_key_and_cert_chain_pem.write_to_path(place / "server.pem")

        def start(title: str, workers: int, processors: set[int]) -> Server:
            return stack.enter_context(nginx(place, title, workers, processors))

        yield Servers(
            start("together", 1, OWN_PROCESSOR),
            start("apart", 1, {min(PROCESSORS)}),
            start("free", 2, PROCESSORS),
        )


@contextmanager
def nginx(
    place: Path, title: str, workers: int, processors: set[int]
) -> Iterator[Server]:
    server = Server(free_port(), free_port(), place / "ca.pem")
    config = (HERE / "nginx.conf.in").read_text()
    settings = {
        "PLAIN": server.plain,
        "TLS": server.tls,
        "WORKERS": workers,
        "PLACE": place,
    }
    for key, value in settings.items():
        config = config.replace(f"@{key}@", str(value))
    if os.geteuid() == 0:
        config = "user root;\n" + config
    own = place / title
    own.mkdir()
    (own / "nginx.conf").write_text(config)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        sys.exit("nginx is missing")
    # Child processes inherit the affinity.
    os.sched_setaffinity(0, processors)
    running = subprocess.Popen([program, "-p", own, "-c", own / "nginx.conf"])
    try:
        for port in (server.plain, server.tls):
            until = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > until or running.poll() is not None:
                        sys.exit("nginx does not start")
        yield server
    finally:
        running.terminate()
        running.wait()


def environment() -> dict[str, str]:
    """An environment in which Python caches compiled modules, as after an installation."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "NO_PROXY": "127.0.0.1", "PYTHONPYCACHEPREFIX": str(COMPILED)}


def output(command: list[str], own_processor: bool) -> tuple[str, float]:
    """The output of a program and its CPU time; exits if the program fails."""
    # Child processes inherit the affinity.
    os.sched_setaffinity(0, OWN_PROCESSOR if own_processor else PROCESSORS)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return printed, used.ru_utime + used.ru_stime


class Bench:
    def __init__(self, build: Path, servers: Servers, rounds: int) -> None:
        self.programs = build / "bench"
        self.servers = servers
        self.rounds = rounds
        # Files are saved in memory, so that no disk affects the times.
        memory = Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * BULK
        self.files = Path(
            tempfile.mkdtemp(prefix="dbss-bench-", dir=memory if roomy else None)
        )
        self.work: list[Work] = []

    def program(
        self, peer: str, sink: str, tls: bool, report: str, count: int, threads: int = 0
    ) -> Figures:
        """Runs a peer with `threads` threads on all processors, or with one on its own."""
        servers = self.servers
        if threads:
            server = servers.free
        else:
            server = servers.apart if report == BULK_ID else servers.together
        path = self.files / "report"
        path.unlink(missing_ok=True)
        command = [str(self.programs / f"bench-{peer}"), sink, *server.at(tls)]
        command += [report, str(count), str(threads or 1), str(path)]
        printed, _ = output(command, own_processor=not threads)
        figures: Figures = json.loads(printed)
        expected = count * (BULK if report == BULK_ID else SMALL)
        if figures["bytes"] != expected:
            sys.exit(f"{peer}: {figures['bytes']} bytes of {expected}")
        return figures

    def cold(self, peer: str, tls: bool) -> Figures:
        command = [
            str(self.programs / f"bench-{peer}"),
            "callback",
            *self.servers.apart.at(tls),
        ]
        started = time.monotonic()
        printed, cpu = output([*command, SMALL_ID, "0", "1", "-"], own_processor=True)
        told = json.loads(printed)
        return {"wall_s": told["first_byte_at"] - started, "cpu_s": cpu}

    def language(
        self, program: list[str], peer: str, sink: str, report: str, count: int
    ) -> Figures:
        """Runs a peer in another language; figures are those of one download."""
        servers = self.servers
        server = servers.together if report == SMALL_ID else servers.apart
        endpoint = f"http://127.0.0.1:{server.plain}"
        command = [*program, peer, sink, endpoint, report, str(count)]
        figures: Figures = json.loads(output(command, own_processor=True)[0])
        if figures["bytes"] != count * (SMALL if report == SMALL_ID else STREAM):
            sys.exit(f"{' '.join(command)}: {figures['bytes']} bytes")
        for key in ("wall_s", "cpu_s"):
            figures[key] /= count
        return figures

    def importing(self, module: str) -> Figures:
        """The cost of an import, without the start of Python itself."""

        def run(code: str) -> Figures:
            started = time.monotonic()
            _, cpu = output([sys.executable, "-c", code], own_processor=True)
            return {"wall_s": time.monotonic() - started, "cpu_s": cpu}

        alone, more = run("pass"), run(f"import {module}")
        return {key: max(more[key] - alone[key], 1e-6) for key in more}

    def plan(self) -> None:
        def bulk(peer: str, sink: str, tls: bool) -> Callable[[], Figures]:
            return lambda: self.program(peer, sink, tls, BULK_ID, 1)

        def small(peer: str, tls: bool, threads: int) -> Callable[[], Figures]:
            return lambda: self.program(
                peer, "memory", tls, SMALL_ID, SMALL_COUNT, threads
            )

        def peers(
            limit: bool, of: Callable[[str], Callable[[], Figures]]
        ) -> dict[str, Any]:
            names = {"recv": "recv"} if limit else {}
            names |= {"libcurl": "curl", "libdbss": "dbss"}
            return {name: of(program) for name, program in names.items()}

        for sink in ("callback", "file", "memory"):
            for tls in (False, True):
                self.work.append(
                    Work(
                        f"1 GiB to {sink}, {'TLS 1.3' if tls else 'plain'}",
                        "s",
                        1,
                        peers(
                            sink == "callback" and not tls,
                            lambda p, s=sink, t=tls: bulk(p, s, t),
                        ),
                    )
                )
        for threads in (0, 1, 4, 16, 64):
            for tls in (False, True):
                many = f", {threads} threads" if threads else ""
                many = many.removesuffix("s") if threads == 1 else many
                self.work.append(
                    Work(
                        f"16 KiB reports, {'TLS 1.3' if tls else 'plain'}{many}",
                        "µs",
                        SMALL_COUNT / 1e6,
                        peers(not tls, lambda p, t=tls, n=threads: small(p, t, n)),
                    )
                )
        for tls in (False, True):
            name = f"first byte of a new process, {'TLS 1.3' if tls else 'plain'}"
            cold = peers(not tls, lambda p, t=tls: lambda: self.cold(p, t))
            self.work.append(Work(name, "ms", 1e-3, cold))
        # The C++ header beside plain C, and the usual client of both.
        for name, unit, units, work in (
            (
                "16 KiB reports in C++",
                "µs",
                SMALL_COUNT / 1e6,
                ("memory", SMALL_ID, SMALL_COUNT),
            ),
            ("1 GiB to callback in C++", "s", 1, ("callback", BULK_ID, 1)),
        ):
            sink, report, count = work
            beside = {
                peer: lambda p=program, s=sink, r=report, c=count: self.program(
                    p, s, False, r, c
                )
                for peer, program in {
                    "dbss.h": "dbss",
                    "libcurl": "curl",
                    "libdbss": "cpp",
                }.items()
            }
            self.work.append(Work(name, unit, units, beside))
        python = [sys.executable, str(HERE / "peers.py")]
        self.plan_language("Python", python, "requests", "httpx")
        self.plan_language("Go", [str(self.programs / "bench-go")], "net/http")
        # More, as Java counts CPU time in hundredths of a second.
        java = [str(self.programs / "bench-java")]
        self.plan_language("Java", java, "java.net.http", count=15 * SDK_COUNT)
        # The official SDK for Node.js has no call of DBSS.
        node = ["node", str(HERE / "node/main.mjs")]
        self.plan_language("Node.js", node, "http", "undici", sdk=False)
        imports = {
            "official SDK": lambda: self.importing("huaweicloudsdkdbss.v1"),
            "libdbss": lambda: self.importing("dbss"),
        }
        self.work.append(Work("import in Python", "ms", 1e-3, imports))

    def plan_language(
        self,
        language: str,
        program: list[str],
        *clients: str,
        count: int = 5 * SDK_COUNT,
        sdk: bool = True,
    ) -> None:
        """libdbss beside the official SDK and the usual HTTP clients of a language."""
        arguments = {
            **({"official SDK": "sdk"} if sdk else {}),
            **{client: client for client in clients},
            "libdbss": "libdbss",
        }
        for name, unit, units, work in (
            ("16 KiB reports", "µs", 1e-6, ("memory", SMALL_ID, count)),
            ("256 MiB streamed", "s", 1, ("stream", STREAM_ID, 1)),
        ):
            peers = {
                peer: lambda p=argument, w=work: self.language(program, p, *w)
                for peer, argument in arguments.items()
            }
            self.work.append(Work(f"{name} in {language}", unit, units, peers))

    def run(self) -> None:
        # A warm-up round, which loads files and libraries into memory.
        for number in range(-1, self.rounds):
            for work in self.work:
                figures = {peer: measure() for peer, measure in work.peers.items()}
                if number >= 0:
                    work.rounds.append(figures)
            print(f"round {number + 1} of {self.rounds}", file=sys.stderr)
        shutil.rmtree(self.files)
        shutil.rmtree(COMPILED)

    def find(self, name: str) -> Work:
        return next(work for work in self.work if work.name == name)


def loaded_size(library: Path) -> dict[str, int]:
    """The sizes of the library and its dependencies, without the C library and the loader."""
    printed, _ = output(["ldd", str(library)], own_processor=False)
    everywhere = re.compile(r"/(ld-linux|libc\.|libm\.|libpthread|libdl|librt)")
    paths = {
        Path(p).resolve()
        for p in re.findall(r"=> (/\S+)", printed)
        if not everywhere.search(p)
    }
    # Use names, because paths differ between machines.
    return {p.name: p.stat().st_size for p in {library.resolve(), *paths}}


def sizes(build: Path) -> dict[str, dict[str, int]]:
    printed, _ = output(["ldd", str(build / "bench/bench-curl")], own_processor=False)
    found = re.search(r"libcurl\S* => (/\S+)", printed)
    if found is None:
        sys.exit("bench-curl does not load libcurl")
    return {
        "libdbss": loaded_size(build / "lib/libdbss.so"),
        "libcurl": loaded_size(Path(found[1])),
    }


@dataclass
class Target:
    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def targets(bench: Bench) -> list[Target]:
    def ratio(name: str, figure: str, to: str) -> float:
        return bench.find(name).ratio(figure, "libdbss", to)[0]

    def resident(name: str) -> float:
        work = bench.find(name)
        return work.median("libdbss", "peak_kib") - work.median("libdbss", "idle_kib")

    found = [
        Target(
            f"CPU relative to libcurl, 1 GiB to {sink}, {how}",
            ratio(f"1 GiB to {sink}, {how}", "cpu_s", "libcurl"),
            1.0,
        )
        for sink in ("callback", "file")
        for how in ("plain", "TLS 1.3")
    ]
    found.append(
        Target(
            "wall time relative to recv, 1 GiB to callback, plain",
            ratio("1 GiB to callback, plain", "wall_s", "recv"),
            1.25,
        )
    )
    found += [
        Target(
            f"CPU relative to libcurl, 16 KiB reports, {how}",
            ratio(f"16 KiB reports, {how}", "cpu_s", "libcurl"),
            0.8,
        )
        for how in ("plain", "TLS 1.3")
    ]
    for name, limit in (("16 KiB reports in Python", 0.1), ("import in Python", 0.2)):
        found.append(
            Target(
                f"CPU relative to the official SDK, {name}",
                ratio(name, "cpu_s", "official SDK"),
                limit,
            )
        )
    # The official SDK for Go is a thin layer on net/http, and costs little more.
    for language, client in (("Python", "requests"), ("Go", "net/http")):
        for work, limit in (("16 KiB reports", 0.9), ("256 MiB streamed", 1.0)):
            found.append(
                Target(
                    f"CPU relative to {client}, {work} in {language}",
                    ratio(f"{work} in {language}", "cpu_s", client),
                    limit,
                )
            )
    for name, to, limit in (
        ("16 KiB reports in Java", "official SDK", 0.25),
        ("16 KiB reports in Java", "java.net.http", 0.9),
        ("256 MiB streamed in Java", "java.net.http", 1.0),
    ):
        what = f"CPU relative to {to}, {name}"
        found.append(Target(what, ratio(name, "cpu_s", to), limit))
    for peer in ("http", "undici"):
        for work, limit in (("16 KiB reports", 0.9), ("256 MiB streamed", 1.0)):
            name = f"{work} in Node.js"
            found.append(
                Target(
                    f"CPU relative to {peer}, {name}",
                    ratio(name, "cpu_s", peer),
                    limit,
                )
            )
    for sink in ("callback", "file"):
        for how in ("plain", "TLS 1.3"):
            name = f"1 GiB to {sink}, {how}"
            found.append(
                Target(
                    f"MiB resident above an idle process, {name}",
                    resident(name) / 1024,
                    2.0,
                )
            )
    for how in ("plain", "TLS 1.3"):
        name = f"1 GiB to memory, {how}"
        found.append(
            Target(
                f"resident above an idle process, relative to the size, {name}",
                resident(name) * 1024 / BULK,
                1.05,
            )
        )
    for how in ("plain", "TLS 1.3"):
        one, many = (
            bench.find(f"16 KiB reports, {how}{n}")
            for n in (", 1 thread", ", 16 threads")
        )
        gain = one.median("libdbss", "wall_s") / many.median("libdbss", "wall_s")
        found.append(
            Target(
                f"throughput of 16 threads relative to one, 16 KiB reports, {how}",
                gain,
                1.8,
                at_least=True,
            )
        )
    return found


def table(bench: Bench, size: dict[str, dict[str, int]], goals: list[Target]) -> str:
    rows = [
        "| work | CPU of libdbss | baseline | CPU ratio | wall time ratio |",
        "| --- | --: | --: | --: | --: |",
    ]
    for work in bench.work:
        for peer in work.peers:
            if peer == "libdbss":
                continue
            own, other = (work.median(name, "cpu_s") for name in ("libdbss", peer))
            cells = [
                work.name,
                f"{own:.3g} {work.unit}",
                f"{peer} {other:.3g} {work.unit}",
            ]
            for figure in ("cpu_s", "wall_s"):
                middle, least, most = work.ratio(figure, "libdbss", peer)
                cells.append(f"**{middle:.2f}** ({least:.2f} to {most:.2f})")
            rows.append(f"| {' | '.join(cells)} |")
    rows += [
        "",
        "| resident memory above the idle process, MiB | libdbss | libcurl |",
        "| --- | --: | --: |",
    ]
    for work in bench.work:
        if "peak_kib" in work.rounds[0]["libdbss"] and "libcurl" in work.peers:
            cells = [
                f"{(work.median(peer, 'peak_kib') - work.median(peer, 'idle_kib')) * work.units / 1024:.2f}"
                for peer in ("libdbss", "libcurl")
            ]
            rows.append(f"| {work.name} | {' | '.join(cells)} |")
    rows += [
        "",
        "| library with its dependencies except libc | files | bytes |",
        "| --- | --: | --: |",
    ]
    rows += [
        f"| {name} | {len(files)} | {sum(files.values()):,} |"
        for name, files in size.items()
    ]
    rows += ["", "| target | measured | limit | |", "| --- | --: | --: | --- |"]
    for goal in goals:
        sign = "at least" if goal.at_least else "at most"
        rows.append(
            f"| {goal.what} | {goal.value:.2f} | {sign} {goal.limit:g} | {'met' if goal.met else 'NOT MET'} |"
        )
    return "\n".join(rows) + "\n"


def chart(bench: Bench, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    # Makes the output reproducible.
    mpl.rcParams["svg.hashsalt"] = "libdbss"
    from matplotlib import pyplot

    works = [work for work in bench.work if "libdbss" in work.peers]
    names, ratios, spreads = [], [], []
    for work in reversed(works):
        others = [peer for peer in work.peers if peer not in {"libdbss", "recv"}]
        peer = "libcurl" if "libcurl" in others else others[0]
        middle, least, most = work.ratio("cpu_s", "libdbss", peer)
        names.append(
            work.name if peer == "libcurl" else f"{work.name} (relative to {peer})"
        )
        ratios.append(middle)
        spreads.append((middle - least, most - middle))
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(names) + 1.2))
    colours = ["#2f7d4f" if ratio <= 1 else "#b4552d" for ratio in ratios]
    axes.barh(
        names,
        ratios,
        xerr=list(zip(*spreads, strict=True)),
        color=colours,
        ecolor="#555555",
        height=0.65,
    )
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_xlabel(
        "CPU time of libdbss relative to libcurl for the same work (less is better)"
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def machine() -> dict[str, str | int]:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    curl, _ = output(["curl-config", "--version"], own_processor=False)
    return {
        "processor": found[1] if found else platform.processor(),
        "processors": os.cpu_count() or 0,
        "system": system[1] if system else platform.system(),
        "kernel": platform.release().split("-")[0],
        "libcurl": curl.split()[-1],
        "python": platform.python_version(),
    }


def main() -> None:
    build = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with servers() as found:
        bench = Bench(build, found, rounds)
        bench.plan()
        bench.run()
    size = sizes(build)
    goals = targets(bench)
    place = build / "bench"
    text = table(bench, size, goals)
    (place / "bench.md").write_text(text)
    chart(bench, place / "bench.svg")
    data = {
        "machine": machine(),
        "rounds": rounds,
        "work": [{"name": w.name, "rounds": w.rounds} for w in bench.work],
        "sizes": size,
        "targets": [
            {"what": g.what, "value": g.value, "limit": g.limit, "met": g.met}
            for g in goals
        ],
    }
    (place / "bench.json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
    print(f"Results: {place}/bench.json, bench.md and bench.svg")


if __name__ == "__main__":
    main()
