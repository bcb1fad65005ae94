//! Content of any size that occupies no memory: a head, a generated middle and a tail.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

const BLOCK: u64 = 4096;
// Wider than the window of gzip (32 KiB), so that the filler does not shrink when compressed.
const TABLE: usize = 256 * 1024;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of splitmix64.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The `number`th value of the sequence that starts with `seed`.
pub fn random(seed: u64, number: u64) -> u64 {
    mix(seed.wrapping_add(number.wrapping_add(1).wrapping_mul(GOLDEN)))
}

fn table() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        (1..=TABLE as u64 / 8)
            .flat_map(|word| mix(word.wrapping_mul(GOLDEN)).to_le_bytes())
            .collect()
    })
}

/// Pseudo-random bytes that are a function of a seed and an offset.
#[derive(Debug, Clone, Copy)]
pub struct Filler {
    /// Tells the filler of one report from that of another.
    pub seed: u64,
    /// How many bytes there are.
    pub len: u64,
}

impl Filler {
    /// Fills `buf` from `offset` on and returns how much of it was filled.
    ///
    /// Each block of 4 KiB is a window of one random table, chosen by the seed and the block's
    /// number, with a stamp of the same two at its start: no two blocks agree, and copying keeps
    /// an unoptimised build fast.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let table = table();
        let wanted = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let take = (BLOCK as usize - within).min(wanted - done);
            let key = mix(self.seed ^ (at / BLOCK + 1).wrapping_mul(GOLDEN));
            let start = (key % (TABLE as u64 - BLOCK)) as usize + within;
            let piece = &mut buf[done..done + take];
            piece.copy_from_slice(&table[start..start + take]);
            let stamp = mix(key).to_le_bytes();
            if within < stamp.len() {
                let stamped = (stamp.len() - within).min(take);
                piece[..stamped].copy_from_slice(&stamp[within..within + stamped]);
            }
            done += take;
        }
        wanted
    }

    /// Hands the whole filler to `take`, piece by piece.
    pub fn for_each(&self, mut take: impl FnMut(&[u8])) {
        let mut buf = vec![0; 64 * 1024];
        let mut at = 0;
        loop {
            match self.read_at(at, &mut buf) {
                0 => return,
                n => {
                    take(&buf[..n]);
                    at += n as u64;
                }
            }
        }
    }
}

/// The content of a report in one language: readable at any offset, never whole in memory.
#[derive(Debug)]
pub struct Blob {
    prefix: Vec<u8>,
    filler: Filler,
    suffix: Vec<u8>,
    sha256: OnceLock<String>,
}

impl Blob {
    /// A blob of these three parts, in this order.
    pub fn new(prefix: Vec<u8>, filler: Filler, suffix: Vec<u8>) -> Self {
        Blob {
            prefix,
            filler,
            suffix,
            sha256: OnceLock::new(),
        }
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.prefix.len() as u64 + self.filler.len + self.suffix.len() as u64
    }

    /// Fills as much of `buf` as the blob has from `offset` on; returns 0 only at the end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let head = self.prefix.len() as u64;
        let mut done = copy_from(&self.prefix, offset, buf);
        let at = offset + done as u64;
        if at >= head {
            done += self.filler.read_at(at - head, &mut buf[done..]);
            let at = offset + done as u64;
            let tail = head + self.filler.len;
            if at >= tail {
                done += copy_from(&self.suffix, at - tail, &mut buf[done..]);
            }
        }
        done
    }

    /// All the bytes: for small blobs.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size() as usize];
        let read = self.read_at(0, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    /// The SHA-256 in hexadecimal, computed by streaming when it is first asked for.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| {
            let mut hasher = Sha256::new();
            hasher.update(&self.prefix);
            self.filler.for_each(|piece| hasher.update(piece));
            hasher.update(&self.suffix);
            hex::encode(hasher.finalize())
        })
    }
}

fn copy_from(source: &[u8], offset: u64, buf: &mut [u8]) -> usize {
    let Some(rest) = usize::try_from(offset).ok().and_then(|at| source.get(at..)) else {
        return 0;
    };
    let n = rest.len().min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}
