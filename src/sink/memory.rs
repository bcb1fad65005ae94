//! A body in memory, up to a limit, growing with what arrives.

use super::{Info, Sink};
use crate::error::{Error, Status};
use crate::http::Call;

const FIRST_CAPACITY: usize = 64 * 1024;
const ROOM: usize = 128 * 1024;

#[derive(Debug)]
pub(crate) struct Memory {
    /// Those that arrived, and zeros behind them for the next.
    bytes: Vec<u8>,
    held: usize,
    limit: u64,
    announced: Option<u64>,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Memory {
        Memory {
            bytes: Vec::new(),
            held: 0,
            limit,
            announced: None,
        }
    }

    pub(crate) fn into_bytes(mut self) -> Box<[u8]> {
        self.bytes.truncate(self.held);
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
        let held = self.held;
        self.bytes.truncate(held);
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

    fn spare_capacity(&mut self) -> Result<Option<&mut [u8]>, Error> {
        let held = self.held;
        // What comes after this is more than there should be.
        if held as u64 >= self.limit.min(self.announced.unwrap_or(u64::MAX)) {
            return Ok(None);
        }
        if held == self.bytes.len() {
            if held == self.bytes.capacity() {
                self.grow(held + 1)?;
            }
            // Not all of it, or what was only announced would take up memory.
            let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
            let end = self.bytes.capacity().min(held + ROOM).min(limit);
            self.bytes.resize(end, 0);
        }
        Ok(Some(&mut self.bytes[held..]))
    }

    fn advance(&mut self, bytes: usize) {
        self.held += bytes;
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.held = 0;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Memory {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let needed = self.held + bytes.len();
        if needed as u64 > self.limit {
            return Err(self.too_large(needed as u64, false));
        }
        if needed > self.bytes.capacity() {
            self.grow(needed)?;
        }
        self.bytes.truncate(self.held);
        self.bytes.extend_from_slice(bytes);
        self.held = needed;
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

    fn fill(sink: &mut Memory, bytes: &[u8]) -> usize {
        let room = sink.spare_capacity().expect("memory").expect("room");
        let n = room.len().min(bytes.len());
        room[..n].copy_from_slice(&bytes[..n]);
        sink.advance(n);
        n
    }

    #[test]
    fn what_is_put_in_its_room_stands_where_what_is_written_would() {
        let bytes: Vec<u8> = (0..400_000).map(|i| (i % 251) as u8).collect();
        for announced in [None, Some(bytes.len() as u64), Some(10), Some(1 << 40)] {
            let mut sink = Memory::new(1 << 50);
            sink.announced = announced;
            let mut put = 0;
            while put < bytes.len() {
                put += match sink.spare_capacity().expect("memory") {
                    Some(_) => fill(&mut sink, &bytes[put..bytes.len().min(put + 50_000)]),
                    None => {
                        sink.take(&bytes[put..=put]).expect("room");
                        1
                    }
                };
                assert!(sink.bytes.capacity() <= 1_000_000);
            }
            assert!(*sink.into_bytes() == bytes[..]);
        }
    }

    #[test]
    fn there_is_no_room_for_more_than_the_limit_or_what_was_announced() {
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
