//! Reads a list page by page.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, TryLockError};

use ::http::Method;

use crate::client::arguments::check_project;
use crate::client::inner::ClientInner;
use crate::client::run::Subject;
use crate::error::{Error, Status};
use crate::http::{Call, Endpoint, JSON, Request, Response};
use crate::memory;
use crate::message::{Part, PartKind};
use crate::operation::ActiveOperation;

use crate::client::reports::list::List;
use crate::client::reports::page::{Item, Page};

/// The service's default of `limit`.
const DEFAULT_PAGE_SIZE: u32 = 100;

/// How often in a row a page is read again because items were deleted meanwhile.
const MAX_STEPS_BACK: u32 = 16;

/// This many equal pages in a row mean that the service ignores the offset.
const MAX_SAME_PAGES: u32 = 3;

/// After this many empty pages in a row the rest of the list is taken to be empty.
const MAX_EMPTY_PAGES: u32 = 3;

/// How often in a row a list is read again, without new items, because the service's total
/// says that there are more: it may change the order meanwhile.
const MAX_PASSES_WITHOUT_NEW_ITEMS: u32 = 3;

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
    /// Whether the total ever decreased.
    had_deletions: bool,
    /// Whether the service's total was smaller than what came.
    is_total_wrong: bool,
    hasher: RandomState,
    /// Hashes of the ids that were seen, to save memory. With random keys, a collision
    /// among a million ids has a probability of 1 in 40 million.
    seen: HashSet<u64>,
    pages_without_new_items: u32,
    /// Hashes of the ids of the first page and of the last one, the latter's offset, and how
    /// often it came again at other offsets.
    first_ids: u64,
    last_ids: u64,
    last_offset: u64,
    same_pages: u32,
    empty_pages: u32,
    steps_back: u32,
    /// Whether this is not the first time that the list is read, and how many items were
    /// known when this pass began.
    is_repeat: bool,
    known_before: usize,
    passes_without_new_items: u32,
    ended: bool,
}

impl Position {
    /// Ends the list, or begins it again if items are missing: the service may have moved
    /// them to pages that were read before.
    fn end_pass(&mut self, missing: bool) {
        let is_useless = self.is_repeat && self.seen.len() == self.known_before;
        self.passes_without_new_items = match is_useless {
            true => self.passes_without_new_items + 1,
            false => 0,
        };
        self.ended = !missing || self.passes_without_new_items >= MAX_PASSES_WITHOUT_NEW_ITEMS;
        self.is_repeat = true;
        self.known_before = self.seen.len();
        (self.offset, self.width) = (0, None);
        (self.last_ids, self.same_pages, self.empty_pages) = (0, 0, 0);
        self.pages_without_new_items = 0;
    }
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
                format_args!(
                    "must be from 1 to {max}, or 0 for {DEFAULT_PAGE_SIZE}, but is {}",
                    Part(PartKind::Value, size)
                ),
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
                "serves another call at the moment; use one for each call",
            ));
        };
        while !position.ended {
            let by_number = matches!(self.list, List::Reports { .. });
            let all_at_once = matches!(self.list, List::Templates { .. });
            let size = u64::from(self.size);
            let width = position.width.unwrap_or(size);
            let requested_offset = self.list.page_start(position.offset, width);
            let (announced, items) = self.fetch(call, &project, requested_offset, width)?;
            let total = announced.filter(|_| !position.is_total_wrong);
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
            position.empty_pages = if count == 0 { position.empty_pages + 1 } else { 0 };
            if requested_offset == 0 {
                position.first_ids = ids;
            }
            (position.last_ids, position.last_offset) = (ids, requested_offset);
            // Deleted items moved the later ones towards the front, some of them before
            // the position: those are read again.
            let deleted = match (position.total, total) {
                (Some(before), Some(now)) => before.saturating_sub(now),
                _ => 0,
            };
            position.total = total.or(position.total);
            position.had_deletions |= deleted > 0;
            if deleted > 0 && position.offset > 0 && position.steps_back < MAX_STEPS_BACK {
                position.offset = position.offset.saturating_sub(deleted);
                position.steps_back += 1;
                continue;
            }
            if by_number && requested_offset == 0 && count > 0 {
                // The service numbers its pages by the size that it returns.
                position.width = Some(count);
            }
            let advance = match by_number {
                true => position.width.unwrap_or(size),
                false if count == 0 => size,
                false => count,
            };
            position.offset = position.offset.max(requested_offset + advance);
            let mut new = items;
            let Position { seen, hasher, .. } = &mut *position;
            new.retain(|item| seen.insert(hasher.hash_one(item.id())));
            let known = position.seen.len();
            if known > MAX_ITEMS {
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} has more than {MAX_ITEMS} items, which is not plausible",
                        self.list.name()
                    ),
                ));
            }
            if new.is_empty() {
                position.pages_without_new_items += 1;
            } else {
                position.pages_without_new_items = 0;
                position.steps_back = 0;
            }
            // If the total is smaller than what came, items were deleted, or it is wrong. Then
            // only the pages tell where the end is. A full page may not be the last one,
            // whatever the total says.
            position.is_total_wrong |=
                !position.had_deletions && total.is_some_and(|total| total < known as u64);
            let missing = total.is_some_and(|total| total > known as u64);
            let is_first = ids == position.first_ids;
            let past_the_end = match total {
                Some(total) if total >= known as u64 => {
                    position.offset >= total && (count < size || new.is_empty())
                        || position.empty_pages >= MAX_EMPTY_PAGES
                        || position.is_repeat && !missing
                }
                _ => count == 0 || is_repeated && !(is_first && count >= size),
            };
            let too_many = position.same_pages >= MAX_SAME_PAGES;
            if all_at_once {
                position.ended = true;
            } else if past_the_end || too_many && !is_first {
                position.end_pass(missing);
            }
            let ignores_offset = too_many && (missing || count >= size) || position.ended && missing;
            if is_repeated && is_first && ignores_offset
                || position.pages_without_new_items >= MAX_PAGES_WITHOUT_NEW_ITEMS
            {
                position.ended = false;
                return Err(Error::new(
                    Status::UnexpectedResponse,
                    format!(
                        "the service's list of {} repeats the same items",
                        self.list.name()
                    ),
                ));
            }
            if !new.is_empty() {
                return Ok(Some(Page {
                    list: self.list.name(),
                    items: new,
                    total: announced.or(all_at_once.then_some(count)),
                }));
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
        let request = |endpoint: &Endpoint, version| {
            let url = self.list.url(endpoint, project, offset, self.size, version)?;
            Ok(match self.list {
                List::Reports { .. } => Request {
                    method: Method::POST,
                    body: &body,
                    ..Request::get(url, &JSON)
                },
                _ => Request::get(url, &JSON),
            })
        };
        let read = |response: &mut Response| self.list.read(response);
        match self.list {
            List::Instances => self.client.fetch_instances(call, project, request, read),
            _ => self
                .client
                .fetch(call, project, |endpoint| request(endpoint, 0), read),
        }
    }
}
