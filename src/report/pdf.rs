//! A report as a PDF: typeset from `report.typ` by typst, with fonts that come along. Owns what the
//! typesetter is given; how it looks is in `report.typ`.
//!
//! Invariant: texts reach the typesetter as data and never as markup, and it can read nothing else: no
//! files, no network, no fonts of the system, no clock.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration, Smart};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World};
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

use super::{Report, RowKind};

const TEMPLATE: &str = include_str!("report.typ");

/// Where the template finds the report.
const DATA: &str = "/report.json";

/// A name may have no blank to break a line at: after so many letters it may be broken anywhere.
const UNBROKEN: usize = 8;

/// Letters without a shape: what steers the direction of others, joins and parts them.
const MARKS: [RangeInclusive<char>; 4] = [
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{fe00}'..='\u{fe0f}',
];

/// A report, typeset.
#[derive(Debug)]
pub struct Pdf {
    pub bytes: Vec<u8>,
    pub pages: usize,
    /// Some letters are shown as boxes.
    pub lacks_glyphs: bool,
}

/// Typesets a report. An error is a fault of the template, or of the typesetter.
pub fn pdf(report: &Report) -> Result<Pdf, String> {
    let (desk, document) = typeset(report)?;
    let options = PdfOptions {
        ident: Smart::Custom(format!("{} {} {}", report.title, report.window, report.made)),
        creator: Smart::Custom(Some("tokenmeter".to_owned())),
        ..PdfOptions::default()
    };
    let bytes = typst_pdf::pdf(&document, &options).map_err(|errors| told(&errors))?;
    Ok(Pdf { bytes, pages: document.pages().len(), lacks_glyphs: desk.lacks_glyphs(report) })
}

fn typeset(report: &Report) -> Result<(Desk, PagedDocument), String> {
    let desk = Desk::new(report)?;
    let document = typst::compile::<PagedDocument>(&desk).output.map_err(|errors| told(&errors))?;
    Ok((desk, document))
}

fn told(errors: &[SourceDiagnostic]) -> String {
    let errors: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    errors.join("; ")
}

/// All that the typesetter has before it.
struct Desk {
    library: LazyHash<Library>,
    book: LazyHash<FontBook>,
    fonts: Vec<Font>,
    template: Source,
    data: (FileId, Bytes),
}

impl Desk {
    fn new(report: &Report) -> Result<Desk, String> {
        // Of the typesetter's own fonts those for texts; the one that charts are drawn with has no serifs.
        let bundled = typst_assets::fonts().map(Bytes::new);
        let fonts: Vec<Font> = std::iter::once(Bytes::new(charts_rs::DEFAULT_FONT_DATA))
            .chain(bundled)
            .flat_map(Font::iter)
            .collect();
        let report = breakable(report);
        let data = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
        Ok(Desk {
            library: LazyHash::new(Library::default()),
            book: LazyHash::new(FontBook::from_fonts(&fonts)),
            fonts,
            template: Source::new(file("/report.typ")?, TEMPLATE.to_owned()),
            data: (file(DATA)?, Bytes::new(data)),
        })
    }

    /// Whether a name has a letter that no font has.
    fn lacks_glyphs(&self, report: &Report) -> bool {
        let filters = report.filters.iter().flat_map(|filter| [&filter.name, &filter.value]);
        let rows = report.tables.iter().flat_map(|table| &table.rows);
        let names = rows.map(|row| &row.name).chain(filters).chain([&report.title]);
        let has = |letter: char| {
            letter.is_whitespace()
                || MARKS.iter().any(|marks| marks.contains(&letter))
                || self.fonts.iter().any(|font| font.info().coverage.contains(letter.into()))
        };
        names.flat_map(|name| name.chars()).any(|letter| !has(letter))
    }
}

impl World for Desk {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.book
    }

    fn main(&self) -> FileId {
        self.template.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.template.id() { Ok(self.template.clone()) } else { Err(not_there(id)) }
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        if id == self.data.0 { Ok(self.data.1.clone()) } else { Err(not_there(id)) }
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.get(index).cloned()
    }

    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}

fn not_there(id: FileId) -> FileError {
    FileError::NotFound(PathBuf::from(id.vpath().get_without_slash()))
}

fn file(path: &str) -> Result<FileId, String> {
    let path = VirtualPath::new(path).map_err(|error| format!("{path}: {error:?}"))?;
    Ok(RootedPath::new(VirtualRoot::Project, path).intern())
}

/// The same report, whose names break at the end of a line wherever they must.
fn breakable(report: &Report) -> Report {
    let mut report = report.clone();
    let rows = report.tables.iter_mut().flat_map(|table| &mut table.rows);
    let names = rows.filter(|row| row.kind == RowKind::Group).map(|row| &mut row.name);
    let filters = report.filters.iter_mut().map(|filter| &mut filter.value);
    for name in names.chain(filters).chain([&mut report.title]) {
        let mut run = 0;
        let mut broken = String::with_capacity(name.len());
        for letter in name.chars() {
            run = if letter.is_whitespace() { 0 } else { run + 1 };
            broken.push(letter);
            if run >= UNBROKEN {
                broken.push('\u{200b}');
            }
        }
        *name = broken;
    }
    report
}

#[cfg(test)]
mod tests {
    use typst::layout::{Frame, FrameItem};

    use super::super::tests::report;
    use super::*;

    fn texts(frame: &Frame, out: &mut String) {
        for (_, item) in frame.items() {
            match item {
                FrameItem::Group(group) => texts(&group.frame, out),
                FrameItem::Text(text) => out.push_str(&text.text),
                _ => {}
            }
        }
    }

    fn words(report: &Report) -> String {
        let (_, document) = typeset(report).unwrap();
        let mut out = String::new();
        document.pages().iter().for_each(|page| texts(&page.frame, &mut out));
        out.replace('\u{200b}', "")
    }

    #[test]
    fn a_pdf_says_what_the_report_says() {
        let report = report();
        let made = pdf(&report).unwrap();
        assert!(made.bytes.starts_with(b"%PDF-") && made.pages >= 2);
        let words = words(&report);
        for row in report.tables.iter().flat_map(|table| &table.rows) {
            for text in [&row.cost.shown, &row.input.shown, &row.calls.shown, &row.share] {
                assert!(words.contains(text.as_str()), "{text}");
            }
        }
        for card in &report.cards {
            assert!(words.contains(&card.figure.shown), "{card:?}");
        }
        assert_eq!(pdf(&report).unwrap().bytes, made.bytes);
    }

    #[test]
    fn a_name_is_never_markup() {
        let mut report = report();
        let hostile =
            "#panic(\"x\") *b* $x$ @label <l> https://evil.example #read(\"/report.json\")";
        report.tables[0].rows[0].name = hostile.to_owned();
        report.title = format!("{}\u{202e}{}", "W".repeat(200), hostile);
        report.filters[0].value = "= Heading \\ ".to_owned();
        let words = words(&report).replace(' ', "");
        assert!(words.contains("#panic(\"x\")*b*$x$@label<l>"), "{words}");
        assert!(words.contains("=Heading\\"), "{words}");
        report.tables.retain(|table| table.of == "User");
        report.tables[0].rows.truncate(1);
        assert!(pdf(&report).is_ok_and(|made| !made.lacks_glyphs));
        report.tables[0].rows[0].name = "李".to_owned();
        assert!(pdf(&report).is_ok_and(|made| made.lacks_glyphs));
    }
}
