//! Answers as a small second reader sees them, which knows no more of HTTP than
//! the corpus has.

/// An answer whose header is whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, if it is there whole, and how many bytes belong to the answer:
    /// more than there are where its last line is missing.
    pub body: Option<(Vec<u8>, usize)>,
    /// What of the body came, whole or not.
    pub came: Vec<u8>,
}

impl Answer {
    /// The last answer in `bytes`, behind the interim ones, of a connection that
    /// is closed after them.
    pub fn read(bytes: &[u8]) -> Option<Answer> {
        let mut rest = bytes;
        loop {
            // More than fit into the longest header that is taken.
            let mut headers = vec![httparse::EMPTY_HEADER; 80_000];
            let mut head = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(length) = head.parse(rest).ok()? else {
                return None;
            };
            let status = head.code?;
            if (100..200).contains(&status) && status != 101 {
                rest = &rest[length..];
                continue;
            }
            let headers: Vec<(String, Vec<u8>)> = head
                .headers
                .iter()
                .map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec()))
                .collect();
            let mut answer = Answer {
                status,
                headers,
                body: None,
                came: Vec::new(),
            };
            answer.read_body(&rest[length..]);
            if let Some((_, end)) = &mut answer.body {
                *end += bytes.len() - rest.len() + length;
            }
            return Some(answer);
        }
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.trim_ascii())
    }

    fn read_body(&mut self, rest: &[u8]) {
        if matches!(self.status, 204 | 304) {
            self.body = Some((Vec::new(), 0));
            return;
        }
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        if chunked {
            self.body = self.read_chunks(rest);
            return;
        }
        let length = self.header("content-length").and_then(|value| {
            let digits = std::str::from_utf8(value).ok()?;
            digits
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| digits.parse::<usize>().ok())?
        });
        self.came = rest[..length.unwrap_or(rest.len()).min(rest.len())].to_vec();
        // Without a length it ends where the connection does, which the library
        // takes only when it is told to.
        let whole = length.unwrap_or(rest.len());
        if self.came.len() == whole {
            self.body = Some((self.came.clone(), whole));
        }
    }

    fn read_chunks(&mut self, mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
        let whole = rest.len();
        loop {
            let end = rest.windows(2).position(|w| w == b"\r\n")?;
            let digits = rest[..end].split(|b| *b == b';').next()?;
            // Space behind it is taken too.
            let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()?;
            rest = &rest[end + 2..];
            if size == 0 {
                // The body is whole (RFC 9112, 8); trailers, which nobody reads, go
                // on to an empty line, or to the end of the connection.
                let end = match rest.starts_with(b"\r\n") {
                    true => Some(2),
                    false => rest.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4),
                };
                let end = end.unwrap_or(rest.len() + 1);
                return Some((self.came.clone(), whole - rest.len() + end));
            }
            self.came.extend(&rest[..size.min(rest.len())]);
            rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
        }
    }
}
