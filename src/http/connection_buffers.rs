//! The input and output buffers of a connection.

use ureq::unversioned::transport::Buffers;
use zeroize::Zeroize;

use crate::error::Error;
use crate::memory;
use crate::sys::Pages;

/// The size of the input buffer. It is large because small reads cost more time when
/// the server sends faster than the sink stores.
const INPUT_SIZE: usize = 512 * 1024;
/// The size of the output buffer. ureq needs space for a whole header line, and the
/// longest token makes a line of 96 KiB.
const OUTPUT_SIZE: usize = 128 * 1024;
/// The size of ureq's temporary buffer for the body of a request.
const BODY_SIZE: usize = 10 * 1024;

/// Buffers whose memory becomes resident only as it is used; ureq's own buffers are
/// filled with zeros. Dropping them wipes received secrets.
#[derive(Debug)]
pub(super) struct ConnectionBuffers {
    input: Pages,
    consumed: usize,
    filled: usize,
    /// The end of the part that was ever written to.
    touched_end: usize,
    output: Pages,
    consumed_last: bool,
}

impl ConnectionBuffers {
    pub(super) fn new() -> Result<ConnectionBuffers, Error> {
        Ok(ConnectionBuffers {
            input: memory::pages(INPUT_SIZE)?,
            consumed: 0,
            filled: 0,
            touched_end: 0,
            output: memory::pages(OUTPUT_SIZE)?,
            consumed_last: false,
        })
    }

    /// Frees space behind the unconsumed input.
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
    /// Returns the last `len` bytes of the input.
    pub(super) fn input_end(&mut self, len: usize) -> &mut [u8] {
        let start = self.filled.saturating_sub(len).max(self.consumed);
        &mut self.input[start..self.filled]
    }

    /// Removes `len` bytes from the end of the input.
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
        self.touched_end = self.touched_end.max(self.filled);
    }

    fn input_consume(&mut self, amount: usize) {
        self.consumed_last = amount > 0;
        self.consumed += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.move_to_front();
        let end = self.input.len().min(self.filled + BODY_SIZE);
        // A request's body may contain a password.
        self.touched_end = self.touched_end.max(end);
        (&mut self.input[self.filled..end], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.consumed_last && self.consumed < self.filled
    }
}

impl Drop for ConnectionBuffers {
    fn drop(&mut self) {
        // Responses may contain tokens and keys. Sent data is already wiped.
        self.input[..self.touched_end].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffers: &mut ConnectionBuffers, bytes: &[u8]) {
        buffers.input_append_buf()[..bytes.len()].copy_from_slice(bytes);
        buffers.input_appended(bytes.len());
    }

    #[test]
    fn input_keeps_its_order_for_any_consumption() {
        let mut buffers = ConnectionBuffers::new().expect("memory");
        let bytes: Vec<u8> = (0..INPUT_SIZE * 3).map(|i| (i % 251) as u8).collect();
        let mut out = Vec::new();
        let mut sent = 0;
        while out.len() < bytes.len() {
            let free = buffers.input_append_buf().len();
            let part = free.min(bytes.len() - sent).min(100_003);
            receive(&mut buffers, &bytes[sent..sent + part]);
            sent += part;
            let consumed = buffers.input().len().min(77_777);
            out.extend_from_slice(&buffers.input()[..consumed]);
            buffers.input_consume(consumed);
            assert_eq!(buffers.can_use_input(), !buffers.input().is_empty());
        }
        assert!(out == bytes);
    }

    #[test]
    fn input_without_progress_is_not_reused() {
        let mut buffers = ConnectionBuffers::new().expect("memory");
        receive(&mut buffers, b"HTTP/1.1 20");
        buffers.input_consume(0);
        assert!(!buffers.can_use_input());
        assert_eq!(buffers.input(), b"HTTP/1.1 20");
    }

    #[test]
    fn full_input_leaves_space_for_request_body() {
        let mut buffers = ConnectionBuffers::new().expect("memory");
        receive(&mut buffers, &[7; INPUT_SIZE - 100]);
        assert_eq!(buffers.tmp_and_output().0.len(), 100);
        buffers.input_consume(INPUT_SIZE - 100);
        assert_eq!(buffers.tmp_and_output().0.len(), BODY_SIZE);
        assert_eq!(buffers.tmp_and_output().1.len(), OUTPUT_SIZE);
    }
}
