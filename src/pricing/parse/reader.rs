//! Reading TOML values with their lines. Owns the wording of what is wrong with a single value;
//! knows nothing of prices. Numbers are read from the text as it stands in the file.

use std::ops::Range;

use rust_decimal::Decimal;
use toml_edit::{Item, TableLike, Value};

use crate::nearest::nearest;
use crate::pricing::errors::PriceError;
use crate::units::parse_decimal;

pub(super) struct Reader<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    pub(super) errors: Vec<PriceError>,
}

/// A key of a table with its value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Field<'i> {
    pub(super) key: &'i str,
    pub(super) item: &'i Item,
    pub(super) line: usize,
}

impl<'t> Reader<'t> {
    /// Decimals beyond these would not survive the division by a million exactly.
    const MAX_SCALE: u32 = 20;
    /// Above this a price is a slip of the pen, and sums could overflow.
    const MAX_PRICE: i64 = 1_000_000_000;

    pub(super) fn new(text: &'t str) -> Reader<'t> {
        let starts =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Reader { text, line_starts: std::iter::once(0).chain(starts).collect(), errors: Vec::new() }
    }

    pub(super) fn line(&self, span: Option<Range<usize>>) -> usize {
        let at = span.map_or(0, |span| span.start);
        self.line_starts.partition_point(|start| *start <= at)
    }

    pub(super) fn error(&mut self, line: usize, message: impl Into<String>) {
        self.errors.push(PriceError { line, message: message.into() });
    }

    pub(super) fn fields<'i>(&self, table: &'i dyn TableLike) -> Vec<Field<'i>> {
        let field = |(key, item): (&'i str, &'i Item)| {
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            Field { key, item, line: self.line(span) }
        };
        table.iter().map(field).collect()
    }

    /// Says that a key is none of `known`, and which it may have been meant to be.
    pub(super) fn unknown<'k>(
        &mut self,
        field: Field<'_>,
        place: &str,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) {
        let hint = nearest(field.key, known.clone()).map_or_else(
            || format!("known here: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        self.error(field.line, format!("unknown key `{}` in {place}; {hint}", field.key));
    }

    fn wrong_type(&mut self, field: Field<'_>, wanted: &str) {
        let found = match field.item.as_str() {
            Some("") => "an empty text".to_owned(),
            _ => format!("a value of type {}", field.item.type_name()),
        };
        self.error(field.line, format!("`{}` must be {wanted}, not {found}", field.key));
    }

    pub(super) fn table<'i>(
        &mut self,
        field: Field<'i>,
        wanted: &str,
    ) -> Option<&'i dyn TableLike> {
        let table = field.item.as_table_like();
        if table.is_none() {
            self.wrong_type(field, wanted);
        }
        table
    }

    pub(super) fn boolean(&mut self, field: Field<'_>) -> Option<bool> {
        let value = field.item.as_bool();
        if value.is_none() {
            self.wrong_type(field, "true or false");
        }
        value
    }

    pub(super) fn string<'i>(&mut self, field: Field<'i>) -> Option<&'i str> {
        let value = field.item.as_str().filter(|text| !text.is_empty());
        if value.is_none() {
            self.wrong_type(field, "a text in quotes");
        }
        value
    }

    /// One text or a list of them.
    pub(super) fn strings(&mut self, field: Field<'_>) -> Option<Vec<String>> {
        let list = match field.item.as_value() {
            Some(Value::String(one)) => Some(vec![one.value().clone()]),
            Some(Value::Array(list)) => {
                list.iter().map(|value| value.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        // An empty prefix could be cut off a name for ever.
        let list = list.filter(|texts: &Vec<String>| texts.iter().all(|text| !text.is_empty()));
        if list.is_none() {
            self.wrong_type(field, "a text in quotes or a list of such");
        }
        list
    }

    /// A decimal that is not negative.
    pub(super) fn decimal(&mut self, field: Field<'_>) -> Option<Decimal> {
        if !field.item.is_float() && !field.item.is_integer() {
            self.wrong_type(field, "a number such as 2.50");
            return None;
        }
        let raw: String = field.item.span().map_or("", |span| &self.text[span]).replace('_', "");
        let number = parse_decimal(raw.trim_start_matches('+'));
        match number {
            Ok(number) if number.is_sign_negative() && !number.is_zero() => {
                self.error(field.line, format!("`{}` is {raw}; it must be 0 or more", field.key));
                None
            }
            Ok(number)
                if number > Decimal::from(Self::MAX_PRICE) || number.scale() > Self::MAX_SCALE =>
            {
                let message = format!(
                    "`{}` is {raw}; it must be at most {} and have at most {} decimals",
                    field.key,
                    Self::MAX_PRICE,
                    Self::MAX_SCALE
                );
                self.error(field.line, message);
                None
            }
            Ok(number) => Some(number),
            Err(_) => {
                let message =
                    format!("`{}` is {raw}; write a decimal number such as 2.50", field.key);
                self.error(field.line, message);
                None
            }
        }
    }
}
