"""The platforms that libdbss is built for."""

from __future__ import annotations

from typing import NamedTuple

# The oldest C libraries that it runs with.
GLIBC = "2.17"
MUSL = "1.2"


class Target(NamedTuple):
    processor: str
    libc: str
    """gnu or musl"""

    @property
    def rust(self) -> str:
        return f"{self.processor}-unknown-linux-{self.libc}"

    @property
    def name(self) -> str:
        """Its part of an archive's name."""
        return f"linux-{self.processor}-{'glibc' if self.libc == 'gnu' else 'musl'}"

    @property
    def go(self) -> str:
        """The end of its library's name in the Go module."""
        processor = {"x86_64": "amd64", "aarch64": "arm64"}[self.processor]
        return f"linux_{processor}_{'glibc' if self.libc == 'gnu' else 'musl'}"

    @property
    def npm(self) -> str:
        """The name of its npm package, in the scope @dbss."""
        processor = {"x86_64": "x64", "aarch64": "arm64"}[self.processor]
        return f"linux-{processor}-{'glibc' if self.libc == 'gnu' else 'musl'}"

    @property
    def zig(self) -> str:
        """What Zig's C compiler calls it."""
        return f"{self.processor}-linux-{f'gnu.{GLIBC}' if self.libc == 'gnu' else 'musl'}"

    @property
    def wheel(self) -> str:
        """The platform of its wheel; of glibc 2.17 also by the name that pip before 20.3 knows,
        as in RHEL 8 and Ubuntu 20.04."""
        kind, version = ("manylinux", GLIBC) if self.libc == "gnu" else ("musllinux", MUSL)
        platform = f"{kind}_{version.replace('.', '_')}_{self.processor}"
        return f"{platform}.manylinux2014_{self.processor}" if self.libc == "gnu" else platform


PROCESSORS = ("x86_64", "aarch64")
TARGETS = [Target(processor, libc) for processor in PROCESSORS for libc in ("gnu", "musl")]
RUST_TARGETS = [target.rust for target in TARGETS]


def targets_named(names: list[str]) -> list[Target]:
    """The targets with these names, or all of them if there is none."""
    known = {target.name: target for target in TARGETS}
    if unknown := set(names) - set(known):
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(TARGETS)
