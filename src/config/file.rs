//! The configuration file: TOML to typed settings, each with its line. Owns the complaints about unknown
//! keys and wrong forms; what a value means is decided elsewhere.

use toml_edit::{Document, Item, TableLike, TomlError};

use super::keys::{GLOBAL, Key, Kind, UPSTREAM};
use super::problem::{Findings, Origin};
use super::typed::{Section, Setting, Settings, Typed, Value};
use crate::nearest::nearest;

/// The one section whose names are free.
const UPSTREAMS: &str = "upstreams";

/// Reads the text of the file that `path` names in complaints; `None` where it is not TOML.
pub(super) fn read(text: &str, path: &str, findings: &mut Findings) -> Option<Typed> {
    let mut walker = Walker { text, path, findings };
    match Document::parse(text) {
        Ok(document) => Some(walker.root(document.as_table())),
        Err(error) => {
            walker.not_toml(&error);
            None
        }
    }
}

struct Walker<'a> {
    text: &'a str,
    path: &'a str,
    findings: &'a mut Findings,
}

/// Where in the file the walk is, and what may stand there.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// For complaints: `upstreams.azure.`, or empty.
    owner: &'a str,
    /// Within the schema: `timeouts`, or empty.
    section: &'a str,
    schema: &'static [Key],
}

impl Walker<'_> {
    fn root(&mut self, table: &dyn TableLike) -> Typed {
        let mut typed = Typed::default();
        let place = Place { owner: "", section: "", schema: GLOBAL };
        for (name, item) in table.iter() {
            if name == UPSTREAMS {
                self.upstreams(table, item, &mut typed);
            } else {
                self.entry(place, table, name, item, &mut typed.global);
            }
        }
        typed
    }

    fn not_toml(&mut self, error: &TomlError) {
        let origin = self.origin(error.span().map(|span| span.start));
        let message = error.message().trim_end();
        // Of all that can be wrong here, this alone points at a key rather than at a value, which
        // could be a secret in the wrong place.
        let message = match error.span().and_then(|span| self.text.get(span)) {
            Some(key) if message == "duplicate key" => format!("{message} `{key}`"),
            _ => message.to_owned(),
        };
        self.findings.problem(Some(&origin), message);
    }

    fn upstreams(&mut self, root: &dyn TableLike, item: &Item, typed: &mut Typed) {
        let Some(upstreams) = item.as_table_like() else {
            let origin = self.line_of(root, UPSTREAMS);
            self.findings
                .problem(Some(&origin), "`upstreams` holds sections such as [upstreams.azure]");
            return;
        };
        for (name, item) in upstreams.iter() {
            let origin = self.line_of(upstreams, name);
            let Some(table) = item.as_table_like() else {
                let message = format!("`upstreams.{name}` is a section: [upstreams.{name}]");
                self.findings.problem(Some(&origin), message);
                continue;
            };
            let mut section = Section { origin: Some(origin), settings: Settings::new() };
            let owner = format!("{UPSTREAMS}.{name}.");
            let place = Place { owner: &owner, section: "", schema: UPSTREAM };
            for (name, item) in table.iter() {
                self.entry(place, table, name, item, &mut section.settings);
            }
            typed.upstreams.insert(name.to_owned(), section);
        }
    }

    /// One key or section.
    fn entry(
        &mut self,
        place: Place<'_>,
        table: &dyn TableLike,
        name: &str,
        item: &Item,
        out: &mut Settings,
    ) {
        let full = join(place.section, name);
        if let Some(key) = place.schema.iter().find(|key| key.name == full) {
            return self.setting(place, key, self.line_of(table, name), item, out);
        }
        if !place.schema.iter().any(|key| key.section_and_leaf().0 == full) {
            let origin = self.line_of(table, name);
            self.findings.problem(Some(&origin), unknown(place, &full));
            return;
        }
        let Some(inner) = item.as_table_like() else {
            let origin = self.line_of(table, name);
            let message = format!("`{0}{full}` is a section: [{0}{full}]", place.owner);
            self.findings.problem(Some(&origin), message);
            return;
        };
        for (name, item) in inner.iter() {
            self.entry(Place { section: &full, ..place }, inner, name, item, out);
        }
    }

    fn setting(
        &mut self,
        place: Place<'_>,
        key: &Key,
        origin: Origin,
        item: &Item,
        out: &mut Settings,
    ) {
        let name = format!("{}{}", place.owner, key.name);
        if key.kind == Kind::Secret {
            let message =
                format!("{name}: secrets are not read from the file; set {}", key.env_name());
            self.findings.problem(Some(&origin), message);
        } else if let Some(value) = value(key.kind, item) {
            out.insert(key.name, Setting { value, origin });
        } else {
            let message = format!("{name}: expected {}", key.kind.expects());
            self.findings.problem(Some(&origin), message);
        }
    }

    fn line_of(&self, table: &dyn TableLike, name: &str) -> Origin {
        let span = table.get_key_value(name).and_then(|(key, _)| key.span());
        self.origin(span.map(|span| span.start))
    }

    fn origin(&self, offset: Option<usize>) -> Origin {
        let before = self.text.as_bytes().get(..offset.unwrap_or(0)).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        Origin::File { path: self.path.to_owned(), line }
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// The value in the form that the kind asks for, or nothing.
fn value(kind: Kind, item: &Item) -> Option<Value> {
    let text = || item.as_str().map(str::to_owned);
    let number = || item.as_integer().map(|number| number.to_string());
    match kind {
        Kind::Text | Kind::Path | Kind::Duration => text().map(Value::One),
        Kind::Count => number().map(Value::One),
        Kind::Size => text().or_else(number).map(Value::One),
        Kind::Share => {
            let float = || item.as_float().map(|number| number.to_string());
            number().or_else(float).map(Value::One)
        }
        Kind::Switch => item.as_bool().map(|on| Value::One(on.to_string())),
        Kind::List => {
            let items = item.as_array()?.iter().map(|item| item.as_str().map(str::to_owned));
            items.collect::<Option<_>>().map(Value::Many)
        }
        Kind::Map => {
            let pair =
                |(name, item): (&str, &Item)| Some((name.to_owned(), item.as_str()?.to_owned()));
            item.as_table_like()?.iter().map(pair).collect::<Option<_>>().map(Value::Map)
        }
        Kind::Secret => None,
    }
}

/// Names the key that was probably meant: a near one here, or one of that name in another section.
fn unknown(place: Place<'_>, full: &str) -> String {
    let owner = place.owner;
    let message = format!("unknown key `{owner}{full}`");
    let leaf = full.rsplit('.').next().unwrap_or(full);
    let here: Vec<&str> = names_in(place);
    if let Some(name) = nearest(leaf, here.iter().copied()) {
        return format!("{message}; did you mean `{owner}{}`?", join(place.section, name));
    }
    let leaves = place.schema.iter().map(|key| key.section_and_leaf().1);
    if let Some(name) = nearest(leaf, leaves)
        && let Some(key) = place.schema.iter().find(|key| key.section_and_leaf().1 == name)
    {
        return format!("{message}; did you mean `{owner}{}`?", key.name);
    }
    format!("{message}; known here: {}", here.join(", "))
}

/// The keys and sections that may stand at a place.
fn names_in(place: Place<'_>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in place.schema.iter().filter(|key| key.kind != Kind::Secret) {
        let (section, leaf) = key.section_and_leaf();
        let name = match section {
            _ if section == place.section => leaf,
            _ if place.section.is_empty() => section,
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if place.owner.is_empty() && place.section.is_empty() {
        names.push(UPSTREAMS);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        read(text, "t.toml", &mut findings);
        match findings.finish() {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let text = "\nlisen = \"x\"\nconnect = \"5s\"\n[timeouts]\nidel = \"5s\"\n[upstream.x]\n\
                    [upstreams.azure]\napi_key = \"k\"\n[upstreams.b.timeouts]\nread = \"1s\"\n";
        assert_eq!(
            complaints(text),
            [
                "t.toml:2: unknown key `lisen`; did you mean `listen`?",
                "t.toml:3: unknown key `connect`; did you mean `timeouts.connect`?",
                "t.toml:5: unknown key `timeouts.idel`; did you mean `timeouts.idle`?",
                "t.toml:6: unknown key `upstream`; did you mean `upstreams`?",
                "t.toml:8: unknown key `upstreams.azure.api_key`; did you mean \
                 `upstreams.azure.api_key_env`?",
                "t.toml:10: unknown key `upstreams.b.timeouts.read`; known here: connect, \
                 response_head, idle, pool_idle",
            ]
        );
    }

    #[test]
    fn a_wrong_form_says_what_was_expected() {
        let text = "listen = 4100\njournal_days = \"7\"\ntimeouts = 5\n[tags]\nuser = [1]\n\
                    [upstreams]\nopenai = \"https://x\"\n[upstreams.b.deployments]\na = 1\n";
        assert_eq!(
            complaints(text),
            [
                "t.toml:1: listen: expected a string in quotes",
                "t.toml:2: journal_days: expected a whole number",
                "t.toml:3: `timeouts` is a section: [timeouts]",
                "t.toml:5: tags.user: expected a list of strings such as [\"x-user\"]",
                "t.toml:7: `upstreams.openai` is a section: [upstreams.openai]",
                "t.toml:8: upstreams.b.deployments: expected a section of names and strings",
            ]
        );
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_repeated() {
        let complaints = complaints("admin_token = \"canary\"\n");
        assert!(complaints[0].contains("TOKENMETER_ADMIN_TOKEN"), "{complaints:?}");
        assert!(!complaints[0].contains("canary"));
    }

    #[test]
    fn broken_toml_has_a_line() {
        let unclosed = complaints("listen = \"a\"\n[tags\n");
        assert_eq!(unclosed.len(), 1);
        assert!(unclosed[0].starts_with("t.toml:2: "), "{unclosed:?}");
        assert_eq!(complaints("log = 1\nlog = 2\n"), ["t.toml:2: duplicate key `log`"]);
    }

    #[test]
    fn dotted_and_inline_forms_are_the_same_keys() {
        let mut findings = Findings::default();
        let typed = read(
            "timeouts.connect = \"1s\"\nupstreams.b = { base_url = \"http://b\", deployments.a = \"m\" }",
            "t.toml",
            &mut findings,
        )
        .unwrap();
        assert_eq!(typed.global["timeouts.connect"].value, Value::One("1s".into()));
        assert_eq!(typed.upstreams["b"].settings.len(), 2);
        assert!(findings.finish().is_ok());
    }
}
