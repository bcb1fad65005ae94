//! The library's values as JSON, and the other way round.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dbss::mirror::{MirrorError, MirrorResult};
use dbss::{CancelledBy, Error, Format, Identity, Item, Level, LogRecord, Operation, ReportInfo};
use serde_json::{Map, Value, json};

pub enum Failure {
    /// This driver cannot do it.
    Unsupported(String),
    /// The library's error, with the result so far.
    Failed(Box<Error>, Option<Value>),
}

pub type Outcome = Result<Value, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(Box::new(error), None)
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Failure {
        let result = error.result.as_deref().map(mirror_fields);
        Failure::Failed(Box::new(error.error), result)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match Error::from_io(&error) {
            Some(error) => error.clone().into(),
            None => Failure::Unsupported(error.to_string()),
        }
    }
}

/// An argument that may be any bytes.
pub fn bytes(value: &Value) -> Result<Vec<u8>, Failure> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string().into_bytes()),
        Value::Object(object) if object.contains_key("hex") => {
            let digits = object["hex"].as_str().unwrap_or_default();
            let bytes = (0..digits.len()).step_by(2).map(|at| {
                let digits = digits.get(at..at + 2).unwrap_or_default();
                u8::from_str_radix(digits, 16).map_err(|e| Failure::Unsupported(e.to_string()))
            });
            bytes.collect()
        }
        Value::Null => Err(Failure::Unsupported("null_arguments".to_owned())),
        _ => Err(Failure::Unsupported(format!("the argument {value}"))),
    }
}

/// An argument that is text.
pub fn text(value: &Value) -> Result<String, Failure> {
    String::from_utf8(bytes(value)?).map_err(|_| Failure::Unsupported("raw_bytes".to_owned()))
}

/// An argument that may be null.
pub fn optional_text(value: &Value) -> Result<Option<String>, Failure> {
    (!value.is_null()).then(|| text(value)).transpose()
}

/// The elements of a list; none of anything else.
pub fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn path_value(path: &Path) -> Value {
    let bytes = path.as_os_str().as_bytes();
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()}),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(milliseconds)
}

fn format_name(format: Format) -> Option<&'static str> {
    match format {
        Format::Pdf => Some("pdf"),
        Format::Zip => Some("zip"),
        _ => None,
    }
}

pub fn error_fields(error: &Error) -> Value {
    let cancelled_by = error.cancelled_by().and_then(|by| match by {
        CancelledBy::Operation => Some("operation"),
        CancelledBy::Client => Some("client"),
        CancelledBy::Close => Some("close"),
        CancelledBy::Callback => Some("callback"),
        _ => None,
    });
    let details = error.details().iter();
    let details = details.map(|detail| json!({"code": detail.code, "message": detail.message}));
    json!({
        "message": error.message(),
        "parameter": error.parameter(),
        "http_status": error.http_status(),
        "service_code": error.service_code(),
        "service_message": error.service_message(),
        "request_id": error.request_id(),
        "encoded_authorization_message": error.encoded_authorization_message(),
        "details": details.collect::<Vec<_>>(),
        "cancelled_by": cancelled_by,
        "candidates": error.candidates(),
        "redirect_target": error.redirect_target(),
        "path": error.path().map(path_value),
        "os_code": error.os_code(),
        "retryable": error.is_retryable(),
        "retry_after_ms": error.retry_after().map(milliseconds),
        "attempts": error.attempts(),
    })
}

pub fn operation_fields(operation: &Operation) -> Value {
    json!({
        "received": operation.received(),
        "total": operation.total(),
        "resumed": operation.resumed(),
        "attempts": operation.attempts(),
        "percent": operation.percent(),
        "path": operation.path().as_deref().map(path_value),
        "filename": operation.filename(),
        "request_id": operation.request_id(),
        "content_type": operation.content_type(),
        "format": format_name(operation.format()),
    })
}

pub fn log_fields(record: &LogRecord) -> Value {
    let level = match record.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        _ => "debug",
    };
    json!({
        "level": level,
        "message": record.message,
        "status": record.error.as_ref().map(|_| record.status.name()),
        "attempt": record.attempt,
        "request_id": record.request_id,
        "report_id": record.report_id,
        "bytes": record.bytes,
        "duration_ms": record.duration.map(milliseconds),
        "offset": record.offset,
        "retry_delay_ms": record.retry_delay.map(milliseconds),
        "http_status": record.http_status,
    })
}

pub fn report_fields(info: &ReportInfo) -> Value {
    json!({
        "size": info.size,
        "format": format_name(info.format),
        "filename": info.filename,
        "content_type": info.content_type,
        "request_id": info.request_id,
    })
}

/// The same, and where the report was saved.
pub fn saved(path: &Path) -> Value {
    json!({"path": path_value(path)})
}

pub fn identity_fields(found: &Identity) -> Value {
    json!({
        "source": found.source,
        "description": found.description,
        "name": found.name,
        "project": found.project,
        "expires_ms": found.expires.and_then(unix_ms),
    })
}

/// The id, and the fields with these names.
pub fn item_fields(item: &Item, names: &Value) -> Value {
    let names = elements(names).iter().filter_map(Value::as_str);
    let fields = names.map(|name| (name.to_owned(), item.get(name).into()));
    let id = ("id".to_owned(), item.id().into());
    Value::Object(std::iter::once(id).chain(fields).collect())
}

pub fn mirror_fields(result: &MirrorResult) -> Value {
    let counts = result.counts.named();
    let mut fields: Map<String, Value> = counts
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    let failures = result.failures.iter().map(|failure| {
        let mut error = error_fields(&failure.error);
        error["status"] = failure.error.status().name().into();
        // A list that failed has no report's id.
        let id = Some(failure.id.as_str()).filter(|id| !id.is_empty());
        json!({"id": id, "instance": failure.instance, "error": error})
    });
    let gaps = result.gaps.iter();
    let gaps = gaps.map(|gap| json!({"period": gap.period, "type": gap.kind, "instance": gap.instance}));
    fields.insert("failures".to_owned(), failures.collect());
    fields.insert("gaps".to_owned(), gaps.collect());
    Value::Object(fields)
}
