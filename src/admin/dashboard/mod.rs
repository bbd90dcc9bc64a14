//! The dashboard: pages for browsers, made on the server from the questions that the API answers too.
//! They work without scripts; a script adds charts, new calls as they come, and the viewer's time zone.
//!
//! | file | owns |
//! | --- | --- |
//! | `address`, `window` | what an address asks for, and the addresses of other pages; spans of time |
//! | `frame` | what all pages have; what stands in place of one |
//! | `views` | the pages, a file each |
//! | `cards`, `table`, `trend`, `calls` | figures of a window; of groups; over time; calls one by one |
//! | `calendar` | the hours, days, weeks and months of a window |
//! | `chart` | data for the script that draws |
//! | `csv` | tables as files |
//! | `show`, `sums` | single figures, names and moments; totals added up |
//! | `assets` | style, script, the library that draws |
//!
//! Invariant: every link is relative and every text of a client's or a provider's escaped, so that the pages
//! work wherever a proxy puts them and say what the ledger says, whatever it holds.

mod address;
mod assets;
mod calendar;
mod calls;
mod cards;
mod chart;
mod csv;
mod frame;
mod show;
mod sums;
mod table;
mod trend;
mod views;
mod window;

use maud::Markup;

pub(super) use assets::Asset;

use super::params::{BadParameter, Pairs};
use crate::ledger::{Filter, QueryError, Reader};
use crate::units::Timestamp;
use address::Address;
use csv::Sheet;
use frame::Page;

/// The cookie by which the page's script says where the viewer is.
pub(super) const ZONE_COOKIE: &str = "tokenmeter_tz";

/// Names of metadata among the links.
const METADATA: usize = 20;

/// A page that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    address: Address,
    /// Where callers reach tokenmeter, as far as the browser tells.
    base: String,
}

/// What a page is made from.
#[derive(Debug)]
struct Scene<'a> {
    reader: &'a Reader,
    address: &'a Address,
    base: &'a str,
}

/// What a view gives.
enum Shown {
    Page(Page),
    /// A file by this name.
    Sheet(&'static str, Sheet),
    File(&'static str, Vec<u8>),
    /// The same is to be had under another link.
    Elsewhere(String),
    /// What the address names is not there.
    Unknown(String),
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    Page(String),
    Csv { name: String, bytes: Vec<u8> },
    Elsewhere(String),
    Unknown(String),
}

impl Request {
    /// Reads what is asked for. `zone` is what the viewer's cookie says.
    pub(super) fn read(
        pairs: &Pairs,
        zone: Option<&str>,
        base: &str,
        now: Timestamp,
    ) -> Result<Request, BadParameter> {
        Ok(Request { address: Address::read(pairs, zone, now)?, base: base.to_owned() })
    }

    /// Asks the ledger, and makes the page. Blocks.
    pub(super) fn answer(&self, reader: &Reader, nonce: &str) -> Result<Answer, QueryError> {
        let address = &self.address;
        let scene = Scene { reader, address, base: &self.base };
        Ok(match views::show(&scene)? {
            Shown::Page(page) => {
                let metadata = reader.metadata_names(METADATA)?;
                let document = frame::document(&page, address, &metadata, nonce);
                Answer::Page(document.into_string())
            }
            Shown::Sheet(name, sheet) => self.file(name, sheet.bytes()),
            Shown::File(name, bytes) => self.file(name, bytes),
            Shown::Elsewhere(link) => Answer::Elsewhere(link),
            Shown::Unknown(message) => Answer::Unknown(message),
        })
    }

    /// A file that is named for the moment it was made at.
    fn file(&self, name: &str, bytes: Vec<u8>) -> Answer {
        let at = self.address.now.calendar().strftime("%Y%m%dT%H%M%SZ");
        Answer::Csv { name: format!("tokenmeter-{name}-{at}.csv"), bytes }
    }
}

impl Scene<'_> {
    /// Whether the ledger has no call at all, and never had one.
    fn is_new(&self) -> Result<bool, QueryError> {
        let all = Filter::default();
        Ok(self.reader.usage(&all, 1, None)?.records.is_empty()
            && self.reader.breakdowns(&all, &[], &self.address.zone)?.totals.requests == 0)
    }

    /// The page in place of one that would be empty.
    fn nothing(&self, title: String) -> Result<Shown, QueryError> {
        let is_new = self.is_new()?;
        let body = frame::nothing(self, is_new);
        Ok(Shown::Page(Page { title, body, is_scoped: !is_new, csv: None, is_trouble: false }))
    }
}

/// A page that says why there is none.
pub(super) fn trouble(status: u16, message: &str, nonce: &str) -> String {
    let address = Address::home(Timestamp::now());
    document(&frame::trouble(status, message), &address, nonce).into_string()
}

/// The page for whoever is not logged in. `path` is where it is shown.
pub(super) fn locked(path: &str, nonce: &str) -> String {
    frame::locked(&root(path), nonce).into_string()
}

fn document(page: &Page, address: &Address, nonce: &str) -> Markup {
    frame::document(page, address, &[], nonce)
}

/// The way from a path under `/admin` to the pages, without naming what may stand before `/admin`.
fn root(path: &str) -> String {
    match path.strip_prefix("/admin").map(|rest| rest.matches('/').count()) {
        Some(0) => "admin/".to_owned(),
        Some(1) | None => "./".to_owned(),
        Some(depth) => "../".repeat(depth - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_pages_names_nothing_before_them() {
        assert_eq!(root("/admin"), "admin/");
        assert_eq!(root("/admin/"), "./");
        assert_eq!(root("/admin/stats"), "./");
        assert_eq!(root("/admin/users/ann"), "../");
        assert_eq!(root("/admin/users/a/b"), "../../");
    }
}
