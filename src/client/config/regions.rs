//! Finds the endpoints of a region like the official SDKs: by an environment variable, by
//! the regions file, or by the region's name.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

use crate::error::{Error, Status};
use crate::http::Endpoint;
use crate::memory;
use crate::sys;

/// More than any real configuration has.
pub(crate) const MAX_ENDPOINTS: usize = 16;

/// The public regions that have the service. Other names are accepted too: the list only
/// helps to recognize a mistyped name in the log.
pub const KNOWN: &[&str] = &[
    "af-north-1",
    "af-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "cn-east-2",
    "cn-east-3",
    "cn-east-4",
    "cn-east-5",
    "cn-north-1",
    "cn-north-11",
    "cn-north-12",
    "cn-north-2",
    "cn-north-4",
    "cn-north-9",
    "cn-south-1",
    "cn-south-2",
    "cn-south-4",
    "cn-southwest-2",
    "cn-southwest-3",
    "eu-west-101",
    "la-north-2",
    "la-south-2",
    "me-east-1",
    "my-kualalumpur-1",
    "ru-moscow-1",
    "ru-northwest-2",
    "sa-brazil-1",
    "tr-west-1",
];

/// The regions with their own IAM endpoint, from the official SDKs.
const WITH_IAM: &[&str] = &[
    "ae-ad-1",
    "af-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "cn-east-2",
    "cn-east-3",
    "cn-east-4",
    "cn-east-5",
    "cn-north-1",
    "cn-north-12",
    "cn-north-2",
    "cn-north-4",
    "cn-north-9",
    "cn-south-1",
    "cn-south-2",
    "cn-southwest-2",
    "eu-west-0",
    "la-north-2",
    "la-south-2",
    "me-east-1",
    "my-kualalumpur-1",
    "na-mexico-1",
    "ru-moscow-1",
    "sa-brazil-1",
    "tr-west-1",
];

/// The name prefix of the European regions, which have a different domain.
const EUROPEAN: &str = "eu-west-1";

const SERVICE: &str = "DBSS";

/// Far larger than any real regions file.
const LIMIT: u64 = 1024 * 1024;

/// The maximum nesting. A regions file has three levels.
const MAX_DEPTH: usize = 32;

/// Where the endpoints of a region come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EndpointSource {
    Variable(String),
    File(PathBuf),
    /// Derived from the name of a known region.
    Known,
    /// Derived from a name that this library does not know.
    Name,
}

impl fmt::Display for EndpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointSource::Variable(name) => write!(f, "from the variable {name}"),
            EndpointSource::File(path) => write!(f, "from the file {}", path.display()),
            EndpointSource::Known => f.write_str("from its name"),
            EndpointSource::Name => f.write_str("from its name, which is not a region that libdbss knows"),
        }
    }
}

/// Returns the endpoints of a region, at least one, in the order of preference.
pub(crate) fn endpoints(
    region: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Vec<Endpoint>, EndpointSource), Error> {
    let variable = format!(
        "HUAWEICLOUD_SDK_REGION_{SERVICE}_{}",
        region.replace('-', "_").to_ascii_uppercase()
    );
    if let Some(value) = environment(&variable).filter(|value| !value.is_empty()) {
        let value = value.to_string_lossy();
        let urls = value
            .split(',')
            .map(|url| url.trim_matches(' '))
            .filter(|url| !url.is_empty());
        let endpoints = parse_all(urls, &format!("the variable {variable}"))?;
        return Ok((endpoints, EndpointSource::Variable(variable)));
    }
    let file = sys::sdk_file(environment, "HUAWEICLOUD_SDK_REGIONS_FILE", "regions.yaml");
    if let Some((path, named)) = file
        && let Some(urls) = read(&path, named, region)?
    {
        let endpoints = parse_all(
            urls.iter().map(String::as_str),
            &format!("the regions file {}", path.display()),
        )?;
        return Ok((endpoints, EndpointSource::File(path)));
    }
    let by_name = format!("https://dbss.{region}.{}", domain(region));
    let source = match KNOWN.contains(&region) {
        true => EndpointSource::Known,
        false => EndpointSource::Name,
    };
    Ok((vec![Endpoint::parse(&by_name, "region")?], source))
}

/// Returns the domain of a region's services.
fn domain(region: &str) -> &'static str {
    match region.starts_with(EUROPEAN) {
        true => "myhuaweicloud.eu",
        false => "myhuaweicloud.com",
    }
}

/// Returns the endpoint of IAM for a region.
pub(crate) fn iam(region: Option<&str>) -> Result<Endpoint, Error> {
    let url = match region {
        Some(region) if WITH_IAM.contains(&region) || region.starts_with(EUROPEAN) => {
            format!("https://iam.{region}.{}", domain(region))
        }
        _ => "https://iam.myhuaweicloud.com".to_owned(),
    };
    Endpoint::parse(&url, "region")
}

/// Returns the endpoint of the security token service of a region.
pub(crate) fn sts(region: &str) -> Result<Endpoint, Error> {
    Endpoint::parse(&format!("https://sts.{region}.{}", domain(region)), "region")
}

fn parse_all<'a>(urls: impl Iterator<Item = &'a str>, from: &str) -> Result<Vec<Endpoint>, Error> {
    let invalid = |what: &str| {
        Error::argument(
            Status::InvalidEndpoint,
            "region",
            format_args!("{from} has its endpoint, which is invalid: {what}"),
        )
    };
    let endpoints = urls
        .map(|url| {
            Endpoint::parse_service(url, "a URL there")
                .map_err(|e| invalid(&format!("a URL there {}", e.problem())))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
        return Err(invalid(&format!(
            "it has {} URLs instead of 1 to {MAX_ENDPOINTS}",
            endpoints.len()
        )));
    }
    Ok(endpoints)
}

/// Reads a region's URLs from the regions file. None if the file or the region is
/// missing.
fn read(path: &Path, named: bool, region: &str) -> Result<Option<Vec<String>>, Error> {
    let file = match sys::read_small_file(path, LIMIT) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !named => return Ok(None),
        Err(e) => {
            return Err(Error::os(
                Status::File,
                format_args!("cannot read the regions file {}", path.display()),
                &e,
            )
            .with_path(path));
        }
    };
    // The parser makes many small allocations for each line.
    memory::probe(file.bytes.len() * 64)?;
    parse(&file.bytes, region).map_err(|what| {
        Error::argument(
            Status::InvalidEndpoint,
            "region",
            format_args!("the regions file {} {what}", path.display()),
        )
    })
}

pub(crate) fn parse(bytes: &[u8], region: &str) -> Result<Option<Vec<String>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    look_up(&load(text.trim_start_matches('\u{feff}'))?, region)
}

/// The subset of YAML that a regions file needs.
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        let Node::Map(pairs) = self else {
            return None;
        };
        // As in Python, the last one counts.
        pairs
            .iter()
            .rev()
            .find(|(k, _)| k.text() == Some(key))
            .map(|(_, v)| v)
    }

    fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A node that is not complete yet. A map has a key without its value.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

/// Parses the first document of a text. An empty text is an empty list.
fn load(text: &str) -> Result<Node, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        // The parser's message could quote the file, so it is not used.
        let (event, span) = event.map_err(|e| format!("is not valid YAML at line {}", e.marker().line()))?;
        let line = span.start.line();
        let node = match event {
            Event::Scalar(value, ..) => Node::Text(value.into_owned()),
            // Aliases would have to be copied, and a few of them can expand to billions
            // of nodes.
            Event::Alias(_) => return Err(format!("has an alias at line {line}, which is not supported")),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_DEPTH => {
                return Err(format!("is nested too deeply at line {line}"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Node::List(items),
                Some(Open::Map(pairs, _)) => Node::Map(pairs),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => return Ok(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(pairs, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
    }
    Ok(Node::List(Vec::new()))
}

/// Returns the URLs of a region: those of the list `endpoints`, then the single
/// `endpoint`.
fn look_up(document: &Node, region: &str) -> Result<Option<Vec<String>>, String> {
    let services = match document {
        Node::Map(pairs) => pairs,
        Node::List(items) if items.is_empty() => return Ok(None),
        Node::Text(text) if text.is_empty() => return Ok(None),
        _ => return Err("is not a map of services".into()),
    };
    let is_ours = |key: &Node| key.text().is_some_and(|name| name.eq_ignore_ascii_case(SERVICE));
    for (_, regions) in services.iter().filter(|(key, _)| is_ours(key)) {
        let Node::List(regions) = regions else {
            return Err(format!("has no list of regions for {SERVICE}"));
        };
        let wanted = |entry: &&Node| entry.get("id").and_then(Node::text) == Some(region);
        // As in Python, the last one counts.
        let Some(entry) = regions.iter().rev().find(wanted) else {
            continue;
        };
        let mut urls = Vec::new();
        let invalid = |key| format!("has {key} for {region} in an unsupported form");
        match entry.get("endpoints") {
            Some(Node::List(items)) => {
                for item in items {
                    urls.push(item.text().ok_or_else(|| invalid("endpoints"))?.to_owned());
                }
            }
            None => {}
            Some(Node::Text(text)) if text.is_empty() => {}
            Some(_) => return Err(invalid("endpoints")),
        }
        match entry.get("endpoint") {
            Some(Node::Text(url)) if !url.is_empty() => urls.push(url.clone()),
            None | Some(Node::Text(_)) => {}
            Some(_) => return Err(invalid("an endpoint")),
        }
        if !urls.is_empty() {
            return Ok(Some(urls));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, region: &str) -> Result<Option<Vec<String>>, String> {
        load(text).and_then(|document| look_up(&document, region))
    }

    const FILE: &str = "# mine\n\
        ECS:\n  - id: cn-north-4\n    endpoint: https://no\n\
        dbss:\n  - id: 'cn-north-4'\n    endpoint: \"https://a\"\n\
        \x20 - {id: two, endpoints: [https://b, 'https://c'], endpoint: https://d}\n\
        \x20 - id: empty\n    endpoint:\n";

    #[test]
    fn regions_file_is_parsed_like_in_sdks() {
        let urls = |urls: &[&str]| Ok(Some(urls.iter().map(|u| (*u).to_owned()).collect()));
        assert_eq!(found(FILE, "cn-north-4"), urls(&["https://a"]));
        assert_eq!(found(FILE, "two"), urls(&["https://b", "https://c", "https://d"]));
        for other in ["empty", "three"] {
            assert_eq!(found(FILE, other), Ok(None));
        }
        for nothing in ["", "# nothing\n", "---\n", "ECS: []\n", "DBSS: []\n"] {
            assert_eq!(found(nothing, "two"), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn invalid_regions_file_is_refused() {
        let deep = "[".repeat(100_000);
        let aliases = "a: &a [x, x]\nb: &b [*a, *a]\nDBSS: *b\n";
        for (text, says) in [
            ("DBSS: [", "YAML"),
            ("DBSS: {id: two}", "no list of regions"),
            ("- DBSS", "not a map"),
            ("DBSS: [{id: two, endpoints: {a: b}}]", "endpoints for two"),
            ("DBSS: [{id: two, endpoint: [x]}]", "an endpoint for two"),
            (aliases, "alias"),
            (&"[".repeat(40), "nested too deeply"),
            (&deep, "YAML"),
        ] {
            let what = found(text, "two").expect_err(says);
            assert!(what.contains(says), "{what}");
        }
    }

    #[test]
    fn iam_endpoint_of_region_is_used_if_it_exists() {
        for (region, host) in [
            (Some("cn-north-4"), "iam.cn-north-4.myhuaweicloud.com"),
            (Some("eu-west-0"), "iam.eu-west-0.myhuaweicloud.com"),
            (Some("eu-west-101"), "iam.eu-west-101.myhuaweicloud.eu"),
            (Some("cn-north-11"), "iam.myhuaweicloud.com"),
            (Some("xx-new-1"), "iam.myhuaweicloud.com"),
            (None, "iam.myhuaweicloud.com"),
        ] {
            let iam = iam(region).expect("a name");
            assert_eq!(iam.origin(), format!("https://{host}"));
        }
    }

    #[test]
    fn every_region_of_the_sdks_but_six_has_its_own_iam() {
        let others = [
            "af-north-1",
            "ap-southeast-5",
            "cn-north-11",
            "cn-south-4",
            "cn-southwest-3",
            "ru-northwest-2",
        ];
        for region in KNOWN.iter().chain(&["ae-ad-1", "eu-west-0", "na-mexico-1"]) {
            let own = iam(Some(region)).expect("a name").origin() != "https://iam.myhuaweicloud.com";
            assert_eq!(own, !others.contains(region), "{region}");
        }
        assert_eq!((KNOWN.len(), WITH_IAM.len()), (31, 27));
    }

    #[test]
    fn variable_takes_precedence_over_name_and_may_have_several_urls() {
        let environment = |name: &str| {
            let value = match name {
                "HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4" => "https://a.example, b.example",
                "HUAWEICLOUD_SDK_REGION_DBSS_BAD" => "ftp://b.example",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        let origins = |region: &str| {
            let (endpoints, says) = endpoints(region, &environment)?;
            let origins: Vec<String> = endpoints.iter().map(Endpoint::origin).collect();
            Ok::<_, Error>((origins.join(" "), says))
        };
        let variable = EndpointSource::Variable("HUAWEICLOUD_SDK_REGION_DBSS_CN_NORTH_4".into());
        assert_eq!(
            origins("cn-north-4").expect("two"),
            ("https://a.example https://b.example".into(), variable)
        );
        for (region, says) in [
            ("cn-south-1", EndpointSource::Known),
            ("xx-new-1", EndpointSource::Name),
        ] {
            let url = format!("https://dbss.{region}.myhuaweicloud.com");
            assert_eq!(origins(region).expect("a name"), (url, says));
        }
        for (region, says) in [
            ("eu-west-101", EndpointSource::Known),
            ("eu-west-102", EndpointSource::Name),
        ] {
            let url = format!("https://dbss.{region}.myhuaweicloud.eu");
            assert_eq!(origins(region).expect("a name"), (url, says));
        }
        let error = origins("bad").expect_err("no URL");
        assert_eq!(error.status(), Status::InvalidEndpoint);
        assert!(
            error.message().contains("HUAWEICLOUD_SDK_REGION_DBSS_BAD"),
            "{error}"
        );
    }
}
