//! The server's side of a conversation: plays answers, one for each request,
//! and keeps what was asked.
//!
//! It never lets the library wait: when an answer is played the connection ends,
//! unless the script keeps it for another request and the answer is whole.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::answer::Answer;

/// After this an answer ends, and its connection.
const END: &[u8] = b"\n===\n";
/// After this an answer ends, and its connection waits for another request.
const KEEP: &[u8] = b"\n+++\n";

/// A request and what it was answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Whether it came to the other origin.
    pub elsewhere: bool,
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
}

impl Exchange {
    /// The value of a header of the request.
    pub fn sent(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.request).ok()?;
        head.lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
    }
}

#[derive(Default)]
struct Conversation {
    answers: VecDeque<(Vec<u8>, bool)>,
    exchanges: Vec<Exchange>,
    /// Connections that are played to their end: what closes them is the client.
    ended: Vec<TcpStream>,
}

/// Two origins on this machine.
pub struct Server {
    pub here: String,
    pub elsewhere: String,
    current: Arc<Mutex<Arc<Mutex<Conversation>>>>,
}

fn split(mut script: &[u8]) -> VecDeque<(Vec<u8>, bool)> {
    let mut answers = VecDeque::new();
    while !script.is_empty() {
        let mark = script.windows(END.len()).position(|w| w == END || w == KEEP);
        let Some(at) = mark else {
            answers.push_back((script.to_vec(), false));
            break;
        };
        let (answer, rest) = script.split_at(at);
        answers.push_back((answer.to_vec(), rest.starts_with(KEEP)));
        script = &rest[END.len()..];
    }
    answers
}

fn replace(bytes: Vec<u8>, from: &[u8], to: &str) -> Vec<u8> {
    let Some(at) = bytes.windows(from.len()).position(|w| w == from) else {
        return bytes;
    };
    let rest = replace(bytes[at + from.len()..].to_vec(), from, to);
    [&bytes[..at], to.as_bytes(), &rest].concat()
}

impl Server {
    /// Begins to listen.
    pub fn start() -> Server {
        let current = Arc::new(Mutex::new(Arc::default()));
        let origins = [false, true].map(|elsewhere| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
            let origin = listener.local_addr().expect("its address").to_string();
            let current = Arc::clone(&current);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let conversation = Arc::clone(&current.lock().expect("no panic here"));
                    serve(stream, elsewhere, conversation);
                }
            });
            origin
        });
        let [here, elsewhere] = origins;
        Server {
            here,
            elsewhere,
            current,
        }
    }

    /// Plays a script to whoever comes until [`Server::end`].
    pub fn play(&self, script: &[u8]) {
        let mut script = replace(script.to_vec(), b"@HERE@", &self.here);
        script = replace(script, b"@ELSEWHERE@", &self.elsewhere);
        let conversation = Conversation {
            answers: split(&script),
            ..Conversation::default()
        };
        *self.current.lock().expect("no panic here") = Arc::new(Mutex::new(conversation));
    }

    /// What was said since then.
    pub fn end(&self) -> Vec<Exchange> {
        let conversation = std::mem::take(&mut *self.current.lock().expect("no panic here"));
        let mut conversation = conversation.lock().expect("no panic here");
        conversation.ended.clear();
        std::mem::take(&mut conversation.exchanges)
    }
}

/// Answers the requests of a connection; on a thread of its own from the second
/// on, since the next connection may come first.
fn serve(mut stream: TcpStream, elsewhere: bool, conversation: Arc<Mutex<Conversation>>) {
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let keep = {
        let mut conversation = conversation.lock().expect("no panic here");
        let (script, keep) = conversation.answers.pop_front().unwrap_or_default();
        let mut exchange = Exchange {
            elsewhere,
            request,
            answer: Vec::new(),
        };
        exchange.answer = fill_in(script, &exchange);
        let whole = is_whole(&exchange);
        // A client that has heard enough may close at any time.
        let _ = stream.write_all(&exchange.answer);
        conversation.exchanges.push(exchange);
        keep && whole
    };
    if keep {
        thread::spawn(move || serve(stream, elsewhere, conversation));
        return;
    }
    let _ = stream.shutdown(Shutdown::Write);
    conversation.lock().expect("no panic here").ended.push(stream);
}

/// Whether nobody waits for more of an answer, nor gets more than that.
fn is_whole(exchange: &Exchange) -> bool {
    let Some(answer) = Answer::read(&exchange.answer) else {
        return false;
    };
    let framed = ["content-length", "transfer-encoding"]
        .iter()
        .any(|name| answer.header(name).is_some());
    let tunnel = exchange.request.starts_with(b"CONNECT ");
    let empty = matches!(answer.status, 204 | 304);
    let ends = answer.body.is_some_and(|(_, end)| end == exchange.answer.len());
    ends && (framed || tunnel || empty)
}

/// Writes lengths and ranges where an answer asks for them, so that a body can
/// change and its header is still true.
fn fill_in(script: Vec<u8>, exchange: &Exchange) -> Vec<u8> {
    let head = script
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .map_or(script.len(), |at| at + 4);
    let length = script.len() - head;
    let range = exchange
        .sent("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    let from: usize = range.and_then(|from| from.parse().ok()).unwrap_or(0);
    let last = (from + length).saturating_sub(1);
    let script = replace(script, b"@LENGTH@", &length.to_string());
    let script = replace(
        script,
        b"@RANGE@",
        &format!("bytes {from}-{last}/{}", from + length),
    );
    replace(script, b"@OFFSET@", &from.to_string())
}

/// A request to its end; a TLS handshake as far as it comes at once.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    const HANDSHAKE: u8 = 0x16;
    let mut request = Vec::new();
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => return None,
            Ok(n) => request.extend(&buf[..n]),
        }
        if request[0] == HANDSHAKE {
            return Some(request);
        }
        let Some(head) = request.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if request.len() >= head + 4 + length.unwrap_or(0) {
            return Some(request);
        }
    }
}
