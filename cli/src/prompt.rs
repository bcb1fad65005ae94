//! Questions to the user, and passcodes of an MFA device.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

use dbss::TokenRequest;
use zeroize::Zeroizing;

use crate::output::printable;
use crate::system::{is_cancelled, variable_os};

/// Longer than any answer that counts.
const LIMIT: usize = 100;

/// Asks the user, and returns the line of the reply. None where there is no terminal.
pub fn ask(question: &str) -> Option<Zeroizing<Vec<u8>>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let _ = io::stderr().write_all(printable(question).as_bytes());
    // Not by std's buffers, which would keep a copy.
    let mut terminal = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let mut reply = Zeroizing::new(Vec::with_capacity(LIMIT));
    let mut byte = Zeroizing::new([0]);
    // Not a whole line at once, which a signal could not end.
    while reply.len() < LIMIT {
        match terminal.read(&mut *byte) {
            Ok(1) if byte[0] != b'\n' => reply.push(byte[0]),
            Ok(1) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted && !is_cancelled() => {}
            _ => {
                // What comes next is not a part of the question.
                let _ = io::stderr().write_all(b"\n");
                break;
            }
        }
    }
    let end = reply.trim_ascii_end().len();
    reply.truncate(end);
    Some(reply)
}

/// Whether the variable was used. Its passcode is good for one login.
static USED: AtomicBool = AtomicBool::new(false);

/// Completes the request with a passcode, from the variable or the terminal.
pub fn provide_passcode(request: TokenRequest) {
    let again = if request.is_after_refusal() {
        "IAM refused the login. "
    } else {
        ""
    };
    let question = format!("{again}Passcode of the MFA device: ");
    let of_variable = variable_os("DBSS_IAM_PASSCODE").map(|code| Zeroizing::new(code.into_vec()));
    let _ = match of_variable {
        Some(code) if !USED.swap(true, Ordering::Relaxed) => request.set(&*code, None),
        Some(_) => request.fail("the passcode in DBSS_IAM_PASSCODE was used already"),
        None => match ask(&question) {
            Some(code) => request.set(&*code, None),
            None => request.fail("there is no terminal to ask for it on; set DBSS_IAM_PASSCODE"),
        },
    };
}
