//! `pricing.toml` into drafts: what was typed, checked value by value, with the line of each.
//! What the drafts mean together (aliases, globs, `same_as`) is [`super::build`]'s.

mod entry;
mod reader;

use std::collections::HashMap;

use rust_decimal::Decimal;
use toml_edit::{Document, TableLike};

use super::errors::PriceError;
use super::rates::PriceEntry;
use reader::{Field, Reader};

/// A value with the line it stands on; line 0 is the table built into the binary.
#[derive(Clone, Debug)]
pub(super) struct Lined<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// One file's worth.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) extends_builtin: bool,
    pub(super) default: DefaultDraft,
    pub(super) providers: HashMap<String, ProviderDraft>,
    /// How many models each public list had.
    pub(super) lists: HashMap<String, u64>,
    /// By provider, then by name in lower case.
    pub(super) tables: HashMap<String, HashMap<String, Lined<EntryDraft>>>,
}

/// `[default]`, as far as it is given.
#[derive(Debug, Default)]
pub(super) struct DefaultDraft {
    pub(super) enabled: Option<bool>,
    pub(super) rates: Option<PriceEntry>,
}

#[derive(Debug, Default)]
pub(super) struct ProviderDraft {
    pub(super) also: Vec<Lined<String>>,
    pub(super) same_as: Option<Vec<Lined<String>>>,
    pub(super) multiplier: Option<Decimal>,
    pub(super) free: Option<bool>,
    pub(super) vendor_prefix: Option<bool>,
    pub(super) drop_suffix: Option<bool>,
    pub(super) free_suffix: Option<String>,
    pub(super) drop_prefix: Option<Vec<String>>,
    pub(super) trust_reported_cost: Option<bool>,
}

#[derive(Debug)]
pub(super) struct EntryDraft {
    /// As typed.
    pub(super) name: String,
    pub(super) price: PriceDraft,
}

#[derive(Debug)]
pub(super) enum PriceDraft {
    Entry(Box<PriceEntry>),
    /// The name whose price this one has.
    Alias(String),
}

const ROOT_KEYS: [&str; 6] = ["version", "extends", "default", "lists", "providers", "prices"];
const PROVIDER_KEYS: [&str; 9] = [
    "also",
    "same_as",
    "multiplier",
    "free",
    "vendor_prefix",
    "drop_suffix",
    "free_suffix",
    "drop_prefix",
    "trust_reported_cost",
];

/// Reads one file; the errors are those of single values.
pub(super) fn read(text: &str) -> (Draft, Vec<PriceError>) {
    let mut reader = Reader::new(text);
    let mut draft = Draft::default();
    match Document::parse(text) {
        Ok(document) => reader.root(document.as_table(), &mut draft),
        Err(error) => {
            let line = reader.line(error.span());
            reader.error(line, error.message().trim_end());
        }
    }
    (draft, reader.errors)
}

impl Reader<'_> {
    fn root(&mut self, table: &dyn TableLike, draft: &mut Draft) {
        for field in self.fields(table) {
            match field.key {
                "version" => {
                    if field.item.as_integer() != Some(1) {
                        self.error(field.line, "`version` must be 1, the only form there is");
                    }
                }
                "extends" => match self.string(field) {
                    Some("builtin") | None => draft.extends_builtin = true,
                    Some(_) => self.error(field.line, "`extends` can only be \"builtin\""),
                },
                "default" => draft.default = self.default(field),
                "lists" => self.lists(field, draft),
                "providers" => self.providers(field, draft),
                "prices" => self.prices(field, draft),
                _ => self.unknown(field, "the file", ROOT_KEYS),
            }
        }
    }

    fn default(&mut self, field: Field<'_>) -> DefaultDraft {
        let mut draft = DefaultDraft::default();
        if field.item.is_bool() {
            draft.enabled = field.item.as_bool();
            return draft;
        }
        let Some(table) = self.table(field, "false or a set of prices") else { return draft };
        let mut prices = toml_edit::Table::new();
        for inner in self.fields(table) {
            if inner.key == "enabled" {
                draft.enabled = self.boolean(inner);
            } else if let Some(key) = table.key(inner.key) {
                prices.insert_formatted(key, inner.item.clone());
            }
        }
        if !prices.is_empty() {
            draft.rates = Some(self.entry("[default]", field.line, &prices));
        }
        draft
    }

    /// What a public list had when it was last written into the file: `models`.
    fn lists(&mut self, field: Field<'_>, draft: &mut Draft) {
        let Some(table) = self.table(field, "a table of public price lists") else { return };
        for named in self.fields(table) {
            let Some(table) = self.table(named, "a table") else { continue };
            for inner in self.fields(table) {
                match inner.key {
                    "models" => {
                        let models = self.whole(inner);
                        draft.lists.insert(named.key.to_owned(), models);
                    }
                    _ => self.unknown(inner, &format!("[lists.{}]", named.key), ["models"]),
                }
            }
        }
    }

    fn providers(&mut self, field: Field<'_>, draft: &mut Draft) {
        let Some(table) = self.table(field, "a table of providers") else { return };
        for named in self.fields(table) {
            let name = named.key.to_lowercase();
            let Some(table) = self.table(named, "a table") else { continue };
            let provider = self.provider(&name, table);
            if draft.providers.insert(name, provider).is_some() {
                self.error(named.line, format!("[providers.{}] stands here twice", named.key));
            }
        }
    }

    fn provider(&mut self, name: &str, table: &dyn TableLike) -> ProviderDraft {
        let mut draft = ProviderDraft::default();
        for field in self.fields(table) {
            let lined = |names: Vec<String>| {
                let lower = |value: String| Lined { line: field.line, value: value.to_lowercase() };
                names.into_iter().map(lower).collect::<Vec<_>>()
            };
            match field.key {
                "also" => draft.also = self.strings(field).map(lined).unwrap_or_default(),
                "same_as" => draft.same_as = self.strings(field).map(lined),
                "multiplier" => draft.multiplier = self.decimal(field),
                "free" => draft.free = self.boolean(field),
                "vendor_prefix" => draft.vendor_prefix = self.boolean(field),
                "drop_suffix" => draft.drop_suffix = self.boolean(field),
                "free_suffix" => draft.free_suffix = self.string(field).map(str::to_lowercase),
                "drop_prefix" => {
                    let lower =
                        |names: Vec<String>| names.iter().map(|n| n.to_lowercase()).collect();
                    draft.drop_prefix = self.strings(field).map(lower);
                }
                "trust_reported_cost" => draft.trust_reported_cost = self.boolean(field),
                _ => self.unknown(field, &format!("[providers.{name}]"), PROVIDER_KEYS),
            }
        }
        draft
    }

    fn prices(&mut self, field: Field<'_>, draft: &mut Draft) {
        let Some(table) = self.table(field, "a table of providers") else { return };
        for named in self.fields(table) {
            let Some(models) = self.table(named, "a table of models") else { continue };
            let provider = named.key.to_lowercase();
            for model in self.fields(models) {
                let Some(entry) = self.model(&provider, model) else { continue };
                let table = draft.tables.entry(provider.clone()).or_default();
                let key = model.key.to_lowercase();
                if let Some(earlier) = table.insert(key, Lined { line: model.line, value: entry }) {
                    let message = format!(
                        "[prices.{provider}] has `{}` already, as `{}` on line {}; names ignore case",
                        model.key, earlier.value.name, earlier.line
                    );
                    self.error(model.line, message);
                }
            }
        }
    }

    fn model(&mut self, provider: &str, field: Field<'_>) -> Option<EntryDraft> {
        let price = if let Some(target) = field.item.as_str() {
            PriceDraft::Alias(target.to_owned())
        } else {
            let wanted = "a set of prices in { } or the name of another model";
            let table = self.table(field, wanted)?;
            let place = format!("[prices.{provider}] `{}`", field.key);
            PriceDraft::Entry(Box::new(self.entry(&place, field.line, table)))
        };
        Some(EntryDraft { name: field.key.to_owned(), price })
    }
}
