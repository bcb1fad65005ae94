//! The mock service as a program: for demonstrations, and for tests in any language.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use dbss_mock::MockService;

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("dbss-mock: takes no arguments; it serves until its standard input closes");
        return ExitCode::from(2);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dbss-mock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mock = MockService::start()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", mock.ready())?;
    out.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
