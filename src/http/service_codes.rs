//! The error codes that the service and its gateway document, in words for people.

/// The gateway's code for a path or method that it does not know.
pub(crate) const NO_SUCH_API: &str = "APIG.0101";

/// A documented error.
pub(super) struct ServiceCode {
    pub(super) code: &'static str,
    /// The HTTP status that it comes with.
    pub(super) http_status: u16,
    /// What it means, behind the name of the server; empty if that depends on the call.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) advice: &'static str,
}

const fn row(code: &'static str, http_status: u16, what: &'static str, advice: &'static str) -> ServiceCode {
    ServiceCode {
        code,
        http_status,
        what,
        advice,
    }
}

const ARGUMENTS: &str = "; check the arguments of the call";
const CONSOLE: &str = "; look at the instance in the console";
const CREDENTIALS: &str = "; they may be expired, wrong, or of another region";
const LATER: &str = "; try again later";
const SUPPORT: &str = "; try again later, or ask the service's support about the request id";

/// Every documented code, from the service's page of error codes and its gateway's.
static CODES: &[ServiceCode] = &[
    row(
        "DBSS.10000001",
        400,
        "refused the request as malformed",
        ARGUMENTS,
    ),
    row(
        "DBSS.10020021",
        400,
        "refused an id as invalid",
        "; check the ids of the call",
    ),
    row("DBSS.10020100", 401, "refused the token", CREDENTIALS),
    row("DBSS.10020101", 400, "failed to list the specifications", LATER),
    row("DBSS.10020102", 400, "had an error of its database", SUPPORT),
    row(
        "DBSS.10020118",
        400,
        "allows no more databases",
        "; remove one, or take a larger specification",
    ),
    row("DBSS.10020130", 400, "failed to start the instance", CONSOLE),
    row("DBSS.10020131", 400, "failed to stop the instance", CONSOLE),
    row("DBSS.10020132", 400, "failed to restart the instance", CONSOLE),
    row(
        "DBSS.10020140",
        400,
        "refused the id of the order",
        "; look at the order in the console",
    ),
    row(
        "DBSS.100210016",
        400,
        "has not enough quota left",
        "; delete something, or apply for a larger quota",
    ),
    row("DBSS.10021004", 404, "", ""),
    row("DBSS.11000000", 500, "had an internal error", SUPPORT),
    row(
        NO_SUCH_API,
        404,
        "has no such API there",
        "; check the endpoint or region",
    ),
    row("APIG.0103", 500, "is missing behind its gateway", SUPPORT),
    row("APIG.0104", 500, "has a gateway that lacks a plug-in", SUPPORT),
    row("APIG.0105", 500, "has a gateway that lacks its address", SUPPORT),
    row(
        "APIG.0106",
        400,
        "has a gateway that could not orchestrate the request",
        SUPPORT,
    ),
    row("APIG.0107", 500, "has a gateway whose script failed", SUPPORT),
    row(
        "APIG.0201",
        400,
        "has a gateway that refused the request as malformed",
        ARGUMENTS,
    ),
    row("APIG.0201", 413, "accepts at most 12 MB in a request", ARGUMENTS),
    row("APIG.0201", 414, "refused the URL as too long", ARGUMENTS),
    row(
        "APIG.0201",
        494,
        "accepts headers of at most 32 KiB each and 128 KiB together",
        "; use a shorter token",
    ),
    row("APIG.0201", 500, "has a gateway that failed", SUPPORT),
    row("APIG.0201", 502, "is not available behind its gateway", LATER),
    row("APIG.0201", 504, "did not answer its gateway in time", LATER),
    row("APIG.0202", 502, "is not available behind its gateway", LATER),
    row("APIG.0301", 401, "refused the credentials", CREDENTIALS),
    row("APIG.0308", 429, "asks for fewer requests", LATER),
];

/// Finds a code that comes with its documented status, or with 200 if it has only one. One
/// of the service may be the number alone.
pub(super) fn find(code: &str, http_status: u16) -> Option<&'static ServiceCode> {
    let is_it = |row: &&ServiceCode| {
        (row.code == code || row.code.strip_prefix("DBSS.") == Some(code))
            && (http_status == 200 || row.http_status == http_status)
    };
    let mut found = CODES.iter().filter(is_it);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_conformance_case() {
        let cases = include_str!("../../tests/conformance/codes.json");
        for row in CODES {
            let start = format!(r#"{{"CODE": "{}", "HTTP": {},"#, row.code, row.http_status);
            let case = cases.lines().find(|line| line.trim().starts_with(&start));
            let case = case.unwrap_or_else(|| panic!("no case: {start}"));
            assert!(case.contains(&format!(r#""MEANS": "{}"#, row.what)), "{case}");
        }
    }
}
