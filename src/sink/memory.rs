//! Stores a body in memory, up to a limit. It grows as bytes arrive.

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;
use crate::message::name;

const FIRST_CAPACITY: usize = 64 * 1024;
const MAX_SPARE: usize = 128 * 1024;

#[derive(Debug)]
pub(crate) struct Memory {
    /// The bytes that arrived, and zeros behind them for the next ones.
    bytes: Vec<u8>,
    len: usize,
    limit: u64,
    announced: Option<u64>,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Memory {
        Memory {
            bytes: Vec::new(),
            len: 0,
            limit,
            announced: None,
        }
    }

    pub(crate) fn into_bytes(mut self) -> Box<[u8]> {
        self.bytes.truncate(self.len);
        self.bytes.into_boxed_slice()
    }

    fn too_large(&self, size: u64, exactly: bool) -> Error {
        Error::new(
            Status::LimitExceeded,
            format!(
                "the report has {}{size} bytes, and {} is {}; raise the limit",
                if exactly { "" } else { "at least " },
                name("max_memory_bytes"),
                self.limit
            ),
        )
    }

    /// Grows the capacity to at least `needed` bytes: twice the present one, but not more
    /// than the limit, nor than the announced length, unless more has arrived.
    fn grow(&mut self, needed: usize) -> Result<(), Error> {
        let bounded = |bound: u64| usize::try_from(bound).unwrap_or(usize::MAX).max(needed);
        let target = self
            .bytes
            .capacity()
            .saturating_mul(2)
            .clamp(FIRST_CAPACITY, usize::MAX)
            .max(needed)
            .min(bounded(self.limit))
            .min(self.announced.map_or(usize::MAX, bounded));
        let len = self.len;
        self.bytes.truncate(len);
        self.bytes.try_reserve_exact(target - len).map_err(|_| {
            // Free the bytes first: the error itself needs memory.
            self.bytes = Vec::new();
            Error::new(
                Status::OutOfMemory,
                format!(
                    "no memory for the report: {len} bytes had arrived, and {target} could not be reserved"
                ),
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
        self.append(bytes)
    }

    fn spare_capacity(&mut self) -> Result<Option<&mut [u8]>, Error> {
        let len = self.len;
        // Any further bytes are more than expected.
        if len as u64 >= self.limit.min(self.announced.unwrap_or(u64::MAX)) {
            return Ok(None);
        }
        if len == self.bytes.len() {
            if len == self.bytes.capacity() {
                self.grow(len + 1)?;
            }
            // Only a part: memory that is not needed yet must not become resident.
            let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
            let end = self.bytes.capacity().min(len + MAX_SPARE).min(limit);
            self.bytes.resize(end, 0);
        }
        Ok(Some(&mut self.bytes[len..]))
    }

    fn advance(&mut self, bytes: usize) {
        self.len += bytes;
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.len = 0;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Memory {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let needed = self.len + bytes.len();
        if needed as u64 > self.limit {
            return Err(self.too_large(needed as u64, false));
        }
        if needed > self.bytes.capacity() {
            self.grow(needed)?;
        }
        self.bytes.truncate(self.len);
        self.bytes.extend_from_slice(bytes);
        self.len = needed;
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
    fn capacity_follows_received_bytes_not_announced_length() {
        let mut sink = Memory::new(u64::MAX);
        sink.begin(info(1 << 62)).expect("within the limit");
        sink.append(&[1; 1000]).expect("room");
        assert!(sink.bytes.capacity() <= FIRST_CAPACITY);
        assert_eq!(sink.into_bytes().len(), 1000);
    }

    #[test]
    fn correct_announced_length_leaves_nothing_to_trim() {
        let mut sink = Memory::new(1 << 30);
        sink.begin(info(300_000)).expect("within the limit");
        for _ in 0..300 {
            sink.append(&[7; 1000]).expect("room");
        }
        assert_eq!(sink.bytes.capacity(), 300_000);
    }

    fn fill(sink: &mut Memory, bytes: &[u8]) -> usize {
        let spare = sink.spare_capacity().expect("memory").expect("room");
        let n = spare.len().min(bytes.len());
        spare[..n].copy_from_slice(&bytes[..n]);
        sink.advance(n);
        n
    }

    #[test]
    fn spare_capacity_and_write_give_the_same_bytes() {
        let bytes: Vec<u8> = (0..400_000).map(|i| (i % 251) as u8).collect();
        for announced in [None, Some(bytes.len() as u64), Some(10), Some(1 << 40)] {
            let mut sink = Memory::new(1 << 50);
            sink.announced = announced;
            let mut written = 0;
            while written < bytes.len() {
                written += match sink.spare_capacity().expect("memory") {
                    Some(_) => fill(&mut sink, &bytes[written..bytes.len().min(written + 50_000)]),
                    None => {
                        sink.append(&bytes[written..=written]).expect("room");
                        1
                    }
                };
                assert!(sink.bytes.capacity() <= 1_000_000);
            }
            assert!(*sink.into_bytes() == bytes[..]);
        }
    }

    #[test]
    fn spare_capacity_ends_at_limit_or_announced_length() {
        let mut sink = Memory::new(100);
        assert_eq!(fill(&mut sink, &[1; 200]), 100);
        assert!(sink.spare_capacity().expect("memory").is_none());
        let mut sink = Memory::new(100);
        sink.begin(info(70)).expect("within the limit");
        assert_eq!(fill(&mut sink, &[1; 200]), 70);
        assert!(sink.spare_capacity().expect("memory").is_none());
        sink.restart().expect("nothing to fail");
        assert_eq!(fill(&mut sink, &[2; 70]), 70);
        assert!(sink.spare_capacity().expect("memory").is_none());
        assert_eq!(*sink.into_bytes(), [2; 70]);
    }

    #[test]
    fn more_than_announced_fits_but_not_more_than_limit() {
        let mut sink = Memory::new(100);
        sink.begin(info(10)).expect("within the limit");
        sink.append(&[0; 100]).expect("up to the limit");
        assert_eq!(
            sink.append(&[0]).map_err(|e| e.status()),
            Err(Status::LimitExceeded)
        );
        assert_eq!(
            Memory::new(100).begin(info(101)).map_err(|e| e.status()),
            Err(Status::LimitExceeded)
        );
    }
}
