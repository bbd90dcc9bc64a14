//! A first page for a copy of a file whose own is broken. Owns where a ledger's tables have their roots.
//!
//! The first page says where each table begins, and every ledger is made by the same statements, so that
//! these places are those of a new ledger, or of a new one after a `VACUUM`. Which of the two is seen from
//! the pages there: a row of each table has as many columns as the table.
//!
//! Invariant: what does not look right in every table is not taken.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;

use super::super::schema;

/// As `SQLite` makes files, and tokenmeter never says otherwise.
const PAGE: usize = 4096;

/// Makes a copy with another first page; false where that would make no sense of it.
pub(super) fn onto_copy(path: &Path, copy: &Path) -> Option<bool> {
    let length = fs::metadata(path).ok()?.len();
    let pages = u32::try_from(length / PAGE as u64).ok()?;
    for vacuumed in [false, true] {
        let (mut first, roots) = model(copy, vacuumed)?;
        if roots.iter().all(|root| root.is_plausible(path)) {
            // The file has as many pages as it has, and no list of free ones is to be believed.
            first[28..32].copy_from_slice(&pages.to_be_bytes());
            first[32..40].fill(0);
            // Both counters the same, so that the size counts.
            let counter: [u8; 4] = first[24..28].try_into().ok()?;
            first[92..96].copy_from_slice(&counter);
            fs::copy(path, copy).ok()?;
            let mut file = OpenOptions::new().write(true).open(copy).ok()?;
            file.write_all(&first).ok()?;
            return Some(true);
        }
    }
    Some(false)
}

/// Where a table begins.
struct Root {
    page: u32,
    columns: usize,
}

/// The first page of a new ledger, and its tables' roots. Made in a file, because it must be one.
fn model(place: &Path, vacuumed: bool) -> Option<(Vec<u8>, Vec<Root>)> {
    let _ = fs::remove_file(place);
    let connection = Connection::open(place).ok()?;
    schema::create(&connection).ok()?;
    if vacuumed {
        connection.execute_batch("VACUUM").ok()?;
    }
    let roots = {
        let sql = "SELECT rootpage, (SELECT count(*) FROM pragma_table_info(s.name))
            FROM sqlite_schema s WHERE type = 'table' AND sql NOT LIKE '%WITHOUT ROWID%'";
        let mut statement = connection.prepare(sql).ok()?;
        let rows = statement.query_map([], |row| {
            let columns: u32 = row.get(1)?;
            Ok(Root { page: row.get(0)?, columns: columns as usize })
        });
        rows.ok()?.collect::<rusqlite::Result<Vec<Root>>>().ok()?
    };
    connection.close().ok()?;
    let mut first = vec![0; PAGE];
    File::open(place).ok()?.read_exact(&mut first).ok()?;
    fs::remove_file(place).ok()?;
    Some((first, roots))
}

impl Root {
    /// Whether the page there could be this table's: a leaf whose first row has as many columns, or a
    /// page above leaves.
    fn is_plausible(&self, path: &Path) -> bool {
        let Some(mut page) = read(path, self.page) else { return false };
        // From a page above, down the first branch.
        for _ in 0..8 {
            match page[0] {
                0x05 => {
                    let at = usize::from(u16::from_be_bytes([page[12], page[13]]));
                    let Some(child) = page.get(at..at + 4) else { return false };
                    let child = u32::from_be_bytes([child[0], child[1], child[2], child[3]]);
                    match read(path, child) {
                        Some(below) => page = below,
                        None => return false,
                    }
                }
                0x0d => return self.is_leaf(&page),
                _ => return false,
            }
        }
        false
    }

    fn is_leaf(&self, page: &[u8]) -> bool {
        let cells = u16::from_be_bytes([page[3], page[4]]);
        if cells == 0 {
            return true;
        }
        let at = usize::from(u16::from_be_bytes([page[8], page[9]]));
        columns(page, at) == Some(self.columns)
    }
}

fn read(path: &Path, page: u32) -> Option<Vec<u8>> {
    let at = u64::from(page.checked_sub(1)?) * PAGE as u64;
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(at)).ok()?;
    let mut bytes = vec![0; PAGE];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// How many columns the row of a leaf's cell has.
fn columns(page: &[u8], at: usize) -> Option<usize> {
    let (_, at) = varint(page, at)?;
    let (_, start) = varint(page, at)?;
    let (length, mut at) = varint(page, start)?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let mut count = 0;
    while at < end {
        at = varint(page, at)?.1;
        count += 1;
    }
    (at == end).then_some(count)
}

/// A number of `SQLite`'s, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (place, byte) in bytes.get(at..)?.iter().take(9).enumerate() {
        if place == 8 {
            return Some((value << 8 | u64::from(*byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + place + 1));
        }
    }
    None
}
