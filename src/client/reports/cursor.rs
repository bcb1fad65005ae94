//! Reads a list page by page.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, TryLockError};

use ::http::Method;

use crate::client::arguments::check_project;
use crate::client::document;
use crate::client::inner::ClientInner;
use crate::client::run::Subject;
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, Request, Response};
use crate::memory;
use crate::operation::ActiveOperation;

use crate::client::reports::list::{JSON, List};
use crate::client::reports::page::{Item, Page};

/// The service's default of `limit`.
const DEFAULT_PAGE_SIZE: u32 = 100;

/// How often in a row a page is read again because items were deleted meanwhile.
const MAX_STEPS_BACK: u32 = 16;

/// This many equal pages in a row mean that the service ignores the offset.
const MAX_SAME_PAGES: u32 = 3;

/// The maximum number of pages in a row without a new item.
const MAX_PAGES_WITHOUT_NEW_ITEMS: u32 = 10_000;

/// More items than any real list has, as a limit for endless lists.
const MAX_ITEMS: usize = 1_000_000;

/// The position in a list; see `dbss_cursor`.
pub struct Cursor {
    client: Arc<ClientInner>,
    project: Option<String>,
    list: List,
    size: u32,
    position: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// The offset of the next item.
    offset: u64,
    /// The actual page size, if pages have numbers and the service returns fewer items
    /// than requested.
    width: Option<u64>,
    total: Option<u64>,
    hasher: RandomState,
    /// Hashes of the ids that were seen, to save memory. With random keys, a collision
    /// among a million ids has a probability of 1 in 40 million.
    seen: HashSet<u64>,
    pages_without_new_items: u32,
    /// A hash of the last page's ids, its offset, and how often it came again at other
    /// offsets.
    last_ids: u64,
    last_offset: u64,
    same_pages: u32,
    steps_back: u32,
    ended: bool,
}

impl Cursor {
    /// Begins a list without sending a request. `size` 0 means the default.
    pub(crate) fn new(
        client: Arc<ClientInner>,
        project: Option<&str>,
        list: List,
        size: u32,
    ) -> Result<Cursor, Error> {
        check_project(project)?;
        let max = list.max_page_size();
        if size > max {
            return Err(Error::argument(
                Status::InvalidValue,
                "page_size",
                format_args!("must be at most {max}, or 0 for {DEFAULT_PAGE_SIZE}, but is {size}"),
            ));
        }
        Ok(Cursor {
            client,
            project: project.map(str::to_owned),
            list,
            size: if size == 0 { DEFAULT_PAGE_SIZE } else { size },
            position: Mutex::new(Position::default()),
        })
    }

    /// Returns the next page with new items. None at the end.
    pub fn next(&self, active: Option<ActiveOperation>) -> Result<Option<Page>, Error> {
        let subject = Subject {
            text: format!("list of {}", self.list.name()),
            report_id: None,
        };
        self.client.run(active, subject, |active| {
            self.client.with_call(&active, |call| self.next_in(call))
        })
    }

    /// The same as part of another call.
    pub(crate) fn next_in(&self, call: &Arc<Call>) -> Result<Option<Page>, Error> {
        let project = self.client.project(call, self.project.as_deref())?;
        // Only one page at a time: a second caller gets an error instead of waiting.
        let Ok(mut position) = self.position.try_lock().or_else(|e| match e {
            TryLockError::Poisoned(e) => Ok(e.into_inner()),
            TryLockError::WouldBlock => Err(()),
        }) else {
            return Err(Error::argument(
                Status::Busy,
                "cursor",
                "is in use by another call; use one cursor for each thread",
            ));
        };
        while !position.ended {
            let by_number = matches!(self.list, List::Reports { .. });
            let width = position.width.unwrap_or(self.size.into());
            let requested_offset = self.list.page_start(position.offset, width);
            let (total, items) = self.fetch(call, &project, requested_offset, width)?;
            // Before the position changes, because the page may be requested again.
            if position.seen.try_reserve(items.len()).is_err() {
                return Err(memory::out_of_memory());
            }
            let count = items.len() as u64;
            let mut ids = position.hasher.build_hasher();
            items.iter().for_each(|item| item.id().hash(&mut ids));
            let ids = ids.finish();
            let is_repeated =
                count > 0 && ids == position.last_ids && requested_offset != position.last_offset;
            position.same_pages = if is_repeated { position.same_pages + 1 } else { 0 };
            (position.last_ids, position.last_offset) = (ids, requested_offset);
            // Deleted items moved the later ones towards the front, some of them before
            // the position: those are read again.
            let deleted = match (position.total, total) {
                (Some(before), Some(now)) => before.saturating_sub(now),
                _ => 0,
            };
            position.total = total.or(position.total);
            if deleted > 0 && position.offset > 0 && position.steps_back < MAX_STEPS_BACK {
                position.offset = position.offset.saturating_sub(deleted);
                position.steps_back += 1;
                continue;
            }
            position.steps_back = 0;
            let is_short =
                count > 0 && count < width && total.is_none_or(|total| requested_offset + count < total);
            let advance = match is_short && by_number {
                // The service returned fewer items than requested, and numbers its pages
                // by that size.
                true if requested_offset == 0 => {
                    position.width = Some(count);
                    count
                }
                true => width,
                false => count,
            };
            position.offset = position.offset.max(requested_offset + advance);
            let past_the_end = total.is_some_and(|total| position.offset >= total);
            // A list without a total ends with an incomplete page.
            let not_full = total.is_none() && count < u64::from(self.size.min(DEFAULT_PAGE_SIZE));
            let all_at_once = matches!(self.list, List::Templates { .. });
            position.ended = count == 0 || past_the_end || not_full || all_at_once;
            let mut new = items;
            let Position { seen, hasher, .. } = &mut *position;
            new.retain(|item| seen.insert(hasher.hash_one(item.id())));
            if position.seen.len() > MAX_ITEMS {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} has more than {MAX_ITEMS} items, which is not plausible",
                        self.list.name()
                    ),
                ));
            }
            if !new.is_empty() {
                position.pages_without_new_items = 0;
                return Ok(Some(Page {
                    list: self.list.name(),
                    items: new,
                    total: total.or(all_at_once.then_some(count)),
                }));
            }
            position.pages_without_new_items += 1;
            let stuck = position.same_pages >= MAX_SAME_PAGES
                || position.pages_without_new_items >= MAX_PAGES_WITHOUT_NEW_ITEMS;
            if stuck && !position.ended {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} repeats the same items",
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
