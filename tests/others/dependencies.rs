//! What came along: every package of `Cargo.lock` is from crates.io, has a licence that `deny.toml` allows, and is
//! there once, unless `deny.toml` knows why not. cargo-deny reads the same file, and advisories besides; this needs
//! nothing but cargo, so that it always runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use toml_edit::DocumentMut;

use crate::prometheus::repository;

fn rules() -> DocumentMut {
    fs::read_to_string(repository().join("deny.toml")).unwrap().parse().unwrap()
}

fn texts(list: &toml_edit::Item) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// What cargo says, which must be content.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(arguments)
        .args(["--locked", "--all-features"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages that are compiled for this machine, all features and tests included.
fn packages() -> Vec<Value> {
    // The tree knows best what is really used, the metadata what it says of itself.
    let tree = cargo(&["tree", "--prefix", "none", "--format", "{p}"]);
    let used: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .filter(|(name, _)| *name != "tokenmeter")
        .collect();
    let metadata = cargo(&["metadata", "--format-version", "1"]);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let Value::Array(mut packages) = metadata["packages"].take() else { panic!("no packages") };
    packages.retain(|one| {
        let [name, version] = ["name", "version"].map(|key| one[key].as_str().unwrap());
        used.contains(&(name, version))
    });
    assert!(packages.len() > 300, "only {} packages were looked at", packages.len());
    assert_eq!(packages.len(), used.len());
    packages
}

fn name(package: &Value) -> String {
    format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

/// Whether an SPDX expression can be met with these: `A OR (B AND C)`, and `A/B` as it was once written.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression}");
    met
}

fn any(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &dyn Fn(&str) -> bool) -> bool {
    if words.get(*at) == Some(&"(") {
        *at += 1;
        let met = any(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut licence = words[*at].to_owned();
    *at += 1;
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words[*at + 1]);
        *at += 2;
    }
    allowed(&licence)
}

#[test]
fn every_licence_is_one_that_is_allowed() {
    let rules = rules();
    let allowed = texts(&rules["licenses"]["allow"]);
    let exceptions = rules["licenses"]["exceptions"].as_array().unwrap();
    let mut wrong = Vec::new();
    for package in packages() {
        let own: Vec<&str> = exceptions
            .iter()
            .filter_map(|one| one.as_inline_table())
            .filter(|one| one["crate"].as_str() == package["name"].as_str())
            .flat_map(|one| {
                one["allow"].as_array().unwrap().iter().filter_map(|word| word.as_str())
            })
            .collect();
        let is_allowed =
            |licence: &str| allowed.iter().any(|one| one == licence) || own.contains(&licence);
        let licence = package["license"].as_str().unwrap_or_default();
        if licence.is_empty() || !is_met(licence, &is_allowed) {
            wrong.push(format!("{}: {licence:?}", name(&package)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_package_comes_from_the_public_registry() {
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let lock: DocumentMut = lock.parse().unwrap();
    let packages = lock["package"].as_array_of_tables().unwrap();
    assert!(packages.len() > 300);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let source = package.get("source").and_then(|source| source.as_str());
        assert_eq!(source, (name != "tokenmeter").then_some(registry), "{name}");
        assert!(name == "tokenmeter" || package.contains_key("checksum"), "{name} has no checksum");
    }
}

#[test]
fn what_is_there_twice_is_known() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let [name, version] =
            ["name", "version"].map(|key| package[key].as_str().unwrap().to_owned());
        versions.entry(name).or_default().insert(version);
    }
    let rules = rules();
    let banned = rules["bans"]["deny"].as_array().unwrap();
    for one in banned.iter().filter_map(|one| one.as_inline_table()) {
        assert!(!versions.contains_key(one["crate"].as_str().unwrap()), "{one}");
    }
    let skipped = rules["bans"]["skip"].as_array().unwrap();
    for one in skipped.iter().filter_map(|one| one.as_inline_table()) {
        let (name, version) = one["crate"].as_str().unwrap().split_once('@').unwrap();
        let begins = format!("{version}.");
        versions.entry(name.to_owned()).or_default().retain(|other| !other.starts_with(&begins));
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:#?}");
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = |licence: &str| ["MIT", "ISC"].contains(&licence);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 AND MIT) OR ISC", true),
        ("MIT WITH Some-exception", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
