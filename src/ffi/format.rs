//! The formats of reports.

/// The first bytes are neither of these. They are no text either: a body that is
/// text is no report, but DBSS_ERR_UNEXPECTED_RESPONSE or the error that it holds.
pub const DBSS_FORMAT_UNKNOWN: i32 = 0;
/// A PDF: the first bytes are "%PDF-".
pub const DBSS_FORMAT_PDF: i32 = 1;
/// A ZIP archive: the first bytes are "PK" and the number of a ZIP record.
pub const DBSS_FORMAT_ZIP: i32 = 2;
