//! The mock service as a program: for demonstrations, and for tests in any language.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use dbss_mock::MockService;
use lexopt::prelude::*;

const HELP: &str = "\
Usage: dbss-mock [OPTION]

A mock service for the Database Security Service on loopback addresses. It prints one
line of JSON when it is ready (addresses, CA file, token, keys, ids, reports) and
serves until its standard input closes.

Options:
  -h, --help     Print this help
  -V, --version  Print the version
";

fn main() -> ExitCode {
    match options() {
        Ok(None) => {}
        Ok(Some(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("dbss-mock: {error}");
            return ExitCode::from(2);
        }
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dbss-mock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Option<&'static str>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    match parser.next()? {
        None => Ok(None),
        Some(Short('h') | Long("help")) => Ok(Some(HELP)),
        Some(Short('V') | Long("version")) => {
            Ok(Some(concat!("dbss-mock ", env!("CARGO_PKG_VERSION"), "\n")))
        }
        Some(other) => Err(other.unexpected()),
    }
}

fn serve() -> io::Result<()> {
    let mock = MockService::start()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", mock.to_json())?;
    out.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
