//! Links what unwinds the stack into the program, so that it needs nothing but libc.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const UNWINDER: &str = "libgcc_eh.a";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if !is_glibc || !is_installed(UNWINDER) {
        return;
    }
    // std asks for libgcc_s. The linker finds this script of that name first, which
    // names the static library with the same functions.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("libgcc_s.so"), format!("INPUT(-l:{UNWINDER})\n")).expect("OUT_DIR is writable");
    println!("cargo::rustc-link-search=native={}", out.display());
}

/// Whether the compiler that links finds a library.
fn is_installed(archive: &str) -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let found = Command::new(linker)
        .arg(format!("-print-file-name={archive}"))
        .output();
    // It prints the bare name of one that it does not find.
    found.is_ok_and(|found| {
        let path = String::from_utf8_lossy(&found.stdout);
        Path::new(path.trim()).is_absolute()
    })
}
