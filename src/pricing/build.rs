//! Drafts into a checked [`PriceBook`]. Owns what the parts of a price table mean together: files
//! laid over one another, aliases, globs, other names of providers, `same_as`.

use std::collections::{HashMap, HashSet};

use rust_decimal::Decimal;

use super::book::{PriceBook, Provider, Table};
use super::errors::{PriceError, PriceErrors};
use super::glob::Glob;
use super::parse::{DefaultDraft, Draft, EntryDraft, Lined, PriceDraft, ProviderDraft, read};
use super::rates::{PriceEntry, Priced, RATE_KEYS, Rate};
use crate::nearest::nearest;

/// The table that holds for every provider without a price of its own for a name.
pub(super) const ANY: &str = "any";

pub(super) const BUILTIN: &str = include_str!("../../pricing.toml");

/// The contract's price of an unknown model, in dollars for a million tokens.
const DEFAULT_RATES: [(Rate, i64); 3] =
    [(Rate::Input, 3), (Rate::Output, 15), (Rate::Reasoning, 1)];

pub(super) fn builtin() -> PriceBook {
    let mut book = build(read_builtin()).expect("a test parses the built-in table");
    for entry in book.entries.iter_mut().chain(&mut book.default) {
        entry.line = 0;
    }
    for provider in &mut book.providers {
        provider.table.aliases.values_mut().for_each(|line| *line = 0);
    }
    book
}

pub(super) fn parse(text: &str) -> Result<PriceBook, PriceErrors> {
    let (mut draft, errors) = read(text);
    if draft.extends_builtin {
        draft = draft.over(read_builtin().0);
    }
    build((draft, errors))
}

fn build((draft, errors): (Draft, Vec<PriceError>)) -> Result<PriceBook, PriceErrors> {
    let mut build = Build { tables: draft.tables, entries: Vec::new(), errors };
    let mut book = build.book(draft.default, draft.providers);
    book.lists = draft.lists;
    if build.errors.is_empty() { Ok(book) } else { Err(PriceErrors::new(build.errors)) }
}

/// Reads the built-in table piece by piece: every process would have the tree of the whole document for a moment
/// when it starts, and allocators keep what it took. Lines are those of the piece, and of no use.
fn read_builtin() -> (Draft, Vec<PriceError>) {
    let mut pieces = pieces(BUILTIN).into_iter().map(|piece| read(&piece));
    let (mut whole, mut complaints) = pieces.next().unwrap_or_default();
    for (draft, errors) in pieces {
        for (provider, table) in draft.tables {
            whole.tables.entry(provider).or_default().extend(table);
        }
        complaints.extend(errors);
    }
    (whole, complaints)
}

/// Bytes of a piece, but for what cannot be cut.
const PIECE: usize = 4 * 1024;

/// What stands before the first prices, and then prices: a provider's under its header, its name with each
/// piece. An entry of the built-in table is a line, or a table of its own.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    // Of the provider at hand, while its entries are lines.
    let mut header = None;
    for line in text.split_inclusive('\n') {
        let is_full = pieces.last().is_some_and(|piece| piece.len() > PIECE);
        if line.starts_with("[prices.") {
            let is_provider = line.matches('.').count() == 1;
            header = is_provider.then_some(line);
            if is_provider || is_full {
                pieces.push(String::new());
            }
        } else if let Some(header) = header.filter(|_| is_full) {
            pieces.push(header.to_owned());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(line);
        }
    }
    pieces
}

impl Draft {
    /// Lays this draft over the built-in one: what it names replaces what stands there.
    fn over(mut self, mut base: Draft) -> Draft {
        base.default.enabled = self.default.enabled.or(base.default.enabled);
        base.default.rates = self.default.rates.or(base.default.rates);
        for (name, provider) in self.providers {
            let below = base.providers.remove(&name).unwrap_or_default();
            base.providers.insert(name, provider.over(below));
        }
        for (provider, table) in &mut base.tables {
            for entry in table.values_mut() {
                entry.line = 0;
            }
            table.extend(self.tables.remove(provider).unwrap_or_default());
        }
        base.tables.extend(self.tables);
        base
    }
}

impl ProviderDraft {
    fn over(self, base: ProviderDraft) -> ProviderDraft {
        let unlined = |names: Vec<Lined<String>>| {
            names.into_iter().map(|name| Lined { line: 0, ..name }).collect::<Vec<_>>()
        };
        let also = self.also.into_iter().chain(unlined(base.also)).collect();
        ProviderDraft {
            also,
            same_as: self.same_as.or(base.same_as.map(unlined)),
            multiplier: self.multiplier.or(base.multiplier),
            free: self.free.or(base.free),
            vendor_prefix: self.vendor_prefix.or(base.vendor_prefix),
            drop_suffix: self.drop_suffix.or(base.drop_suffix),
            free_suffix: self.free_suffix.or(base.free_suffix),
            drop_prefix: self.drop_prefix.or(base.drop_prefix),
            trust_reported_cost: self.trust_reported_cost.or(base.trust_reported_cost),
        }
    }
}

/// By provider and name in lower case.
type EntryIds = HashMap<(String, String), usize>;

struct Build {
    tables: HashMap<String, HashMap<String, Lined<EntryDraft>>>,
    entries: Vec<PriceEntry>,
    errors: Vec<PriceError>,
}

impl Build {
    fn error(&mut self, line: usize, message: String) {
        self.errors.push(PriceError { line, message });
    }

    fn book(
        &mut self,
        default: DefaultDraft,
        mut drafts: HashMap<String, ProviderDraft>,
    ) -> PriceBook {
        let default = default_entry(default);
        let known: HashSet<&String> = drafts.keys().chain(self.tables.keys()).collect();
        let mut names: Vec<String> = known.into_iter().cloned().collect();
        names.sort_unstable();
        let index: HashMap<&str, usize> =
            names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let ids = self.take_entries();
        let mut providers = Vec::with_capacity(names.len());
        for name in &names {
            let draft = drafts.get(name.as_str());
            let same_as = self.same_as(name, &index, &drafts);
            let table = self.table(name, &ids);
            providers.push(provider(name, draft, table, same_as));
        }
        let mut by_name: HashMap<String, usize> =
            index.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        for (at, name) in names.iter().enumerate() {
            for other in
                drafts.get_mut(name).map(|d| std::mem::take(&mut d.also)).unwrap_or_default()
            {
                if other.value != *name {
                    providers[at].also.push(other.value.clone());
                }
                if by_name.insert(other.value.clone(), at).is_some_and(|earlier| earlier != at) {
                    let message =
                        format!("`{}` is the name of another provider already", other.value);
                    self.error(other.line, message);
                }
            }
        }
        let any = by_name.remove(ANY);
        let entries = std::mem::take(&mut self.entries);
        PriceBook { providers, by_name, any, default, entries, lists: HashMap::new() }
    }

    /// Moves every entry into the book, and says where each table's own ones went.
    fn take_entries(&mut self) -> EntryIds {
        let mut ids = EntryIds::new();
        for (provider, table) in &mut self.tables {
            for (key, draft) in table {
                if let PriceDraft::Entry(entry) = &mut draft.value.price {
                    entry.id = format!("{provider}/{}", draft.value.name);
                    entry.line = draft.line;
                    ids.insert((provider.clone(), key.clone()), self.entries.len());
                    self.entries.push(std::mem::take(entry));
                }
            }
        }
        ids
    }

    fn table(&mut self, provider: &str, ids: &EntryIds) -> Table {
        let mut table = Table::default();
        let Some(drafts) = self.tables.get(provider) else { return table };
        let mut globs: Vec<(Glob, usize, usize)> = Vec::new();
        let mut errors = Vec::new();
        for (key, draft) in drafts {
            let entry = match self.resolve(provider, key, ids) {
                Ok(entry) => entry,
                Err(message) => {
                    errors.push(PriceError { line: draft.line, message });
                    continue;
                }
            };
            if matches!(draft.value.price, PriceDraft::Alias(_)) {
                table.aliases.insert(key.clone(), draft.line);
            }
            if Glob::is_glob(key) {
                globs.push((Glob::new(key), entry, draft.line));
            } else {
                table.exact.insert(key.clone(), entry);
            }
        }
        globs.sort_by(|(a, ..), (b, ..)| {
            b.literal_len().cmp(&a.literal_len()).then_with(|| a.as_str().cmp(b.as_str()))
        });
        errors.extend(ambiguous(provider, &globs));
        self.errors.append(&mut errors);
        table.globs = globs.into_iter().map(|(glob, entry, _)| (glob, entry)).collect();
        table
    }

    /// Follows aliases to the entry that they end at.
    fn resolve(&self, provider: &str, key: &str, ids: &EntryIds) -> Result<usize, String> {
        let mut at = (provider.to_owned(), key.to_owned());
        let mut seen = HashSet::new();
        loop {
            if let Some(id) = ids.get(&at) {
                return Ok(*id);
            }
            if !seen.insert(at.clone()) {
                return Err(format!("`{key}` ends at itself; one of its aliases needs a price"));
            }
            let Some(PriceDraft::Alias(target)) =
                self.tables.get(&at.0).and_then(|table| table.get(&at.1)).map(|d| &d.value.price)
            else {
                return Err(self.no_such(provider, key, &at.1));
            };
            at = self.target(at.0, &target.to_lowercase());
        }
    }

    /// `name` in the same table, or `provider/name` in another.
    fn target(&self, provider: String, name: &str) -> (String, String) {
        let here = self.tables.get(&provider).is_some_and(|table| table.contains_key(name));
        match name.split_once('/') {
            Some((other, rest)) if !here && self.tables.contains_key(other) => {
                (other.to_owned(), rest.to_owned())
            }
            _ => (provider, name.to_owned()),
        }
    }

    fn no_such(&self, provider: &str, key: &str, target: &str) -> String {
        let names = self.tables.get(provider).into_iter().flat_map(HashMap::keys);
        let others = names.map(String::as_str).filter(|name| *name != key);
        let hint = nearest(target, others)
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!("`{key}` is to cost the same as `{target}`, which [prices.{provider}] lacks{hint}")
    }

    /// The tables to look in after the provider's own, nearest first, each once.
    fn same_as(
        &mut self,
        name: &str,
        index: &HashMap<&str, usize>,
        drafts: &HashMap<String, ProviderDraft>,
    ) -> Vec<usize> {
        let mut order = vec![name];
        let mut next = 0;
        while next < order.len() {
            let others = drafts.get(order[next]).and_then(|draft| draft.same_as.as_ref());
            for other in others.into_iter().flatten() {
                if !index.contains_key(other.value.as_str()) {
                    if next == 0 {
                        let hint = nearest(&other.value, index.keys().copied())
                            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                        let message =
                            format!("`same_as` names no provider `{}`{hint}", other.value);
                        self.error(other.line, message);
                    }
                } else if !order.contains(&other.value.as_str()) {
                    order.push(&other.value);
                }
            }
            next += 1;
        }
        order.iter().skip(1).filter_map(|name| index.get(name).copied()).collect()
    }
}

fn provider(
    name: &str,
    draft: Option<&ProviderDraft>,
    table: Table,
    same_as: Vec<usize>,
) -> Provider {
    let flag = |get: fn(&ProviderDraft) -> Option<bool>| draft.and_then(get);
    Provider {
        name: name.to_owned(),
        also: Vec::new(),
        table,
        same_as,
        multiplier: draft
            .and_then(|d| d.multiplier)
            .filter(|multiplier| *multiplier != Decimal::ONE),
        free: flag(|d| d.free).unwrap_or(false),
        vendor_prefix: flag(|d| d.vendor_prefix).unwrap_or(false),
        drop_suffix: flag(|d| d.drop_suffix).unwrap_or(false),
        free_suffix: draft.and_then(|d| d.free_suffix.clone()),
        drop_prefix: draft.and_then(|d| d.drop_prefix.clone()).unwrap_or_default(),
        trust_reported_cost: flag(|d| d.trust_reported_cost).unwrap_or(true),
    }
}

/// The price of unknown models; a class that the file does not name keeps the contract's price.
fn default_entry(draft: DefaultDraft) -> Option<PriceEntry> {
    if draft.enabled == Some(false) {
        return None;
    }
    let mut entry = draft.rates.unwrap_or_default();
    "default".clone_into(&mut entry.id);
    for (rate, price) in DEFAULT_RATES {
        if !entry.base.rates.iter().any(|named| named.rate == rate) {
            let key = RATE_KEYS.iter().find(|(_, keyed)| *keyed == rate).map_or("", |(key, _)| key);
            entry.base.rates.push(Priced::new(key, rate, Decimal::from(price)));
        }
    }
    Some(entry)
}

/// Two globs of equal length that can both match one name leave it open which price holds.
fn ambiguous(provider: &str, globs: &[(Glob, usize, usize)]) -> Vec<PriceError> {
    let mut errors = Vec::new();
    for (at, (glob, entry, line)) in globs.iter().enumerate() {
        let rivals = globs[at + 1..].iter();
        let equal = rivals.take_while(|(other, ..)| other.literal_len() == glob.literal_len());
        for (other, rival, other_line) in equal {
            if entry != rival && glob.overlaps(other) {
                let message = format!(
                    "[prices.{provider}] `{}` and `{}` (line {}) can both match one name; make one longer",
                    glob.as_str(),
                    other.as_str(),
                    line.min(other_line)
                );
                errors.push(PriceError { line: *line.max(other_line), message });
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_errors(text: &str, expected: &[&str]) {
        let errors = parse(text).expect_err("the table should be refused").to_string();
        assert_eq!(errors.lines().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_line() {
        let text = r#"version = 2
extend = "builtin"
[providers.azure]
same_as = ["opennai", "openai"]
multiplyer = 1
free = "yes"
[prices.openai]
"gpt-4o" = { inptu = 2.50, output = -10.00 }
"GPT-4o" = { input = 1 }
"gpt-5" = "gpt-4p"
"loop-a" = "loop-b"
"loop-b" = "loop-a"
"gpt-6*" = { input = 1 }
"*sol-1" = { input = 2 }
"text" = 5
"nan" = { input = nan }
"empty" = { }
"#;
        let lines: Vec<usize> = parse(text).unwrap_err().iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2, 4, 5, 6, 8, 8, 9, 10, 11, 12, 14, 15, 16, 17]);
    }

    #[test]
    fn a_fault_says_what_would_be_right() {
        assert_errors(
            "[prices.a]\nm = { inptu = 1, output = 2 }",
            &["line 2: unknown key `inptu` in [prices.a] `m`; did you mean `input`?"],
        );
        assert_errors(
            "[prices.a]\nm = { input = -0.5 }",
            &["line 2: `input` is -0.5; it must be 0 or more"],
        );
        assert_errors(
            "[prices.a]\n\"gpt-6*\" = { input = 1 }\n\"*sol-1\" = { input = 2 }\n",
            &[
                "line 3: [prices.a] `*sol-1` and `gpt-6*` (line 2) can both match one name; make one longer",
            ],
        );
        assert_errors(
            "[prices.a.m]\ninput = 1\nsince.2026-02-01 = { input = 2 }\nsince.2025-02-01 = { input = 3 }\nsince.2026-13-01 = { input = 4 }",
            &[
                "line 4: `since.2025-02-01` stands after `since.2026-02-01`; write the oldest first",
                "line 5: `since.2026-13-01` is no date; write it as 2025-06-10 or \"2025-06-10T16:00:00Z\"",
            ],
        );
        assert_errors(
            "[prices.a]\ngpt-4o = { input = 1 }\nx = \"gpt-4p\"",
            &[
                "line 3: `x` is to cost the same as `gpt-4p`, which [prices.a] lacks; did you mean `gpt-4o`?",
            ],
        );
        assert_errors(
            "[prices.a.m]\ninput = 1\nabove.many = { input = 2 }\ndaily.\"25:00-26:00\" = { input = 1 }\ntier.flex = 2",
            &[
                "line 3: `above.many` is no number of tokens; write above.200000",
                "line 4: `daily.\"25:00-26:00\"` is no time of day; write daily.\"16:30-00:30\" (UTC)",
                "line 5: `flex` must be a set of prices in { }, not a value of type integer",
            ],
        );
        assert_errors(
            "[providers.a]\nalso = \"b\"\n[providers.b]\nfree = true",
            &["line 2: `b` is the name of another provider already"],
        );
        assert_errors(
            "[providers.a]\nfree_suffix = \"\"\ndrop_prefix = [\"eu.\", \"\"]",
            &[
                "line 2: `free_suffix` must be a text in quotes, not an empty text",
                "line 3: `drop_prefix` must be a text in quotes or a list of such, not a value of type array",
            ],
        );
        assert!(parse("[prices.a\nm = 1").unwrap_err().to_string().starts_with("line 1: "));
    }

    #[test]
    fn an_entry_needs_a_price() {
        assert_errors(
            "[prices.a]\nm = { }",
            &["line 2: [prices.a] `m` has no price; give at least `input` and `output`"],
        );
    }

    #[test]
    fn aliases_lead_through_names_globs_and_other_tables() {
        let book = parse(
            "[prices.a]\nx = \"y\"\ny = \"b/m\"\nz = \"g-*\"\n\"g-*\" = { input = 1 }\n[prices.b]\nm = { input = 2 }",
        );
        assert_eq!(book.unwrap().len(), 2);
    }

    #[test]
    fn the_builtin_table_is_the_same_read_at_once() {
        let entries = |draft: Draft| {
            let mut all = Vec::new();
            for (provider, table) in draft.tables {
                for (name, mut entry) in table {
                    if let PriceDraft::Entry(price) = &mut entry.value.price {
                        price.line = 0;
                    }
                    all.push(format!("{provider} {name} {:?}", entry.value));
                }
            }
            all.sort_unstable();
            (all, format!("{:?}", draft.default), draft.providers.len(), draft.lists.len())
        };
        assert!(pieces(BUILTIN).len() > 50);
        let (whole, complaints) = read(BUILTIN);
        assert_eq!(complaints.len(), 0);
        assert_eq!(entries(read_builtin().0), entries(whole));
    }

    #[test]
    fn an_own_table_can_extend_the_builtin_one() {
        let text = "extends = \"builtin\"\ndefault = false\n[providers.azure]\nmultiplier = 0.5\n[prices.openai]\ngpt-4o = { input = 1 }\nhouse = { input = 7 }\n";
        let book = parse(text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(book.len(), builtin().len() + 1);
        assert!(book.default.is_none());
        let azure = &book.providers[book.by_name["azure"]];
        assert_eq!(azure.multiplier, Some(Decimal::new(5, 1)));
        assert!(!azure.same_as.is_empty());
    }
}
