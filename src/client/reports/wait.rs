//! Waiting for a report that the service makes, and having one made.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::arguments::digits;
use crate::client::download::report::ReportRequest;
use crate::client::inner::ClientInner;
use crate::client::reports::cursor::Cursor;
use crate::client::reports::list::List;
use crate::client::reports::manage::NewReport;
use crate::client::reports::page::Item;
use crate::error::{Error, Status};
use crate::http::Call;
use crate::log::{Level, LogRecord};
use crate::memory;
use crate::operation::{ActiveOperation, Operation};

const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// How much of a list is kept in memory, in bytes of the service's pages.
const MAX_LIST: usize = 32 * 1024 * 1024;

/// So few digits of a time are no time to compare.
const DIGITS_OF_A_DAY: usize = 8;

/// The looks at something that is being made.
struct Poller {
    until: Option<Instant>,
    limit: Option<Duration>,
    interval: Duration,
    longest: Duration,
}

impl Poller {
    fn new(client: &ClientInner, operation: &Operation) -> Poller {
        let overrides = operation.overrides();
        let limit = overrides.wait_timeout.unwrap_or(client.wait_timeout);
        let interval = overrides.poll_interval.unwrap_or(client.poll_interval);
        Poller {
            until: limit.and_then(|limit| Instant::now().checked_add(limit)),
            limit,
            interval,
            longest: LONGEST_INTERVAL.max(interval),
        }
    }

    /// Waits until the next look; `what` is what did not come.
    fn pause(&mut self, call: &Call, what: &str) -> Result<(), Error> {
        // A fifth more or less, so that many who began together part.
        let pause = self.interval.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.interval = self.interval.mul_f64(1.5).min(self.longest);
        // The last look is at the very end.
        let left = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        let pause = left.map_or(pause, |left| left.min(pause));
        if pause.is_zero() {
            let ms = self.limit.unwrap_or_default().as_millis();
            return Err(Error::new(
                Status::NotReady,
                format!("{what} within wait_timeout_ms ({ms} ms)"),
            ));
        }
        if !call.pause(pause)? {
            return Err(Error::new(
                Status::TotalTimeout,
                format!("{what} within total_timeout_ms"),
            ));
        }
        Ok(())
    }
}

impl ClientInner {
    /// Waits until a report is ready.
    pub(crate) fn wait_for_report(
        self: &Arc<ClientInner>,
        project: Option<&str>,
        instance: &str,
        id: &str,
        active: Option<ActiveOperation>,
    ) -> Result<(), Error> {
        let request = ReportRequest::new(project, instance, id, None)?;
        self.run(active, request.subject(), |active| {
            let looks = Poller::new(self, active.operation());
            self.run_request(&active, |call| {
                let project = self.project(call, project)?;
                self.wait_in(call, &project, instance, id, looks)
            })
        })
    }

    fn wait_in(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        instance: &str,
        id: &str,
        mut looks: Poller,
    ) -> Result<(), Error> {
        // Its name, once it is known, spares the service the whole list.
        let mut name: Option<String> = None;
        loop {
            let list = List::reports(instance, name.as_deref())?;
            let found = self.search(call, project, list, |item| item.id() == id)?;
            let Some(item) = found.into_iter().next() else {
                return Err(Error::new(
                    Status::NotFound,
                    format!("the instance has no report {id}, or not any more; check the ids"),
                ));
            };
            let percent = item.percentum();
            call.operation().set_percent(percent.unwrap_or_default());
            if percent == Some(100) {
                // The last word of the progress callback.
                return call.operation().tick();
            }
            name = item
                .get("name")
                .filter(|name| (1..=256).contains(&name.len()))
                .map(str::to_owned);
            looks.pause(call, &format!("the report {id} was not ready"))?;
        }
    }

    /// The first item of a list that is looked for, or all of them for a search
    /// that goes on; see `List`.
    fn search(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        list: List,
        is_it: impl Fn(&Item) -> bool,
    ) -> Result<Vec<Item>, Error> {
        let cursor = Cursor::new(Arc::clone(self), Some(project), list, 0)?;
        while let Some(page) = cursor.next_in(call)? {
            let found: Vec<Item> = page.items.into_iter().filter(&is_it).collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Calls a function with the items of each page of a list.
    pub(crate) fn each_page(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        list: List,
        mut each: impl FnMut(Vec<Item>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cursor = Cursor::new(Arc::clone(self), Some(project), list, 0)?;
        while let Some(page) = cursor.next_in(call)? {
            each(page.items)?;
        }
        Ok(())
    }

    /// Has a report made, waits until it is ready, and gives its id.
    pub(crate) fn generate_report(
        self: &Arc<ClientInner>,
        report: &NewReport,
        active: Option<ActiveOperation>,
    ) -> Result<String, Error> {
        self.run(active, "generation of a report".into(), |active| {
            let mut looks = Poller::new(self, active.operation());
            self.run_request(&active, |call| {
                let project = self.project(call, report.project.as_deref())?;
                let reports = || List::reports(&report.instance, None);
                let templates = List::templates(&report.instance)?;
                let template = self
                    .search(call, &project, templates, |item| {
                        item.id() == report.spec.get("template_id")
                    })?
                    .into_iter()
                    .next();
                let Some(template) = template else {
                    return Err(Error::argument(
                        Status::NotFound,
                        "template_id",
                        format_args!("the instance has no template {}", report.spec.get("template_id")),
                    ));
                };
                // Hashes, as in a cursor: the list may be long.
                let hasher = RandomState::new();
                let hash = |item: &Item| hasher.hash_one(item.id());
                let mut before = HashSet::new();
                self.each_page(call, &project, reports()?, |items| {
                    before
                        .try_reserve(items.len())
                        .map_err(|_| memory::out_of_memory())?;
                    before.extend(items.iter().map(&hash));
                    Ok(())
                })?;
                self.create_in(call, &project, report)?;
                call.operation().set_percent(0);
                // The service gives no id: the new report is the one that was not
                // there before, and is what was asked for.
                let id = loop {
                    let mut new = Vec::new();
                    let mut kept = 0;
                    self.each_page(call, &project, reports()?, |mut items| {
                        let bytes = items.first().map_or(0, Item::page_bytes);
                        items.retain(|item| !before.contains(&hash(item)));
                        if !items.is_empty() {
                            kept += bytes;
                        }
                        if kept > MAX_LIST {
                            return Err(Error::new(
                                Status::UnexpectedResponse,
                                "the report was created, but the service's list has far more new ones than it should",
                            ));
                        }
                        memory::reserve(&mut new, items.len())?;
                        new.append(&mut items);
                        Ok(())
                    })?;
                    match &candidates(&new, report, &template)[..] {
                        [] => looks.pause(call, "the report that was created did not appear in the list")?,
                        [item] => break item.id().to_owned(),
                        several => {
                            let ids: Vec<&str> = several.iter().map(|item| item.id()).collect();
                            let message = format!(
                                "the report was created, but it cannot be told from others that appeared with it: {}",
                                ids.join(", ")
                            );
                            let ids = ids.into_iter().map(str::to_owned).collect();
                            return Err(Error::new(Status::Ambiguous, message).with_candidates(ids));
                        }
                    }
                };
                self.log(Level::Info, || LogRecord {
                    report_id: Some(id.clone()),
                    ..LogRecord::new(format!("the report that was created is {id}"))
                });
                self.wait_in(call, &project, &report.instance, &id, looks)?;
                Ok(id)
            })
        })
    }
}

/// Those of the new reports that can be the one that was asked for: of its time
/// range, and where that leaves several, of its template's name and type. How a
/// report is named after its template is nowhere documented, so a name that is
/// another alone excludes none.
fn candidates<'a>(new: &'a [Item], report: &NewReport, template: &Item) -> Vec<&'a Item> {
    let same_time = |item: &Item, field| {
        let time = item.get(field);
        time.is_none_or(|time| is_same_time(time, report.spec.get(field)))
    };
    let mut candidates: Vec<&Item> = new
        .iter()
        .filter(|item| {
            ["start_time", "end_time"]
                .iter()
                .all(|field| same_time(item, field))
        })
        .collect();
    let has_name = |item: &Item| {
        let names = item.get("name").zip(template.get("name"));
        names.is_some_and(|(own, templates)| own.contains(templates))
    };
    let has_type = |item: &Item| {
        let of = template.get("type");
        of.is_some() && (item.get("type") == of || item.get("template_type") == of)
    };
    for fits in [&has_name as &dyn Fn(&Item) -> bool, &has_type] {
        if candidates.len() > 1 && candidates.iter().any(|item| fits(item)) {
            candidates.retain(|item| fits(item));
        }
    }
    candidates
}

/// Whether two texts are one time, however each of them is written: by their
/// digits, as far as both have them.
fn is_same_time(one: &str, other: &str) -> bool {
    let (one, other) = (digits(one), digits(other));
    if one.len().min(other.len()) < DIGITS_OF_A_DAY {
        return true;
    }
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_however_they_are_written() {
        for (one, other, same) in [
            ("2026-11-24 00:00:00", "2026-11-24T00:00:00Z", true),
            ("2026-11-24", "2026-11-24 00:00:00", true),
            ("2026-11-24 00:00:00", "2026-11-25 00:00:00", false),
            ("", "2026-11-24", true),
            ("soon", "2026-11-24", true),
        ] {
            assert_eq!(is_same_time(one, other), same, "{one} {other}");
        }
    }
}
