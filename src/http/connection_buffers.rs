//! What a connection receives into and sends from.

use ureq::unversioned::transport::Buffers;
use zeroize::Zeroize;

use crate::error::Error;
use crate::memory;
use crate::sys::Pages;

/// Where a server sends faster than a body is kept, each read of a small part lets
/// this side's processor do the server's work of sending the next.
const INPUT: usize = 512 * 1024;
/// ureq writes a header line into this buffer whole, and the longest token
/// makes a line of 96 KiB.
const OUTPUT: usize = 128 * 1024;
/// Where ureq reads the body of a request, before it goes to the output.
const BODY: usize = 10 * 1024;

/// Buffers of which only as much becomes resident as is used; ureq's own fill
/// themselves with zeros. Received secrets are wiped when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionBuffers {
    input: Pages,
    consumed: usize,
    filled: usize,
    /// The end of what was ever filled.
    touched: usize,
    output: Pages,
    progress: bool,
}

impl ConnectionBuffers {
    pub(super) fn new() -> Result<ConnectionBuffers, Error> {
        Ok(ConnectionBuffers {
            input: memory::pages(INPUT)?,
            consumed: 0,
            filled: 0,
            touched: 0,
            output: memory::pages(OUTPUT)?,
            progress: false,
        })
    }

    /// Makes place after what is not consumed yet.
    fn move_to_front(&mut self) {
        if self.consumed == self.filled {
            self.consumed = 0;
            self.filled = 0;
        } else if self.filled > self.input.len() / 2 {
            self.input.copy_within(self.consumed..self.filled, 0);
            self.filled -= self.consumed;
            self.consumed = 0;
        }
    }
}

impl ConnectionBuffers {
    /// The last `len` bytes of the input.
    pub(super) fn input_end(&mut self, len: usize) -> &mut [u8] {
        let start = self.filled.saturating_sub(len).max(self.consumed);
        &mut self.input[start..self.filled]
    }

    /// Removes so many bytes from the input's end.
    pub(super) fn shorten_input(&mut self, len: usize) {
        self.filled = self.filled.saturating_sub(len).max(self.consumed);
    }
}

impl Buffers for ConnectionBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.move_to_front();
        &mut self.input[self.filled..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
        self.touched = self.touched.max(self.filled);
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.move_to_front();
        let end = self.input.len().min(self.filled + BODY);
        // A request's body may hold a password.
        self.touched = self.touched.max(end);
        (&mut self.input[self.filled..end], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.progress && self.consumed < self.filled
    }
}

impl Drop for ConnectionBuffers {
    fn drop(&mut self) {
        // Tokens and keys come in responses, too. What is sent is wiped at once.
        self.input[..self.touched].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(room: &mut ConnectionBuffers, bytes: &[u8]) {
        room.input_append_buf()[..bytes.len()].copy_from_slice(bytes);
        room.input_appended(bytes.len());
    }

    #[test]
    fn what_is_received_comes_out_in_order_however_it_is_consumed() {
        let mut room = ConnectionBuffers::new().expect("memory");
        let bytes: Vec<u8> = (0..INPUT * 3).map(|i| (i % 251) as u8).collect();
        let mut out = Vec::new();
        let mut sent = 0;
        while out.len() < bytes.len() {
            let free = room.input_append_buf().len();
            let part = free.min(bytes.len() - sent).min(100_003);
            receive(&mut room, &bytes[sent..sent + part]);
            sent += part;
            let taken = room.input().len().min(77_777);
            out.extend_from_slice(&room.input()[..taken]);
            room.input_consume(taken);
            assert_eq!(room.can_use_input(), !room.input().is_empty());
        }
        assert!(out == bytes);
    }

    #[test]
    fn input_without_progress_is_not_used_again() {
        let mut room = ConnectionBuffers::new().expect("memory");
        receive(&mut room, b"HTTP/1.1 20");
        room.input_consume(0);
        assert!(!room.can_use_input());
        assert_eq!(room.input(), b"HTTP/1.1 20");
    }

    #[test]
    fn there_is_place_for_a_request_body_after_a_full_input() {
        let mut room = ConnectionBuffers::new().expect("memory");
        receive(&mut room, &[7; INPUT - 100]);
        assert_eq!(room.tmp_and_output().0.len(), 100);
        room.input_consume(INPUT - 100);
        assert_eq!(room.tmp_and_output().0.len(), BODY);
        assert_eq!(room.tmp_and_output().1.len(), OUTPUT);
    }
}
