//! The admin API's description against the server that gives it: every described call is answered, and as
//! described; nothing that is answered is left out. `tests/others/schemathesis.rs` tries far more.

use serde_json::{Value, json};

use crate::rig::{Proxy, Settings, bytes_of, field};

fn ask(proxy: &Proxy, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut client = proxy.connect();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\
         Authorization: Bearer {}\r\n{headers}\r\n",
        proxy.token()
    ));
    let head = client.head();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = String::from_utf8(bytes_of(&client.rest())).unwrap();
    (status, head, body)
}

fn document(proxy: &Proxy) -> Value {
    let (status, head, body) = ask(proxy, "GET", "/admin/openapi.json", "");
    assert_eq!((status, field(&head, "content-type")), (200, Some("application/json")));
    body.parse().unwrap()
}

/// Whether a value is as a schema says, as far as the description uses schemas.
fn conforms(document: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(to) = schema["$ref"].as_str() {
        return conforms(document, document.pointer(&to[1..]).unwrap(), value, place);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let tried: Vec<_> = any.iter().map(|one| conforms(document, one, value, place)).collect();
        return tried
            .into_iter()
            .find(Result::is_ok)
            .unwrap_or_else(|| Err(format!("{place}: {value}")));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.to_string().contains('.') => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let fits = types.contains(&kind) || (kind == "integer" && types.contains(&"number"));
    if !fits {
        return Err(format!("{place}: {value} is no {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{place}: {value} is none of {words:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{place}[]"))?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{place} lacks {name}"));
        }
    }
    for (name, inner) in fields {
        let place = format!("{place}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("{place} is not described")),
            (Value::Null, Value::Null) => {}
            (Value::Null, more) => conforms(document, more, inner, &place)?,
            (known, _) => conforms(document, known, inner, &place)?,
        }
    }
    Ok(())
}

/// A proxy with some calls.
fn filled() -> Proxy {
    Settings::to("http://127.0.0.1:1").start_on(|database| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_tokenmeter"))
            .args(["demo", "--calls", "500", "--database"])
            .arg(database)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    })
}

#[test]
fn every_described_call_answers_as_described() {
    let proxy = filled();
    let document = document(&proxy);
    let usage: Value = ask(&proxy, "GET", "/admin/usage?limit=1000", "").2.parse().unwrap();
    let rows = usage["records"].as_array().unwrap();
    let of = |name: &str| {
        let text = rows.iter().find_map(|row| row[name].as_str()).unwrap();
        text.replace('/', "%2F").replace(' ', "%20")
    };
    let mut looked_at = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let mut target = path.clone();
            for name in ["id", "session", "user"] {
                target = target.replace(&format!("{{{name}}}"), &of(name));
            }
            let queries: &[&str] = match path.as_str() {
                "/admin/stats" => {
                    &["", "?group_by=user,day,status&days=90&limit=5", "?group_by=metadata.team"]
                }
                "/admin/prices" => {
                    &["", "?model=gpt-4o", "?model=nothing&provider=openai", "?provider=groq"]
                }
                _ => &[""],
            };
            for query in queries {
                let target = format!("{target}{query}");
                let (status, head, body) = ask(&proxy, &method.to_uppercase(), &target, "");
                let answer = &operation["responses"][status.to_string()];
                assert!(answer.is_object() && status == 200, "{target}: {status} {body}");
                let (kind, schema) = answer["content"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .find(|(kind, _)| {
                        field(&head, "content-type").unwrap().starts_with(kind.as_str())
                    })
                    .unwrap_or_else(|| panic!("{target}: {head}"));
                if kind == "application/json" {
                    let value = body.parse().unwrap();
                    conforms(&document, &schema["schema"], &value, &target).unwrap();
                }
                looked_at += 1;
            }
        }
    }
    assert!(looked_at >= 18, "{looked_at}");
}

#[test]
fn errors_are_as_described_and_no_method_is_left_out() {
    let proxy = filled();
    let document = document(&proxy);
    let schema = json!({"$ref": "#/components/schemas/Error"});
    for (path, operations) in document["paths"].as_object().unwrap() {
        let target =
            path.replace("{id}", "01900000-0000-7000-8000-000000000000").replace(['{', '}'], "");
        let described: Vec<String> =
            operations.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"]
        {
            let reads = described.contains(&"GET".to_owned()) && method == "HEAD";
            let (status, head, body) = ask(&proxy, method, &target, "Accept: application/json\r\n");
            if described.contains(&method.to_owned()) || reads {
                assert_ne!(status, 405, "{method} {path}");
            } else {
                assert_eq!(status, 405, "{method} {path}");
                let allowed = field(&head, "allow").unwrap();
                assert!(described.iter().all(|one| allowed.contains(one.as_str())), "{allowed}");
                if method != "HEAD" {
                    conforms(&document, &schema, &body.parse().unwrap(), &target).unwrap();
                }
            }
            if method == "HEAD" {
                assert_eq!(body, "", "{path}");
            }
        }
        if operations["get"]["security"] != json!([]) {
            let method = &described[0];
            let (status, _, body) = ask(&proxy, method, &format!("{target}?zzz=1"), "");
            if status == 400 {
                conforms(&document, &schema, &body.parse().unwrap(), &target).unwrap();
            }
        }
    }
}

/// What schemas cannot say of parameters that are right each by itself, their descriptions say; the fuzzer is
/// kept from asking it.
#[test]
fn parameters_that_contradict_each_other_are_refused_as_described() {
    let proxy = filled();
    let document = document(&proxy);
    let schema = json!({"$ref": "#/components/schemas/Error"});
    let parameters = &document["components"]["parameters"];
    let mut looked_at = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let days = json!({"$ref": "#/components/parameters/days"});
        let listed = operations["get"]["parameters"].as_array();
        if !listed.is_some_and(|listed| listed.contains(&days)) {
            continue;
        }
        for (query, param) in [
            ("days=7&since=2026-11-01", "days"),
            ("until=2026-11-01T00:00:00Z&days=7", "days"),
            ("days=7&since=2026-11-01&until=2026-11-02", "days"),
            ("since=2026-11-02&until=2026-11-02", "until"),
            ("since=2026-11-02&until=2026-11-01", "until"),
            // A date's midnight is that of the zone.
            ("since=2026-11-02&until=2026-11-02T05:00:00Z&tz=America/New_York", "until"),
        ] {
            let said = parameters[param]["description"].as_str().unwrap();
            assert!(said.contains(&format!("a 400 with `param` \"{param}\"")), "{said}");
            let target = format!("{}?{query}", path.replace("{user}", "somebody"));
            let (status, head, body) = ask(&proxy, "GET", &target, "");
            assert_eq!(status, 400, "{target}: {body}");
            assert_eq!(field(&head, "x-tokenmeter-error"), Some("bad_parameter"), "{target}");
            let body: Value = body.parse().unwrap();
            conforms(&document, &schema, &body, &target).unwrap();
            assert_eq!(body["error"]["param"], param, "{target}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 5 * 6);
}

#[test]
fn odd_requests_are_answered_in_good_order() {
    let proxy = filled();
    let long = "x".repeat(60_000);
    for (path, statuses) in [
        (format!("/admin/stats?user={long}"), vec![200]),
        (format!("/admin/prices?model={long}&provider=openai"), vec![200]),
        (format!("/admin/prices?name={}", "*a".repeat(20_000)), vec![200]),
        ("/admin/prices?name=%ff".to_owned(), vec![400]),
        ("/admin/prices?offset=18446744073709551615".to_owned(), vec![200]),
        ("/admin/prices?offset=18446744073709551616".to_owned(), vec![400]),
        ("/admin/prices?at=-9999-01-01".to_owned(), vec![400]),
        // A tag may be empty, have any name, and be one of many.
        ("/admin/usage?metadata.a=&metadata.%C3%BC%20b=".to_owned(), vec![200]),
        ("/admin/usage?metadata.=1".to_owned(), vec![400]),
        (
            format!(
                "/admin/usage?{}",
                (0..40).map(|n| format!("metadata.{n}=1")).collect::<Vec<_>>().join("&")
            ),
            vec![200],
        ),
        (
            "/admin/stats?group_by=status,operation,model,user,attempt,metadata.%C3%BC%20b"
                .to_owned(),
            vec![200],
        ),
        ("/admin/stats?group_by=user,metadata.%20".to_owned(), vec![400]),
        ("/admin/prices/".to_owned(), vec![404]),
        ("/admin/prices/reload/".to_owned(), vec![404]),
        ("/admin/openapi.json?x=1".to_owned(), vec![400]),
        (format!("/admin/users/{long}"), vec![404]),
        (format!("/admin/stats?user={long}{long}"), vec![414, 431]),
    ] {
        let (status, _, _) = ask(&proxy, "GET", &path, "");
        assert!(statuses.contains(&status), "{}: {status}", &path[..path.len().min(60)]);
    }
}
