//! Passcodes of an MFA device, from the variable DBSS_IAM_PASSCODE or the terminal.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

use dbss::TokenRequest;
use zeroize::Zeroizing;

use crate::output::os_message;
use crate::system::{is_cancelled, variable_os};

/// Longer than any passcode.
const LIMIT: usize = 64;

/// Whether the variable was used. Its passcode is good for one login.
static USED: AtomicBool = AtomicBool::new(false);

/// Completes the request with a passcode.
pub fn provide(request: TokenRequest) {
    let of_variable = variable_os("DBSS_IAM_PASSCODE").map(|code| Zeroizing::new(code.into_vec()));
    let _ = match of_variable {
        Some(code) if !USED.swap(true, Ordering::Relaxed) => request.set(&*code, None),
        Some(_) => request.fail("the passcode in DBSS_IAM_PASSCODE was used already"),
        None => match ask(request.is_after_refusal()) {
            Ok(code) => request.set(&*code, None),
            Err(e) => request.fail(&format!(
                "cannot ask on the terminal for the passcode ({}); set DBSS_IAM_PASSCODE",
                os_message(&e)
            )),
        },
    };
}

/// Reads a line of the terminal. Not by std's buffers, which would keep a copy.
fn ask(after_refusal: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let again = if after_refusal {
        "IAM refused the login. "
    } else {
        ""
    };
    terminal.write_all(format!("{again}Passcode of the MFA device: ").as_bytes())?;
    let mut line = Zeroizing::new(Vec::with_capacity(LIMIT));
    let mut byte = Zeroizing::new([0]);
    while line.len() < LIMIT {
        match terminal.read(&mut *byte) {
            Ok(1) if byte[0] != b'\n' => line.push(byte[0]),
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted && !is_cancelled() => {}
            Err(e) => return Err(e),
        }
    }
    let end = line.trim_ascii_end().len();
    line.truncate(end);
    Ok(line)
}
