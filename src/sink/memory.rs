//! A body in memory, up to a limit, growing with what arrives.

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;

const FIRST_CAPACITY: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    limit: u64,
    announced: Option<u64>,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Memory {
        Memory {
            bytes: Vec::new(),
            limit,
            announced: None,
        }
    }

    pub(crate) fn into_bytes(self) -> Box<[u8]> {
        self.bytes.into_boxed_slice()
    }

    fn too_large(&self, size: u64, exactly: bool) -> Error {
        Error::new(
            Status::LimitExceeded,
            format!(
                "the report has {}{size} bytes, and max_memory_bytes is {}; raise the limit",
                if exactly { "" } else { "at least " },
                self.limit
            ),
        )
    }

    /// Room for `needed` bytes in all: twice the present, but neither more
    /// than the limit nor, as long as it holds true, than what was announced.
    fn grow(&mut self, needed: usize) -> Result<(), Error> {
        let enough = |bound: u64| usize::try_from(bound).unwrap_or(usize::MAX).max(needed);
        let target = self
            .bytes
            .capacity()
            .saturating_mul(2)
            .clamp(FIRST_CAPACITY, usize::MAX)
            .max(needed)
            .min(enough(self.limit))
            .min(self.announced.map_or(usize::MAX, enough));
        let held = self.bytes.len();
        self.bytes.try_reserve_exact(target - held).map_err(|_| {
            // What is held goes first: the error itself needs memory.
            self.bytes = Vec::new();
            Error::new(
                Status::OutOfMemory,
                format!("no memory for the report: {held} bytes had arrived, and {target} could not be had"),
            )
        })
    }
}

impl Sink for Memory {
    fn begin(&mut self, info: Info<'_>) -> Result<(), Error> {
        self.announced = info.announced;
        match self.announced {
            Some(size) if size > self.limit => Err(self.too_large(size, true)),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8], _: &Call) -> Result<(), Error> {
        self.take(bytes)
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.bytes.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Memory {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let needed = self.bytes.len() + bytes.len();
        if needed as u64 > self.limit {
            return Err(self.too_large(needed as u64, false));
        }
        if needed > self.bytes.capacity() {
            self.grow(needed)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(announced: u64) -> Info<'static> {
        Info {
            announced: Some(announced),
            filename: "",
        }
    }

    #[test]
    fn capacity_follows_what_arrives_not_what_was_announced() {
        let mut sink = Memory::new(u64::MAX);
        sink.begin(info(1 << 62)).expect("within the limit");
        sink.take(&[1; 1000]).expect("room");
        assert!(sink.bytes.capacity() <= FIRST_CAPACITY);
        assert_eq!(sink.into_bytes().len(), 1000);
    }

    #[test]
    fn a_true_announcement_leaves_nothing_to_trim() {
        let mut sink = Memory::new(1 << 30);
        sink.begin(info(300_000)).expect("within the limit");
        for _ in 0..300 {
            sink.take(&[7; 1000]).expect("room");
        }
        assert_eq!(sink.bytes.capacity(), 300_000);
    }

    #[test]
    fn more_than_announced_still_fits_and_more_than_the_limit_does_not() {
        let mut sink = Memory::new(100);
        sink.begin(info(10)).expect("within the limit");
        sink.take(&[0; 100]).expect("up to the limit");
        assert_eq!(
            sink.take(&[0]).map_err(|e| e.status()),
            Err(Status::LimitExceeded)
        );
        assert_eq!(
            Memory::new(100).begin(info(101)).map_err(|e| e.status()),
            Err(Status::LimitExceeded)
        );
    }
}
