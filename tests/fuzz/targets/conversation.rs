//! A whole call through the C functions, with a server that says what it likes.
//!
//! An input is a line of words, the call and its options, and the answers; see
//! `README.md`.
#![no_main]

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fs;
use std::ptr;
use std::slice;
use std::sync::{Mutex, OnceLock};

// The package makes C libraries, and none that Rust could link.
#[path = "../../../src/ffi/lib.rs"]
#[allow(dead_code, unused_imports)]
mod ffi;

use dbss_fuzz::answer::Answer;
use dbss_fuzz::server::{Exchange, Server};
use dbss_fuzz::{TOKEN, check_message};
use ffi::buffer::{dbss_buffer, dbss_buffer_free};
use ffi::config::*;
use ffi::context::*;
use ffi::error::*;
use ffi::log::*;
use ffi::manage::*;
use ffi::operation::*;
use ffi::page::*;
use ffi::report::*;
use ffi::status::*;
use ffi::stream::*;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

// The header has them from the table of statuses.
const DBSS_OK: dbss_status = dbss::Status::Ok as dbss_status;
const DBSS_ERR_CONNECT_TIMEOUT: dbss_status = dbss::Status::ConnectTimeout as dbss_status;
const DBSS_ERR_STALLED: dbss_status = dbss::Status::Stalled as dbss_status;
const DBSS_ERR_TOTAL_TIMEOUT: dbss_status = dbss::Status::TotalTimeout as dbss_status;
const DBSS_ERR_INTERNAL: dbss_status = dbss::Status::Internal as dbss_status;

const PROJECT: &CStr = c"0123456789abcdef0123456789abcdef";
const INSTANCE: &CStr = c"fedcba9876543210fedcba9876543210";
const REPORT: &CStr = c"report-0123456789";
const PASSWORD: &CStr = c"fuzz-password-0123";
/// A report that is larger is refused.
const MEMORY: usize = 2048;
const ATTEMPTS: usize = 3;

static SERVER: OnceLock<Server> = OnceLock::new();
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A panic inside of the library becomes a status: here it ends the fuzzer,
/// with its place.
fn abort_on_panics() {
    // The library's own hook is set by the first call and calls ours no more.
    // SAFETY: NULL does nothing.
    unsafe { dbss_error_free(ptr::null_mut()) };
    let _ = std::panic::take_hook();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        std::process::abort();
    }));
}

unsafe extern "C-unwind" fn log(_: *mut c_void, record: *const dbss_log_record) {
    // SAFETY: the library gives a record, and it a string, that live until this
    // returns.
    let message = unsafe { CStr::from_ptr(dbss_log_record_message(record)) }
        .to_str()
        .expect("a log is UTF-8");
    LOG.lock().expect("no panic here").push(message.to_owned());
}

/// A string of the library's.
fn text(text: *const c_char) -> Option<String> {
    // SAFETY: NULL is left out, and what the library gave is not freed yet.
    let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })?;
    Some(text.to_str().expect("texts are UTF-8").to_owned())
}

/// A buffer of the library's, given back to it.
fn bytes(mut buffer: dbss_buffer) -> Vec<u8> {
    let bytes = match buffer.len {
        0 => Vec::new(),
        // SAFETY: the buffer is one that the library filled.
        len => unsafe { slice::from_raw_parts(buffer.data, len) }.to_vec(),
    };
    // SAFETY: the same, and nobody else has it.
    unsafe { dbss_buffer_free(&mut buffer) };
    bytes
}

/// A call, as the first line of an input describes it.
struct Call<'a> {
    words: Vec<&'a str>,
    ctx: *mut dbss_context,
    operation: *mut dbss_operation,
}

/// What a call brought.
enum Brought {
    Nothing,
    Report(Vec<u8>),
    /// The ids of a list.
    Ids(Vec<String>),
}

impl Call<'_> {
    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn make(&self) -> (dbss_status, Brought) {
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        unsafe {
            if self.has("stream") {
                self.stream()
            } else if self.has("callback") {
                self.callback()
            } else if self.has("directory") {
                self.directory()
            } else if self.has("instances") {
                self.list(|out| dbss_instances_list(self.ctx, PROJECT.as_ptr(), 2, out))
            } else if self.has("reports") {
                let (project, instance) = (PROJECT.as_ptr(), INSTANCE.as_ptr());
                self.list(|out| dbss_reports_list(self.ctx, project, instance, ptr::null(), 2, out))
            } else if self.has("templates") {
                self.list(|out| dbss_templates_list(self.ctx, PROJECT.as_ptr(), INSTANCE.as_ptr(), out))
            } else if self.has("create") {
                self.create()
            } else if self.has("delete") {
                let (project, instance) = (PROJECT.as_ptr(), INSTANCE.as_ptr());
                let status = dbss_report_delete(self.ctx, project, instance, REPORT.as_ptr(), self.operation);
                (status, Brought::Nothing)
            } else {
                self.memory()
            }
        }
    }

    fn memory(&self) -> (dbss_status, Brought) {
        let mut buffer = dbss_buffer {
            data: ptr::null_mut(),
            len: 0,
        };
        // The project is looked up where the credentials or IAM tell it.
        let project = if self.has("lookup") {
            ptr::null()
        } else {
            PROJECT.as_ptr()
        };
        let (instance, id) = (INSTANCE.as_ptr(), REPORT.as_ptr());
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        let status = unsafe {
            dbss_report_download_to_memory(
                self.ctx,
                project,
                instance,
                id,
                ptr::null(),
                self.operation,
                &mut buffer,
            )
        };
        let report = bytes(buffer);
        assert!(
            status == DBSS_OK || report.is_empty(),
            "bytes of a report that failed"
        );
        (status, Brought::Report(report))
    }

    fn stream(&self) -> (dbss_status, Brought) {
        let mut stream = ptr::null_mut();
        let mut report = Vec::new();
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        unsafe {
            let (project, instance, id) = (PROJECT.as_ptr(), INSTANCE.as_ptr(), REPORT.as_ptr());
            let mut status = dbss_report_open(
                self.ctx,
                project,
                instance,
                id,
                ptr::null(),
                self.operation,
                &mut stream,
            );
            assert_eq!(status == DBSS_OK, !stream.is_null());
            if stream.is_null() {
                return (status, Brought::Nothing);
            }
            let mut buf = [0_u8; 100];
            loop {
                let mut n = 0;
                status = dbss_report_stream_read(stream, buf.as_mut_ptr().cast(), buf.len(), &mut n);
                report.extend(&buf[..n]);
                if status != DBSS_OK || n == 0 {
                    break;
                }
            }
            let size = dbss_report_stream_size(stream);
            assert!(
                status != DBSS_OK || size < 0 || size == report.len() as i64,
                "{size}"
            );
            if !self.has("login") && !self.has("metadata") {
                let told = [
                    dbss_report_stream_filename(stream),
                    dbss_report_stream_content_type(stream),
                    dbss_report_stream_request_id(stream),
                ];
                for told in told.into_iter().filter_map(text) {
                    assert!(!told.contains(TOKEN), "the token shows: {told}");
                }
            }
            dbss_report_stream_free(stream);
            (status, Brought::Report(report))
        }
    }

    fn callback(&self) -> (dbss_status, Brought) {
        unsafe extern "C-unwind" fn take(report: *mut c_void, data: *const u8, len: usize) -> i32 {
            // SAFETY: the vector of the call around it, and the bytes that the library lends.
            unsafe { (*report.cast::<Vec<u8>>()).extend(slice::from_raw_parts(data, len)) };
            0
        }
        let mut report = Vec::<u8>::new();
        let (project, instance, id) = (PROJECT.as_ptr(), INSTANCE.as_ptr(), REPORT.as_ptr());
        let data = ptr::from_mut(&mut report).cast();
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        let status = unsafe {
            dbss_report_download_to_callback(
                self.ctx,
                project,
                instance,
                id,
                ptr::null(),
                Some(take),
                data,
                self.operation,
            )
        };
        (status, Brought::Report(report))
    }

    fn directory(&self) -> (dbss_status, Brought) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a directory");
        let inner = directory.path().join("reports");
        fs::create_dir(&inner).expect("a directory");
        let path = CString::new(inner.to_str().expect("ASCII")).expect("no NUL");
        let (project, instance, id) = (PROJECT.as_ptr(), INSTANCE.as_ptr(), REPORT.as_ptr());
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        let status = unsafe {
            dbss_report_download_to_directory(
                self.ctx,
                project,
                instance,
                id,
                ptr::null(),
                path.as_ptr(),
                0,
                self.operation,
            )
        };
        let beside = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(beside, 1, "something was written outside of the directory");
        let mut files = fs::read_dir(&inner)
            .expect("a directory")
            .map(|entry| entry.expect("a file"));
        let report = match files.next() {
            None => Vec::new(),
            Some(file) => {
                assert!(status == DBSS_OK, "a file of a report that failed");
                let name = file.file_name().into_string().expect("a name is UTF-8");
                assert!(!name.starts_with('.') && name.len() <= 255, "{name}");
                assert!(
                    self.has("login") || self.has("metadata") || !name.contains(TOKEN),
                    "{name}"
                );
                fs::read(file.path()).expect("a report")
            }
        };
        assert!(files.next().is_none(), "more than one file");
        (status, Brought::Report(report))
    }

    fn list(&self, begin: impl FnOnce(*mut *mut dbss_cursor) -> dbss_status) -> (dbss_status, Brought) {
        let mut cursor = ptr::null_mut();
        let mut ids = Vec::new();
        assert_eq!(begin(&mut cursor), DBSS_OK);
        let status = loop {
            let mut page = ptr::null_mut();
            // SAFETY: the handles are not freed yet.
            let status = unsafe { dbss_cursor_next(cursor, self.operation, &mut page) };
            if page.is_null() {
                break status;
            }
            assert_eq!(status, DBSS_OK);
            // SAFETY: the page is not freed yet.
            let count = unsafe { dbss_page_count(page) };
            assert!(count > 0, "a page without items");
            for i in 0..count {
                // SAFETY: the page is not freed yet.
                let id = unsafe { dbss_page_field(page, i, c"id".as_ptr()) };
                ids.push(text(id).expect("an item without an id"));
            }
            let mut json = dbss_buffer {
                data: ptr::null_mut(),
                len: 0,
            };
            // SAFETY: the page is not freed yet.
            assert_eq!(unsafe { dbss_page_json(page, &mut json) }, DBSS_OK);
            // Half of a surrogate pair passes here, as everything unread does.
            if let Ok(document) = serde_json::from_slice::<Value>(&bytes(json)) {
                assert_eq!(document["items"].as_array().map(Vec::len), Some(count));
            }
            // SAFETY: nobody uses the page any more.
            unsafe { dbss_page_free(page) };
        };
        // SAFETY: nobody uses the cursor any more.
        unsafe { dbss_cursor_free(cursor) };
        (status, Brought::Ids(ids))
    }

    fn create(&self) -> (dbss_status, Brought) {
        let (project, instance) = (PROJECT.as_ptr(), INSTANCE.as_ptr());
        let mut spec = ptr::null_mut();
        // SAFETY: the handles are not freed yet, and the strings are NUL-terminated.
        let status = unsafe {
            assert_eq!(dbss_report_spec_new(&mut spec), DBSS_OK);
            for (key, value) in [
                (c"template_id", c"template-1"),
                (c"start_time", c"2026-01-01"),
                (c"end_time", c"2026-01-01"),
            ] {
                assert_eq!(dbss_report_spec_set(spec, key.as_ptr(), value.as_ptr()), DBSS_OK);
            }
            let status = dbss_report_create(self.ctx, project, instance, spec, self.operation);
            dbss_report_spec_free(spec);
            status
        };
        (status, Brought::Nothing)
    }
}

/// The texts of the thread's last error, each checked.
fn error_texts(status: dbss_status) -> Vec<String> {
    let error = dbss_last_error();
    assert!(!error.is_null(), "a failure without an error");
    // SAFETY: no other call is made on this thread while the error is read.
    unsafe {
        assert_eq!(dbss_error_status(error), status);
        let message = text(dbss_error_message(error)).expect("a message");
        assert_ne!(status, DBSS_ERR_INTERNAL, "{message}");
        assert!(
            !matches!(
                status,
                DBSS_ERR_STALLED | DBSS_ERR_TOTAL_TIMEOUT | DBSS_ERR_CONNECT_TIMEOUT
            ),
            "the library waited for more than there was: {message}"
        );
        check_message(&message);
        let after = dbss_error_retry_after_ms(error);
        assert!(after >= -1);
        let http = dbss_error_http_status(error);
        assert!(http == 0 || (100..1000).contains(&http), "HTTP {http}");
        let mut texts = vec![
            Some(message),
            text(dbss_error_service_code(error)),
            text(dbss_error_service_message(error)),
            text(dbss_error_request_id(error)),
            text(dbss_error_encoded_authorization_message(error)),
        ];
        let parts = (0..dbss_error_part_count(error)).filter_map(|i| text(dbss_error_part_text(error, i)));
        assert_eq!(parts.collect::<String>(), texts[0].clone().unwrap_or_default());
        for i in 0..dbss_error_detail_count(error) {
            texts.push(text(dbss_error_detail_code(error, i)));
            texts.push(text(dbss_error_detail_message(error, i)));
        }
        texts.into_iter().flatten().collect()
    }
}

/// A report is never one of the service's documents, nor nothing.
fn check_report(report: &[u8]) {
    let text = report
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(report)
        .trim_ascii_start();
    assert!(!text.is_empty(), "an empty report");
    let lower = text[..text.len().min(15)].to_ascii_lowercase();
    assert!(
        !lower.starts_with(b"<html") && !lower.starts_with(b"<!doctype html"),
        "a web page as a report"
    );
    if let Ok(document) = serde_json::from_slice::<Value>(text) {
        assert!(
            !document.is_object() && !document.is_array(),
            "a document as a report: {document}"
        );
    }
}

/// A report that was downloaded is what the service sent: one answer, or the
/// beginning of one and the rest of the same version.
fn check_transfer(report: &[u8], exchanges: &[Exchange]) {
    let said = |exchange: &Exchange| Answer::read(&exchange.answer);
    let (last, before) = exchanges.split_last().expect("a report of no answer");
    let answer = said(last).expect("a report of an answer without a whole header");
    let came = answer.body.as_ref().map(|(body, _)| body.as_slice());
    match (last.sent("range"), answer.status) {
        (_, 200) => assert_eq!(Some(report), came, "the report is not the body"),
        (Some(range), status @ (206 | 416)) => {
            let from = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-'));
            let from: usize = from
                .and_then(|from| from.parse().ok())
                .expect("a range to the end");
            let tag = last
                .sent("if-range")
                .expect("a part is asked for with its version");
            assert!(tag.starts_with('"'), "{tag} proves nothing");
            let (begun, rest) = report
                .split_at_checked(from)
                .expect("the part lies behind the report's end");
            // The version that was begun: all that came of it before.
            let begun_at = before
                .iter()
                .rposition(|e| said(e).is_some_and(|a| a.status == 200));
            let (version, parts) = before[begun_at.expect("the rest of nothing")..]
                .split_first()
                .expect("one");
            let version = said(version).expect("it was just read");
            assert_eq!(
                version.header("etag"),
                Some(tag.as_bytes()),
                "the rest of another version"
            );
            let mut known = version.came;
            for part in parts.iter().filter_map(said).filter(|part| part.status == 206) {
                known.extend(&part.came);
            }
            assert!(
                known.starts_with(begun) || begun.starts_with(&known),
                "two versions are mixed"
            );
            match status {
                206 => {
                    assert_eq!(Some(rest), came, "the rest is not what was sent");
                    let tag_of_rest = answer.header("etag");
                    assert!(
                        tag_of_rest.is_none_or(|t| t == tag.as_bytes()),
                        "the rest of another version"
                    );
                    let range =
                        String::from_utf8_lossy(answer.header("content-range").expect("it says which"));
                    let digits: String = range.chars().skip_while(|c| !c.is_ascii_digit()).collect();
                    let first = digits.split('-').next().and_then(|d| d.parse::<usize>().ok());
                    assert_eq!(first, Some(from), "another part than was asked for");
                }
                _ => assert!(rest.is_empty(), "bytes out of nowhere"),
            }
        }
        (range, status) => panic!("HTTP {status} to {range:?} as a report"),
    }
}

/// The ids in a document, wherever they stand.
fn ids_in(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| ids_in(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "id" | "instance_id") {
                    let text = field.as_str().map_or_else(|| field.to_string(), str::to_owned);
                    found.insert(text.replace('\0', "\u{fffd}"));
                }
                ids_in(field, found);
            }
        }
        _ => {}
    }
}

fn check_ids(ids: &[String], exchanges: &[Exchange]) {
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "an item twice: {ids:?}");
    let mut there = HashSet::new();
    for answer in exchanges.iter().filter_map(|e| Answer::read(&e.answer)) {
        let body = answer.body.map(|(body, _)| body).unwrap_or_default();
        match serde_json::from_slice::<Value>(&body) {
            Ok(document) => ids_in(&document, &mut there),
            // The library does not look at all of it.
            Err(_) if body.is_empty() => {}
            Err(_) => return,
        }
    }
    for id in ids {
        assert!(there.contains(id), "{id:?} is in no answer");
    }
}

/// What was done is what the service said to have done.
fn check_done(exchanges: &[Exchange], deleted: bool) {
    let last = exchanges
        .last()
        .and_then(|e| Answer::read(&e.answer))
        .expect("an answer");
    if deleted && last.status == 404 && exchanges.len() > 1 {
        return;
    }
    let (body, _) = last.body.expect("a whole answer");
    let said = serde_json::from_slice::<Value>(&body).ok();
    let word = said
        .as_ref()
        .and_then(|v| v.get("result").or(v.get("status"))?.as_str());
    let good = body.trim_ascii().is_empty() || word.is_some_and(|w| w.eq_ignore_ascii_case("success"));
    assert!(good, "HTTP {} {body:?} as a success", last.status);
}

/// Nothing that proves who calls goes to another origin, or to a proxy.
fn check_requests(exchanges: &[Exchange], here: &str) {
    for exchange in exchanges {
        let tunnel = exchange.request.starts_with(b"CONNECT ");
        let secret = ["x-auth-token", "authorization", "x-security-token"]
            .iter()
            .any(|name| exchange.sent(name).is_some());
        assert!(
            !secret || (!tunnel && !exchange.elsewhere),
            "credentials went elsewhere"
        );
        assert!(
            exchange.request[0] == 0x16
                || tunnel
                || exchange.elsewhere
                || exchange.sent("host") == Some(here)
        );
    }
}

fn context(words: &[&str], server: &Server) -> *mut dbss_context {
    let here = CString::new(format!("http://{}", server.here)).expect("no NUL");
    let token = CString::new(TOKEN).expect("no NUL");
    let number = |n: usize| CString::new(n.to_string()).expect("no NUL");
    let ca_file = concat!(env!("CARGO_MANIFEST_DIR"), "/ca.pem\0").as_ptr().cast();
    let mut config = ptr::null_mut();
    let mut ctx = ptr::null_mut();
    // SAFETY: the configuration is freed last, and the strings are NUL-terminated.
    unsafe {
        assert_eq!(dbss_config_new(&mut config), DBSS_OK);
        let set = |key: &CStr, value: *const c_char| {
            assert_eq!(dbss_config_set(config, key.as_ptr(), value), DBSS_OK, "{key:?}");
        };
        set(c"endpoint", here.as_ptr());
        set(c"max_attempts", number(ATTEMPTS).as_ptr());
        set(c"max_retry_after_ms", c"0".as_ptr());
        set(c"max_memory_bytes", number(MEMORY).as_ptr());
        set(c"connect_timeout_ms", c"30000".as_ptr());
        set(c"stall_timeout_ms", c"30000".as_ptr());
        if words.contains(&"unframed") {
            set(c"allow_close_delimited", c"true".as_ptr());
        }
        if words.contains(&"redirects") {
            set(c"follow_redirects", c"true".as_ptr());
            // What is https goes through it, so nothing leaves this machine; a
            // context that may need certificates reads no other ones.
            set(c"proxy", here.as_ptr());
            set(c"ca_file", ca_file);
        }
        if words.contains(&"login") {
            set(c"iam_endpoint", here.as_ptr());
            set(c"region", c"cn-north-4".as_ptr());
            set(c"ca_file", ca_file);
            let (user, domain) = (c"user".as_ptr(), c"domain".as_ptr());
            assert_eq!(
                dbss_config_set_iam_user(config, user, PASSWORD.as_ptr(), domain),
                DBSS_OK
            );
        } else if words.contains(&"metadata") {
            set(c"metadata_endpoint", here.as_ptr());
            set(c"credentials", c"metadata".as_ptr());
        } else {
            assert_eq!(dbss_config_set_token(config, token.as_ptr()), DBSS_OK);
        }
        assert_eq!(
            dbss_config_set_log(config, Some(log), ptr::null_mut(), None),
            DBSS_OK
        );
        assert_eq!(dbss_context_new(config, &mut ctx), DBSS_OK);
        dbss_config_free(config);
    }
    ctx
}

fuzz_target!(init: abort_on_panics(), |input: &[u8]| {
    let server = SERVER.get_or_init(Server::start);
    let line = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let words = String::from_utf8_lossy(&input[..line]).into_owned();
    server.play(input.get(line + 1..).unwrap_or_default());
    LOG.lock().expect("no panic here").clear();

    let words: Vec<&str> = words.split_whitespace().collect();
    let ctx = context(&words, server);
    let mut operation = ptr::null_mut();
    // SAFETY: a place for the handle.
    assert_eq!(unsafe { dbss_operation_new(&mut operation) }, DBSS_OK);
    let call = Call { words, ctx, operation };
    let (status, brought) = call.make();
    let texts = match status {
        DBSS_OK => Vec::new(),
        failed => error_texts(failed),
    };
    // SAFETY: the operation is not freed yet.
    let attempts = unsafe { dbss_operation_attempts(operation) };
    // SAFETY: no call uses them any more.
    unsafe {
        dbss_operation_free(operation);
        dbss_context_free(ctx);
    }
    let exchanges = server.end();

    let found = call.has("login") || call.has("metadata");
    assert!(attempts as usize <= exchanges.len() + ATTEMPTS, "{attempts} attempts");
    for line in LOG.lock().expect("no panic here").iter() {
        assert!(!line.chars().any(char::is_control), "{line:?} is more than a line");
        assert!(found || !line.contains(TOKEN), "the token shows in the log: {line}");
        // An attempt that another followed.
        let failed = line.strip_prefix("attempt ").and_then(|line| line.split_once("): "));
        let waited = failed.is_some_and(|(how, _)| how.ends_with("TIMEOUT") || how.ends_with("STALLED"));
        assert!(!waited, "the library waited for more than there was: {line}");
    }
    // What a service says of a request never shows what went out with it.
    let sent = exchanges.last();
    let secrets = ["x-auth-token", "x-security-token", "x-metadata-token"];
    for secret in secrets.iter().filter_map(|name| sent?.sent(name)).filter(|s| s.len() >= 8) {
        for text in &texts {
            assert!(!text.contains(secret), "a token shows: {text}");
        }
    }
    let password = PASSWORD.to_str().expect("ASCII");
    if sent.is_some_and(|e| String::from_utf8_lossy(&e.request).contains(password)) {
        assert!(!texts.iter().any(|text| text.contains(password)), "the password shows: {texts:?}");
    }
    if !found {
        check_requests(&exchanges, &server.here);
    }
    match brought {
        Brought::Report(report) if status == DBSS_OK => {
            check_report(&report);
            check_transfer(&report, &exchanges);
            let limited = ["stream", "callback", "directory"].iter().any(|word| call.has(word));
            assert!(limited || report.len() <= MEMORY, "{} bytes in memory", report.len());
        }
        Brought::Ids(ids) => check_ids(&ids, &exchanges),
        Brought::Nothing if status == DBSS_OK => check_done(&exchanges, call.has("delete")),
        _ => {}
    }
});
