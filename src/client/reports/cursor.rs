//! Reading a list page by page.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, TryLockError};

use ::http::Method;

use crate::client::arguments::check_project;
use crate::client::document;
use crate::client::executor::Subject;
use crate::client::inner::ClientInner;
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, Request, Response};
use crate::memory;
use crate::operation::ActiveOperation;

use crate::client::reports::list::{JSON, List};
use crate::client::reports::page::{Item, Page};

/// The service's own default and bounds of `limit` (ListAuditInstances).
const DEFAULT_SIZE: u32 = 100;
const LARGEST_SIZE: u32 = 1000;

/// So often in a row a page is read again because items went meanwhile.
const STEPS_BACK: u32 = 16;

/// So many pages in a row that are the same are a list that does not move.
const SAME_PAGES: u32 = 3;

/// So many pages in a row without a new item are no list either.
const PAGES_WITHOUT_NEWS: u32 = 10_000;

/// More items than any list has. One that never ends comes to an end here.
const MAX_ITEMS: usize = 1_000_000;

/// A list that is being read; see `dbss_cursor`.
pub struct Cursor {
    client: Arc<ClientInner>,
    project: Option<String>,
    list: List,
    size: u32,
    position: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// How many items of the list were passed.
    offset: u64,
    /// How many a page has that is asked for by its number, where that is less than
    /// was asked for.
    width: Option<u64>,
    total: Option<u64>,
    hasher: RandomState,
    /// Hashes of the ids that have come: a few bytes for each. With random keys,
    /// two of a million have the same one in one list of 40 million.
    seen: HashSet<u64>,
    without_news: u32,
    /// A hash of the last page's ids, where it was, and how often it came again
    /// elsewhere.
    last_ids: u64,
    last_from: u64,
    same: u32,
    steps_back: u32,
    ended: bool,
}

impl Cursor {
    /// Begins a list; no request is sent. `size` 0 is the service's default.
    pub(crate) fn new(
        client: Arc<ClientInner>,
        project: Option<&str>,
        list: List,
        size: u32,
    ) -> Result<Cursor, Error> {
        check_project(project)?;
        if size > LARGEST_SIZE {
            return Err(Error::argument(
                Status::InvalidValue,
                "page_size",
                format_args!("must be at most {LARGEST_SIZE}, or 0 for {DEFAULT_SIZE}, and is {size}"),
            ));
        }
        Ok(Cursor {
            client,
            project: project.map(str::to_owned),
            list,
            size: if size == 0 { DEFAULT_SIZE } else { size },
            position: Mutex::new(Position::default()),
        })
    }

    /// The next page that has something new; none at the end.
    pub fn next(&self, active: Option<ActiveOperation>) -> Result<Option<Page>, Error> {
        let subject = Subject {
            text: format!("list of {}", self.list.name()),
            report_id: None,
        };
        self.client.run(active, subject, |active| {
            self.client.run_request(&active, |call| self.next_in(call))
        })
    }

    /// The same within a call that does more.
    pub(crate) fn next_in(&self, call: &Arc<Call>) -> Result<Option<Page>, Error> {
        let project = self.client.project(call, self.project.as_deref())?;
        // One page at a time: a second caller waits for its turn in no lock, but
        // is told.
        let Ok(mut place) = self.position.try_lock().or_else(|e| match e {
            TryLockError::Poisoned(e) => Ok(e.into_inner()),
            TryLockError::WouldBlock => Err(()),
        }) else {
            return Err(Error::argument(
                Status::Busy,
                "cursor",
                "is used by another call at the moment; use one for each thread",
            ));
        };
        while !place.ended {
            let by_number = matches!(self.list, List::Reports { .. });
            let width = place.width.unwrap_or(self.size.into());
            let asked_from = self.list.aligned(place.offset, width);
            let (total, items) = self.fetch(call, &project, asked_from, width)?;
            // Before anything is remembered: the page may be asked for again.
            if place.seen.try_reserve(items.len()).is_err() {
                return Err(memory::out_of_memory());
            }
            let count = items.len() as u64;
            let mut ids = place.hasher.build_hasher();
            items.iter().for_each(|item| item.id().hash(&mut ids));
            let ids = ids.finish();
            let again = count > 0 && ids == place.last_ids && asked_from != place.last_from;
            place.same = if again { place.same + 1 } else { 0 };
            (place.last_ids, place.last_from) = (ids, asked_from);
            // Items that went meanwhile moved the others towards the front, and
            // some of them past the place: those are read once more.
            let gone = match (place.total, total) {
                (Some(before), Some(now)) => before.saturating_sub(now),
                _ => 0,
            };
            place.total = total.or(place.total);
            if gone > 0 && place.offset > 0 && place.steps_back < STEPS_BACK {
                place.offset = place.offset.saturating_sub(gone);
                place.steps_back += 1;
                continue;
            }
            place.steps_back = 0;
            let is_short = count > 0 && count < width && total.is_none_or(|total| asked_from + count < total);
            let passed = match is_short && by_number {
                // The service gives fewer than it was asked for, and counts pages of
                // that size.
                true if asked_from == 0 => {
                    place.width = Some(count);
                    count
                }
                true => width,
                false => count,
            };
            place.offset = place.offset.max(asked_from + passed);
            let past_the_end = total.is_some_and(|total| place.offset >= total);
            // A list that tells no total ends with a page that is not full.
            let not_full = total.is_none() && count < u64::from(self.size.min(DEFAULT_SIZE));
            let all_at_once = matches!(self.list, List::Templates { .. });
            place.ended = count == 0 || past_the_end || not_full || all_at_once;
            let mut new = items;
            let Position { seen, hasher, .. } = &mut *place;
            new.retain(|item| seen.insert(hasher.hash_one(item.id())));
            if place.seen.len() > MAX_ITEMS {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} has more than {MAX_ITEMS} items, which none has",
                        self.list.name()
                    ),
                ));
            }
            if !new.is_empty() {
                place.without_news = 0;
                return Ok(Some(Page {
                    list: self.list.name(),
                    items: new,
                    total: total.or(all_at_once.then_some(count)),
                }));
            }
            place.without_news += 1;
            let stuck = place.same >= SAME_PAGES || place.without_news >= PAGES_WITHOUT_NEWS;
            if stuck && !place.ended {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} gives the same items again and again",
                        self.list.name()
                    ),
                ));
            }
        }
        Ok(None)
    }

    fn fetch(
        &self,
        call: &Arc<Call>,
        project: &str,
        offset: u64,
        width: u64,
    ) -> Result<(Option<u64>, Vec<Item>), Error> {
        let body = self.list.body(offset, width, self.size)?;
        let request = |endpoint: &Endpoint| {
            let url = self.list.url(endpoint, project, offset, self.size)?;
            Ok(match self.list {
                List::Reports { .. } => Request {
                    method: Method::POST,
                    body: &body,
                    ..Request::get(url, &JSON)
                },
                _ => Request::get(url, &[]),
            })
        };
        self.client
            .fetch(call, project, request, |response| self.read(response))
    }

    fn read(&self, response: &mut Response) -> Result<(Option<u64>, Vec<Item>), Error> {
        let bytes = document::read(response, &self.list.error_context())?;
        self.list
            .parse(bytes, &|text| response.redact(text))
            .map_err(|e| match e.status() {
                Status::UnexpectedResponse => {
                    let what = format!("list of {}", self.list.name());
                    document::malformed(response, &what, e.message())
                }
                _ => e,
            })
    }
}
