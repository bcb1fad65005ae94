//! Lists as iterators.

use std::fmt;

use super::Client;
use crate::client::reports::cursor::Cursor;
use crate::client::reports::list::List;
use crate::client::reports::page::{Item, Page};
use crate::error::Error;

/// The items of a list, fetched page by page during the iteration.
///
/// A list may change while it is read. No item is returned twice. If items are deleted
/// meanwhile, the part of the list that moved is read again, so that no item is missed.
/// This can only go unnoticed if as many items are added at the same moment.
///
/// The iterator ends after the first error, including invalid arguments.
///
/// ```no_run
/// # fn example(client: &dbss::Client, instance: &str) -> Result<(), dbss::Error> {
/// for report in client.reports(instance).name("weekly") {
///     let report = report?;
///     println!("{} {}", report.id(), report.get("start_time").unwrap_or("?"));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a list is read as it is iterated over"]
pub struct Items {
    client: Client,
    /// None at the end.
    source: Option<Source>,
    page: std::vec::IntoIter<Item>,
    page_size: u32,
    total: Option<u64>,
}

enum Source {
    /// No request was sent yet.
    List(Result<List, Error>),
    Cursor(Box<Cursor>),
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("client", &self.client)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Items {
    pub(super) fn new(client: &Client, list: Result<List, Error>) -> Items {
        Items {
            client: client.clone(),
            source: Some(Source::List(list)),
            page: Vec::new().into_iter(),
            page_size: 0,
            total: None,
        }
    }

    /// Filters a list of reports by name, 1 to 256 bytes. The service does the filtering.
    /// It has no effect on other lists, or after the iteration began.
    pub fn name(mut self, name: &str) -> Items {
        if let Some(Source::List(Ok(List::Reports { instance, .. }))) = &self.source {
            self.source = Some(Source::List(List::reports(instance, Some(name))));
        }
        self
    }

    /// Filters a list of databases: ON or OFF. The service does the filtering. It has no
    /// effect on other lists, or after the iteration began.
    pub fn status(mut self, status: &str) -> Items {
        if let Some(Source::List(Ok(List::Databases { instance, .. }))) = &self.source {
            self.source = Some(Source::List(List::databases(instance, Some(status))));
        }
        self
    }

    /// The number of items per request, 1 to 1000, of databases 1 to 10000; 0 for 100,
    /// the default.
    pub fn page_size(mut self, size: u32) -> Items {
        self.page_size = size;
        self
    }

    /// The number of items in the whole list, as the service last reported it. None
    /// before the first item, or if the service does not report it.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    fn next_page(&self, source: Source) -> Result<Option<(Box<Cursor>, Page)>, Error> {
        self.client.call(|active| {
            let cursor = match source {
                Source::List(list) => Box::new(self.client.cursor(list?, self.page_size)?),
                Source::Cursor(cursor) => cursor,
            };
            let page = cursor.next(active)?;
            Ok(page.map(|page| (cursor, page)))
        })
    }
}

impl Iterator for Items {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Result<Item, Error>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            let source = self.source.take()?;
            match self.next_page(source) {
                Ok(Some((cursor, page))) => {
                    self.source = Some(Source::Cursor(cursor));
                    self.total = page.total;
                    self.page = page.items.into_iter();
                }
                Ok(None) => return None,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

impl std::iter::FusedIterator for Items {}
