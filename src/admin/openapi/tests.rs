//! The description against the code that it describes; the running server is in tests/it/openapi.rs.

use std::collections::BTreeSet;

use super::*;
use crate::admin::route::Route;
use crate::ledger::{GroupKey, SortKey};

/// Where a route stands in the document; nothing for what only the pages for browsers ask.
fn place_of(route: &Route) -> Option<&'static str> {
    Some(match route {
        Route::Asset(_) | Route::ToPage => return None,
        Route::Page => "/admin/",
        Route::Stats => "/admin/stats",
        Route::Usage => "/admin/usage",
        Route::Call(_) => "/admin/usage/{id}",
        Route::Session(_) => "/admin/sessions/{session}",
        Route::Users => "/admin/users",
        Route::User(_) => "/admin/users/{user}",
        Route::Estimates => "/admin/estimates",
        Route::Live => "/admin/live",
        Route::Export => "/admin/export",
        Route::Prices => "/admin/prices",
        Route::ReloadPrices => "/admin/prices/reload",
        Route::OpenApi => "/admin/openapi.json",
        Route::Metrics => "/metrics",
    })
}

fn parameters_of(document: &Value, path: &str) -> BTreeSet<String> {
    let listed = document["paths"][path]["get"]["parameters"].as_array().unwrap();
    listed
        .iter()
        .filter_map(|one| one["$ref"].as_str())
        .map(|at| document.pointer(at.trim_start_matches('#')).unwrap())
        .map(|parameter| match parameter["name"].as_str().unwrap() {
            "metadata" => "metadata.NAME".to_owned(),
            name => name.to_owned(),
        })
        .collect()
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(document: &Value, at: &Value, seen: &mut usize) {
        match at {
            Value::Object(fields) => {
                if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                    *seen += 1;
                }
                fields.values().for_each(|inner| walk(document, inner, seen));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(document, inner, seen)),
            _ => {}
        }
    }
    let document = document(false, "c");
    let mut seen = 0;
    walk(&document, &document, &mut seen);
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_route_is_described_and_every_description_has_a_route() {
    let described: BTreeSet<String> =
        document(false, "c")["paths"].as_object().unwrap().keys().cloned().collect();
    let mut routes = BTreeSet::from(["/healthz".to_owned(), "/readyz".to_owned()]);
    for path in &described {
        let filled =
            path.replace("{id}", "01900000-0000-7000-8000-000000000000").replace(['{', '}'], "");
        let Some(route) = Route::of(&filled) else { continue };
        assert_eq!(place_of(&route), Some(path.as_str()));
        let method = route.method().as_str().to_lowercase();
        assert!(document(false, "c")["paths"][path][&method].is_object(), "{method} {path}");
        routes.insert(path.clone());
    }
    assert_eq!(routes, described);
}

#[test]
fn the_words_are_those_that_are_read() {
    for word in parameters::GROUP_KEYS {
        assert!(word.parse::<GroupKey>().is_ok(), "{word}");
    }
    let message = "nothing".parse::<GroupKey>().unwrap_err().to_string();
    let listed = message.split("; possible are ").nth(1).unwrap_or(&message);
    for word in listed.split(", ").map(|word| word.trim_start_matches("and ")) {
        let known = parameters::GROUP_KEYS.contains(&word) || word.contains("metadata.");
        assert!(known || word.contains(' '), "{word}: {message}");
    }
    for word in parameters::sorts() {
        assert!(word.parse::<SortKey>().is_ok(), "{word}");
    }
}

#[test]
fn the_parameters_are_those_that_are_read() {
    use crate::admin::export::Export;
    use crate::admin::prices::PricesQuestion;
    use crate::admin::question::Question;
    use crate::units::Timestamp;

    let now = Timestamp::now();
    let stray = vec![("zzzzzzzzzzzzzzzz".to_owned(), "1".to_owned())];
    let questions = [
        ("/admin/stats", Question::stats(&stray, now).unwrap_err()),
        ("/admin/users", Question::users(&stray, now).unwrap_err()),
        ("/admin/usage", Question::usage(&stray, now).unwrap_err()),
        ("/admin/users/{user}", Question::user("a".to_owned(), &stray, now).unwrap_err()),
        ("/admin/export", Export::question(&stray, now).unwrap_err()),
        ("/admin/prices", PricesQuestion::new(&stray, now).unwrap_err()),
    ];
    let document = document(false, "c");
    for (path, wrong) in questions {
        let listed = wrong.message.split("; possible are ").nth(1).unwrap();
        let read: BTreeSet<String> = listed.split(", ").map(str::to_owned).collect();
        assert_eq!(parameters_of(&document, path), read, "{path}");
    }
}
