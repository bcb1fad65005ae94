//! The calls.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use dbss::mirror::MirrorOptions;
use dbss::{Client, Error, Items, Overwrite, Report, ReportSpec, ReportStream, ScheduleChanges};
use serde_json::{Value, json};

use crate::json::{
    Failure, Outcome, bytes, identity_fields, item_fields, mirror_fields, optional_text, report_fields,
    saved, text,
};
use crate::{Driver, lock};

/// A file that takes only so many bytes.
struct Limited {
    file: File,
    left: Option<u64>,
}

impl Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf.len() as u64;
        match &mut self.left {
            Some(left) if *left <= len => return Err(io::Error::other("the driver's writer is full")),
            Some(left) => *left -= len,
            None => {}
        }
        self.file.write_all(buf)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads so many bytes of a stream, or all, into a file; returns whether it is at its end.
fn read(
    mut stream: &ReportStream,
    size: Option<usize>,
    at_once: usize,
    mut into: impl Write,
) -> Result<bool, Failure> {
    let mut left = size.unwrap_or(usize::MAX);
    let mut buffer = vec![0; at_once];
    while left > 0 {
        let wanted = left.min(at_once);
        let n = stream.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Ok(true);
        }
        into.write_all(&buffer[..n])?;
        left -= n;
    }
    Ok(false)
}

fn path(value: &Value) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(OsString::from_vec(bytes(value)?)))
}

fn number(value: &Value) -> Result<Option<usize>, Failure> {
    match value.as_u64() {
        _ if value.is_null() => Ok(None),
        Some(number) => Ok(usize::try_from(number).ok()),
        None => Err(Failure::Unsupported(format!("the number {value}"))),
    }
}

/// Sets all keys of an object.
fn set_all<T: Default>(
    values: &Value,
    set: impl Fn(&mut T, &str, Vec<u8>) -> Result<(), Error>,
) -> Result<T, Failure> {
    let mut all = T::default();
    for (key, value) in values.as_object().into_iter().flatten() {
        set(&mut all, key, bytes(value)?)?;
    }
    Ok(all)
}

fn spec(arguments: &Value) -> Result<ReportSpec, Failure> {
    set_all(&arguments["spec"], |spec: &mut ReportSpec, key, value| {
        spec.set(key, value)
    })
}

/// The file for what a call receives.
fn output(arguments: &Value) -> Result<File, Failure> {
    Ok(File::create(path(&arguments["into"])?)?)
}

/// The file of a call to a descriptor.
fn target(arguments: &Value) -> Result<File, Failure> {
    let open = &arguments["open"];
    if open.is_null() {
        return output(arguments);
    }
    let mode = open["mode"].as_str().unwrap_or_default();
    let mut file = OpenOptions::new()
        .read(mode.starts_with('r'))
        .write(mode.starts_with('w') || mode == "r+")
        .append(mode == "a")
        .truncate(mode == "w")
        .create(!mode.starts_with('r'))
        .open(path(&open["path"])?)?;
    if let Some(offset) = open["offset"].as_u64() {
        file.seek(SeekFrom::Start(offset))?;
    }
    Ok(file)
}

fn report(arguments: &Value) -> Result<Report, Failure> {
    let report = Report::new(text(&arguments["instance"])?, text(&arguments["id"])?);
    Ok(match optional_text(&arguments["locale"])? {
        Some(locale) => report.locale(locale.parse()?),
        None => report,
    })
}

fn list(items: Items, arguments: &Value) -> Outcome {
    if arguments["keep"] == true {
        return Err(Failure::Unsupported("next_page".to_owned()));
    }
    let size = number(&arguments["page_size"])?.unwrap_or_default();
    let size = u32::try_from(size).map_err(|e| Failure::Unsupported(e.to_string()))?;
    let mut items = items.page_size(size);
    let found = items.by_ref().map(|item| {
        let item = item?;
        Ok(item_fields(&item, &arguments["fields"]))
    });
    let found = found.collect::<Result<Vec<_>, Error>>()?;
    Ok(json!({"items": found, "total": items.total()}))
}

impl Driver {
    fn stream(&self, arguments: &Value) -> Result<Arc<ReportStream>, Failure> {
        let name = text(&arguments["stream"])?;
        let stream = lock(&self.streams).get(&name).cloned();
        stream.ok_or_else(|| Failure::Unsupported(format!("a stream {name}")))
    }

    pub fn make(&self, client: &Client, request: &Value) -> Outcome {
        let arguments = &request["arguments"];
        let instance = || text(&arguments["instance"]);
        let template = || text(&arguments["template"]);
        let overwrite = match arguments["replace"] == true {
            true => Overwrite::Yes,
            false => Overwrite::No,
        };
        let with_project;
        let client = match optional_text(&arguments["project"])? {
            Some(project) => {
                with_project = client.with_project(&project);
                &with_project
            }
            None => client,
        };
        match request["call"].as_str().unwrap_or_default() {
            "check" => client.check()?,
            "find_credentials" => return Ok(identity_fields(&client.find_credentials()?)),
            "set_token" => client.set_token(bytes(&arguments["token"])?)?,
            "download" | "download_to_memory" => {
                let bytes = client.download(&report(arguments)?)?;
                output(arguments)?.write_all(&bytes)?;
            }
            "download_to_file" => {
                let path = path(&arguments["path"])?;
                client.download_to_file(&report(arguments)?, &path, overwrite)?;
                return Ok(saved(&path));
            }
            "download_to_directory" => {
                let directory = path(&arguments["directory"])?;
                let path = client.download_to_directory(&report(arguments)?, directory, overwrite)?;
                return Ok(saved(&path));
            }
            "download_to_descriptor" => {
                client.download_to_fd(&report(arguments)?, target(arguments)?)?;
            }
            "download_to_callback" => {
                let writer = Limited {
                    file: output(arguments)?,
                    left: arguments["fail_after"].as_u64(),
                };
                client.download_to_writer(&report(arguments)?, writer)?;
            }
            "open_report" => {
                let stream = client.open(&report(arguments)?)?;
                let result = report_fields(stream.info());
                if arguments["keep"] == true {
                    let name = text(arguments.get("as").unwrap_or(&request["as"]))?;
                    lock(&self.streams).insert(name, Arc::new(stream));
                } else {
                    let at_once = number(&arguments["read_size"])?.unwrap_or(65_536);
                    read(&stream, None, at_once, output(arguments)?)?;
                    stream.close();
                }
                return Ok(result);
            }
            "read_stream" => {
                let stream = self.stream(arguments)?;
                let at_end = read(&stream, number(&arguments["size"])?, 65_536, output(arguments)?)?;
                return Ok(json!({"at_end": at_end}));
            }
            "close_stream" => self.stream(arguments)?.close(),
            "instances" => return list(client.instances(), arguments),
            "reports" => {
                let items = client.reports(&instance()?);
                let items = match optional_text(&arguments["name"])? {
                    Some(name) => items.name(&name),
                    None => items,
                };
                return list(items, arguments);
            }
            "templates" => return list(client.templates(&instance()?), arguments),
            "databases" => {
                let items = client.databases(&instance()?);
                let items = match optional_text(&arguments["status"])? {
                    Some(status) => items.status(&status),
                    None => items,
                };
                return list(items, arguments);
            }
            "schedule" => {
                let found = client.schedule(&instance()?, &template()?)?;
                return Ok(item_fields(&found, &arguments["fields"]));
            }
            "update_schedule" => {
                let changes = set_all(
                    &arguments["changes"],
                    |changes: &mut ScheduleChanges, key, value| changes.set(key, value),
                )?;
                client.update_schedule(&instance()?, &template()?, &changes)?;
            }
            "create" => client.create(&instance()?, &spec(arguments)?)?,
            "generate" => {
                let id = client.generate(&instance()?, &spec(arguments)?)?;
                return Ok(json!({"id": id}));
            }
            "wait" => client.wait(&report(arguments)?)?,
            "delete" => client.delete(&report(arguments)?)?,
            "mirror" => {
                let options = set_all(
                    &arguments["options"],
                    |options: &mut MirrorOptions, key, value| options.set(key, value),
                )?;
                let result = client.mirror(path(&arguments["directory"])?, &options)?;
                return Ok(mirror_fields(&result));
            }
            other => return Err(Failure::Unsupported(format!("the call {other}"))),
        }
        Ok(json!({}))
    }
}
