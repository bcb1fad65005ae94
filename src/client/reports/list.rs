//! The lists of the service: their requests and responses.

use serde::Serialize;

use crate::client::arguments::{PROJECT_OR_INSTANCE_ID, check_id};
use crate::client::document;
use crate::client::value::{Value, option_value, unhandled};
use crate::error::{Error, Status};
use crate::http::{Endpoint, ErrorContext, Response};
use crate::tables::{MAX_NAME_LENGTH, OptionSet};

use crate::client::reports::page::{Item, Redact, parse_page};

/// The versions of ListAuditInstances, the newest first: the API's version, and the path
/// behind the project.
pub(crate) const INSTANCE_VERSIONS: [(&str, &[&str]); 3] = [
    ("v2", &["audit", "instances"]),
    ("v1", &["audit", "instances"]),
    ("v1", &["dbss", "audit", "instances"]),
];

/// A list of the service.
#[derive(Clone, Debug)]
pub enum List {
    /// ListAuditInstances, in the first of its versions that the service has.
    Instances,
    /// `POST /v1/{project_id}/audit/{instance_id}/reports/list`
    Reports {
        /// The audit instance.
        instance: String,
        /// A name to filter by.
        name: Option<String>,
    },
    /// `GET /v2/{project_id}/audit/{instance_id}/reports/templates`, all at once.
    Templates {
        /// The audit instance.
        instance: String,
    },
    /// `GET /v2/{project_id}/audit/{instance_id}/databases?offset=&limit=&status=`
    Databases {
        /// The audit instance.
        instance: String,
        /// ON or OFF to filter by.
        status: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct ReportsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    page: u64,
    size: u32,
}

impl List {
    /// Makes the list after checking the arguments.
    pub fn reports(instance: &str, name: Option<&str>) -> Result<List, Error> {
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        if let Some(name) = name
            && (name.is_empty() || name.len() > MAX_NAME_LENGTH)
        {
            return Err(Error::argument(
                Status::InvalidValue,
                "name",
                format_args!("must have 1 to {MAX_NAME_LENGTH} bytes, but has {}", name.len()),
            ));
        }
        Ok(List::Reports {
            instance: instance.to_owned(),
            name: name.map(str::to_owned),
        })
    }

    /// Makes the list after checking the arguments.
    pub fn templates(instance: &str) -> Result<List, Error> {
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        Ok(List::Templates {
            instance: instance.to_owned(),
        })
    }

    /// Makes the list after checking the arguments.
    pub fn databases(instance: &str, status: Option<&str>) -> Result<List, Error> {
        check_id(instance, "instance", PROJECT_OR_INSTANCE_ID)?;
        let status = match status {
            None => None,
            Some(status) => match option_value(OptionSet::Schedule, "status", status.as_bytes())? {
                (_, Value::Choice(word)) => Some(word),
                (key, _) => return Err(unhandled(key)),
            },
        };
        Ok(List::Databases {
            instance: instance.to_owned(),
            status,
        })
    }

    /// Returns the service's maximum of `limit`.
    pub(super) fn max_page_size(&self) -> u32 {
        match self {
            List::Databases { .. } => 10_000,
            _ => 1000,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            List::Instances => "instances",
            List::Reports { .. } => "reports",
            List::Templates { .. } => "templates",
            List::Databases { .. } => "databases",
        }
    }

    /// Returns the name of the object that wraps each item, if any.
    pub(super) fn wrapper(&self) -> Option<&'static str> {
        match self {
            List::Instances => None,
            List::Reports { .. } => Some("report"),
            List::Templates { .. } => Some("template"),
            List::Databases { .. } => Some("database"),
        }
    }

    /// Reads a page of the list: the total, if there is one, and the items.
    pub(crate) fn read(&self, response: &mut Response) -> Result<(Option<u64>, Vec<Item>), Error> {
        let bytes = document::read(response, &self.error_context())?;
        self.parse(bytes, &|text| response.redact(text))
            .map_err(|e| match e.status() {
                Status::UnexpectedResponse => {
                    let what = format!("list of {}", self.name());
                    document::malformed(response, &what, e.message())
                }
                _ => e,
            })
    }

    fn error_context(&self) -> ErrorContext {
        ErrorContext {
            server: "the service",
            not_found: match self {
                List::Instances => (
                    "knows no such project",
                    "; check the endpoint or region, and the project",
                ),
                _ => (
                    "knows no such instance",
                    "; check the project and the instance's id",
                ),
            },
        }
    }

    /// Returns the URL of a page; `version` counts only for instances.
    pub(crate) fn url(
        &self,
        endpoint: &Endpoint,
        project: &str,
        offset: u64,
        size: u32,
        version: usize,
    ) -> Result<::http::Uri, Error> {
        match self {
            List::Instances => {
                let (number, path) = INSTANCE_VERSIONS[version];
                endpoint.url(
                    &[&[number, project], path].concat(),
                    &[("offset", &offset.to_string()), ("limit", &size.to_string())],
                )
            }
            List::Reports { instance, .. } => {
                endpoint.url(&["v1", project, "audit", instance, "reports", "list"], &[])
            }
            List::Templates { instance } => {
                endpoint.url(&["v2", project, "audit", instance, "reports", "templates"], &[])
            }
            List::Databases { instance, status } => {
                let (offset, size) = (offset.to_string(), size.to_string());
                let query = [
                    ("offset", offset.as_str()),
                    ("limit", &size),
                    ("status", status.unwrap_or_default()),
                ];
                let used = if status.is_some() { 3 } else { 2 };
                endpoint.url(&["v2", project, "audit", instance, "databases"], &query[..used])
            }
        }
    }

    pub(super) fn body(&self, offset: u64, width: u64, size: u32) -> Result<Vec<u8>, Error> {
        let List::Reports { name, .. } = self else {
            return Ok(Vec::new());
        };
        serde_json::to_vec(&ReportsBody {
            name: name.as_deref(),
            page: offset / width + 1,
            size,
        })
        .map_err(|e| Error::new(Status::Internal, format!("failed to serialize the request: {e}")))
    }

    /// Parses a page: the total, if the service reports it, and the items. `redact`
    /// removes secrets from texts, because items are used in file names and messages.
    pub fn parse(&self, body: Vec<u8>, redact: Redact<'_>) -> Result<(Option<u64>, Vec<Item>), Error> {
        parse_page(body, self.wrapper(), redact)
    }

    /// Returns the offset at which the page with this offset begins.
    pub(super) fn page_start(&self, offset: u64, width: u64) -> u64 {
        match self {
            List::Reports { .. } => offset - offset % width,
            _ => offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::reports::page::MAX_ITEMS_PER_PAGE;

    #[test]
    fn only_object_with_array_of_items_is_a_list() {
        let count = |body: &str| {
            List::Instances
                .parse(body.as_bytes().to_vec(), &|_| None)
                .map(|(_, items)| items.len())
                .map_err(|e| e.status())
        };
        assert_eq!(count(r#"{"servers":[{"id":"a"},{"instance_id":"b"}]}"#), Ok(2));
        assert_eq!(count(r#"{"servers":[],"total":0}"#), Ok(0));
        for body in [
            "",
            "{}",
            "[[]]",
            r#"[[{"id":"a"}],1]"#,
            r#"{"servers":[["a"]]}"#,
            r#"{"servers":[{"name":"a"}]}"#,
            r#"{"servers":[],"total":-1}"#,
        ] {
            assert_eq!(count(body), Err(Status::UnexpectedResponse), "{body}");
        }
        let many = |n: usize| format!(r#"{{"items":[{}]}}"#, vec![r#"{"id":1}"#; n].join(","));
        assert_eq!(count(&many(MAX_ITEMS_PER_PAGE)), Ok(MAX_ITEMS_PER_PAGE));
        assert_eq!(
            count(&many(MAX_ITEMS_PER_PAGE + 1)),
            Err(Status::UnexpectedResponse)
        );
    }

    #[test]
    fn fields_with_unusual_values_are_returned_as_text() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let item = Item::of(&format!(
            r#"{{"instance_id":"a","name":"\u00e9\u0000\ud800!","n":1.50,"whole":100.0,"gone":null,"n\u0061me2":"b","twice":1,"twice":null,"deep":{deep}}}"#
        ));
        for (name, text) in [
            ("id", Some("a")),
            ("name", Some("é\u{fffd}\u{fffd}\u{fffd}\u{fffd}!")),
            ("n", Some("1.50")),
            ("whole", Some("100")),
            ("gone", None),
            ("name2", Some("b")),
            ("twice", None),
            ("deep", Some(&deep)),
            ("missing", None),
        ] {
            assert_eq!(item.get(name), text, "{name}");
        }
    }
}
