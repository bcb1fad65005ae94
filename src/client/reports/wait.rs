//! Generates a report, and waits until a report is ready.

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
use crate::message::{duration, name};
use crate::operation::{ActiveOperation, Operation};

const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// The maximum memory for new items, in bytes of the service's pages.
const MAX_NEW_ITEMS_BYTES: usize = 32 * 1024 * 1024;

/// Texts with fewer digits are not times that can be compared.
const MIN_DIGITS: usize = 8;

/// Polls the state of a report with increasing intervals.
struct Poller {
    deadline: Option<Instant>,
    limit: Option<Duration>,
    interval: Duration,
    max_interval: Duration,
}

impl Poller {
    fn new(client: &ClientInner, operation: &Operation) -> Poller {
        let overrides = operation.overrides();
        let limit = overrides.wait_timeout.unwrap_or(client.wait_timeout);
        let interval = overrides.poll_interval.unwrap_or(client.poll_interval);
        Poller {
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
            limit,
            interval,
            max_interval: MAX_INTERVAL.max(interval),
        }
    }

    /// Waits until the next poll. `what` describes the event that did not happen, for the
    /// error.
    fn pause(&mut self, call: &Call, what: &str) -> Result<(), Error> {
        // A random fifth more or less, so that clients that started together do not poll
        // together.
        let pause = self.interval.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.interval = self.interval.mul_f64(1.5).min(self.max_interval);
        // The last poll is exactly at the deadline.
        let remaining = self
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let pause = remaining.map_or(pause, |remaining| remaining.min(pause));
        if pause.is_zero() {
            return Err(Error::new(
                Status::NotReady,
                format!(
                    "{what} within {} ({})",
                    name("wait_timeout_ms"),
                    duration(self.limit.unwrap_or_default())
                ),
            ));
        }
        if !call.pause(pause)? {
            return Err(Error::new(
                Status::TotalTimeout,
                format!(
                    "{what} within {} ({})",
                    name("total_timeout_ms"),
                    duration(call.total_limit().unwrap_or_default())
                ),
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
            let poller = Poller::new(self, active.operation());
            self.with_call(&active, |call| {
                let project = self.project(call, project)?;
                self.wait_in(call, &project, instance, id, poller)
            })
        })
    }

    fn wait_in(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        instance: &str,
        id: &str,
        mut poller: Poller,
    ) -> Result<(), Error> {
        // Once the name is known, it filters the list.
        let mut name: Option<String> = None;
        loop {
            let list = List::reports(instance, name.as_deref())?;
            let found = self.search(call, project, list, |item| item.id() == id)?;
            let Some(item) = found.into_iter().next() else {
                return Err(Error::new(
                    Status::NotFound,
                    format!("the instance has no report {id}, or it was deleted; check the ids"),
                ));
            };
            let percent = item.percentum();
            call.operation().set_percent(percent.unwrap_or_default());
            if percent == Some(100) {
                // The progress callback gets its last chance to cancel.
                return call.operation().tick();
            }
            name = item
                .get("name")
                .filter(|name| (1..=256).contains(&name.len()))
                .map(str::to_owned);
            poller.pause(call, &format!("the report {id} was not ready"))?;
        }
    }

    /// Searches a list. Returns the matching items of the first page that has any.
    fn search(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        list: List,
        is_match: impl Fn(&Item) -> bool,
    ) -> Result<Vec<Item>, Error> {
        let cursor = Cursor::new(Arc::clone(self), Some(project), list, 0)?;
        while let Some(page) = cursor.next_in(call)? {
            let found: Vec<Item> = page.items.into_iter().filter(&is_match).collect();
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

    /// Creates a report, waits until it is ready, and returns its id.
    pub(crate) fn generate_report(
        self: &Arc<ClientInner>,
        report: &NewReport,
        active: Option<ActiveOperation>,
    ) -> Result<String, Error> {
        self.run(active, "generation of a report".into(), |active| {
            let poller = Poller::new(self, active.operation());
            self.with_call(&active, |call| {
                let project = self.project(call, report.project.as_deref())?;
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
                self.each_page(call, &project, List::reports(&report.instance, None)?, |items| {
                    before
                        .try_reserve(items.len())
                        .map_err(|_| memory::out_of_memory())?;
                    before.extend(items.iter().map(&hash));
                    Ok(())
                })?;
                self.create_in(call, &project, report)?;
                call.operation().set_percent(0);
                let is_new = |item: &Item| !before.contains(&hash(item));
                // The same call would create another one.
                self.wait_for_created(call, &project, report, &template, is_new, poller)
                    .map_err(|e| {
                        e.permanent()
                            .map_message(|text| format!("{text}; the report was created"))
                    })
            })
        })
    }

    /// Waits until the created report is ready, and returns its id.
    fn wait_for_created(
        self: &Arc<ClientInner>,
        call: &Arc<Call>,
        project: &str,
        report: &NewReport,
        template: &Item,
        is_new: impl Fn(&Item) -> bool,
        mut poller: Poller,
    ) -> Result<String, Error> {
        // The service returns no id, so the new report is the one that was not in
        // the list before and matches the spec.
        let id = loop {
            let mut new = Vec::new();
            let mut kept_bytes = 0;
            self.each_page(
                call,
                project,
                List::reports(&report.instance, None)?,
                |mut items| {
                    let bytes = items.first().map_or(0, Item::page_bytes);
                    items.retain(&is_new);
                    if !items.is_empty() {
                        kept_bytes += bytes;
                    }
                    if kept_bytes > MAX_NEW_ITEMS_BYTES {
                        return Err(Error::new(
                            Status::UnexpectedResponse,
                            "the service's list has far too many new reports",
                        ));
                    }
                    memory::reserve(&mut new, items.len())?;
                    new.append(&mut items);
                    Ok(())
                },
            )?;
            match &candidates(&new, report, template)[..] {
                [] => poller.pause(call, "the created report did not appear in the list")?,
                [item] => break item.id().to_owned(),
                several => {
                    let ids: Vec<&str> = several.iter().map(|item| item.id()).collect();
                    let message = format!(
                        "the report cannot be distinguished from others that appeared at the same time: {}",
                        ids.join(", ")
                    );
                    let ids = ids.into_iter().map(str::to_owned).collect();
                    return Err(Error::new(Status::Ambiguous, message).with_candidates(ids));
                }
            }
        };
        self.log(Level::Info, || LogRecord {
            report_id: Some(id.clone()),
            ..LogRecord::new(format!("the id of the created report is {id}"))
        });
        match self.wait_in(call, project, &report.instance, &id, poller) {
            Ok(()) => Ok(id),
            Err(e) => Err(e.with_candidates(vec![id])),
        }
    }
}

/// Returns the new reports that match the spec: those with its time range and, if that
/// leaves several, those with its template's name and type. It is not documented how a
/// report's name depends on its template. So names only choose between several
/// candidates, and never exclude the last one.
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
        let kind = template.get("type");
        kind.is_some() && (item.get("type") == kind || item.get("template_type") == kind)
    };
    for is_match in [&has_name as &dyn Fn(&Item) -> bool, &has_type] {
        if candidates.len() > 1 && candidates.iter().any(|item| is_match(item)) {
            candidates.retain(|item| is_match(item));
        }
    }
    candidates
}

/// Whether two texts are the same time in any notation. Compares their digits, up to the
/// shorter one's length.
fn is_same_time(one: &str, other: &str) -> bool {
    let (one, other) = (digits(one), digits(other));
    if one.len().min(other.len()) < MIN_DIGITS {
        return true;
    }
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_different_notations_are_compared() {
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
