//! `TOKENMETER_…` variables: put over what the file said. Owns which variable stands for which key.
//!
//! Each key has the variable `TOKENMETER_` + its name in capitals with `_` for `.`; a key of an upstream
//! has `TOKENMETER_UPSTREAMS_` + the upstream's name + `_` + the key. An empty variable counts as not
//! set, because that is what compose files make of one that is missing.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::keys::{self, ENV_ELSEWHERE, ENV_PREFIX, ENV_UPSTREAMS, GLOBAL, Key, Kind, UPSTREAM};
use super::known::KNOWN;
use super::problem::{Findings, Origin};
use super::typed::{Section, Setting, Settings, Typed, Value};
use crate::nearest::nearest;

pub(super) fn read(env: &BTreeMap<String, String>, typed: &mut Typed, findings: &mut Findings) {
    for (name, text) in env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        let origin = Origin::Environment(name.clone());
        if text.trim().is_empty() {
            findings.warning(Some(&origin), "is empty and counts as not set");
        } else if ENV_ELSEWHERE.contains(&name.as_str()) || is_service_link(name) {
            // Not a key's.
        } else if let Some(key) = GLOBAL.iter().find(|key| key.env_name() == *name) {
            match value(key, text) {
                Ok(value) => drop(typed.global.insert(key.name, Setting { value, origin })),
                Err(why) => findings.problem(Some(&origin), why),
            }
        } else if let Some((upstream, key)) = upstream_key(name, typed) {
            let section = typed.upstreams.entry(upstream).or_insert_with(|| Section {
                origin: Some(origin.clone()),
                settings: Settings::new(),
            });
            if let Ok(value) = value(key, text) {
                section.settings.insert(key.name, Setting { value, origin });
            }
        } else {
            findings.warning(Some(&origin), unknown(name));
        }
    }
}

fn value(key: &Key, text: &str) -> Result<Value, String> {
    Ok(match key.kind {
        Kind::List => Value::Many(keys::list(text).map(str::to_owned).collect()),
        Kind::Map => Value::Map(pairs(text)?),
        _ => Value::One(text.to_owned()),
    })
}

/// Reads `name=value,name=value` with percent-encoded values, as OpenTelemetry's own variables have it.
/// Values may be secrets, so a complaint repeats none.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let wrong = |which: usize| {
        format!("the {which}. of its items is not name=value; items are separated by commas")
    };
    let items = keys::list(text).enumerate().map(|(index, item)| {
        let (name, value) = item.split_once('=').ok_or_else(|| wrong(index + 1))?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong(index + 1))?;
        match name.trim() {
            "" => Err(wrong(index + 1)),
            name => Ok((name.to_owned(), value.into_owned())),
        }
    });
    items.collect()
}

/// Takes `TOKENMETER_UPSTREAMS_MY_HOUSE_BASE_URL` apart. The upstream is one that is known by name or
/// from the file, where a `-` in its name is a `_` in the variable's, or else a new one.
fn upstream_key(name: &str, typed: &Typed) -> Option<(String, &'static Key)> {
    let rest = name.strip_prefix(ENV_UPSTREAMS)?;
    let scalar = UPSTREAM.iter().filter(|key| key.kind != Kind::Map);
    let (upstream, key) = scalar
        .filter_map(|key| Some((rest.strip_suffix(&key.env_suffix())?.strip_suffix('_')?, key)))
        .find(|(upstream, _)| !upstream.is_empty())?;
    let in_file = typed.upstreams.keys().map(String::as_str);
    let known = in_file
        .chain(KNOWN.iter().map(|known| known.name))
        .find(|known| known.replace('-', "_").eq_ignore_ascii_case(upstream));
    Some((known.map_or_else(|| upstream.to_ascii_lowercase(), str::to_owned), key))
}

/// Kubernetes gives every pod such variables for each service, and ours is likely called tokenmeter.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(ENV_PREFIX).unwrap_or_default();
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn unknown(name: &str) -> String {
    let names: Vec<String> = GLOBAL.iter().map(Key::env_name).collect();
    let others = ENV_ELSEWHERE.iter().copied();
    match nearest(name, names.iter().map(String::as_str).chain(others)) {
        Some(near) => format!("no such setting; did you mean {near}?"),
        None => "no such setting".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> (Typed, Vec<String>) {
        let env = pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let mut typed = Typed::default();
        typed.upstreams.insert("my-house".into(), Section::default());
        let mut findings = Findings::default();
        read(&env, &mut typed, &mut findings);
        (typed, findings.finish().unwrap())
    }

    #[test]
    fn keys_of_upstreams_have_variables_too() {
        let (typed, warnings) = read_all(&[
            ("TOKENMETER_UPSTREAMS_AZURE_BASE_URL", "https://a.example"),
            ("TOKENMETER_UPSTREAMS_MY_HOUSE_TIMEOUTS_CONNECT", "1s"),
            ("TOKENMETER_UPSTREAMS_NEW_ONE_BASE_URL", "http://n.example"),
            ("TOKENMETER_TAGS_USER", "x-user, x-team"),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(typed.upstreams["azure"].settings.contains_key("base_url"));
        assert!(typed.upstreams["my-house"].settings.contains_key("timeouts.connect"));
        assert!(typed.upstreams["new_one"].settings.contains_key("base_url"));
        let tags = Value::Many(vec!["x-user".into(), "x-team".into()]);
        assert_eq!(typed.global["tags.user"].value, tags);
    }

    #[test]
    fn an_empty_or_unknown_variable_is_a_warning() {
        let (typed, warnings) = read_all(&[
            ("TOKENMETER_ADMIN_TOKEN", " "),
            ("TOKENMETER_LISTN", "x"),
            ("TOKENMETER_CONFIG", "elsewhere"),
            ("TOKENMETER_SERVICE_HOST", "10.0.0.1"),
            ("TOKENMETER_PORT_4100_TCP_ADDR", "10.0.0.1"),
            ("OTHER_LISTEN", "x"),
        ]);
        assert!(typed.global.is_empty());
        assert_eq!(
            warnings,
            [
                "TOKENMETER_ADMIN_TOKEN: is empty and counts as not set",
                "TOKENMETER_LISTN: no such setting; did you mean TOKENMETER_LISTEN?",
            ]
        );
    }
}
