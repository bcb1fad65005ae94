//! The formats of reports.

/// The report is neither of these. It is not text either: a text body is not a
/// report, but DBSS_ERR_UNEXPECTED_RESPONSE or the error that it contains.
pub const DBSS_FORMAT_UNKNOWN: i32 = 0;
/// A PDF: the first bytes are "%PDF-".
pub const DBSS_FORMAT_PDF: i32 = 1;
/// A ZIP archive: the first bytes are "PK" and the signature of a ZIP record.
pub const DBSS_FORMAT_ZIP: i32 = 2;
