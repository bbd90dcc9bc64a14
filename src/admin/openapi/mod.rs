//! This API's description, made from what the server itself goes by. Owns which calls there are to be told
//! of, and what each takes and answers; the shapes are those of the answers' own types.
//!
//! | file | owns |
//! | --- | --- |
//! | `parameters` | what may be asked, with types and limits |
//! | `schemas` | what is answered |
//!
//! To add a call: a `Route`, and an [`Operation`] of its path. Tests know every route (the compiler sees to
//! it), and compare parameters and answers with the server's.

mod parameters;
mod schemas;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

/// One call of the API.
struct Operation {
    path: &'static str,
    method: &'static str,
    id: &'static str,
    summary: &'static str,
    /// Path parameters and query parameters, as the document has them.
    parameters: Vec<Value>,
    /// What a good answer is.
    answer: Answer,
    /// Statuses of errors besides those that every call has.
    errors: &'static [&'static str],
    access: Access,
    /// From a good answer on to other calls.
    links: Value,
}

enum Answer {
    /// The name of a schema.
    Json(&'static str),
    /// Media types of texts.
    Text(&'static [&'static str]),
    /// A page for browsers, which may lead elsewhere.
    Page,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Open,
    /// The token, or a browser's session; to change something, from tokenmeter's own pages only.
    Known,
}

/// The whole document.
pub(super) fn document(metrics_are_public: bool, cookie: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations(metrics_are_public) {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.json();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tokenmeter",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin API. docs/ADMIN_API.md explains it. An unknown, repeated, empty or \
                contradictory parameter is a 400 that names it; every GET can be asked with HEAD.",
        },
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "parameters": parameters::all(),
            "headers": {
                "ErrorCode": {
                    "description": "The error's code.",
                    "required": true,
                    "schema": schemas::error_codes(),
                },
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer",
                    "description": "TOKENMETER_ADMIN_TOKEN, or the content of tokenmeter.token."},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie,
                    "description": "A browser that has logged in with a link; its name is another one for each tokenmeter."},
            },
        },
    })
}

impl Operation {
    fn json(&self) -> Value {
        let mut answers = Map::new();
        answers.insert("200".to_owned(), self.good());
        if matches!(self.answer, Answer::Page) {
            answers.insert("303".to_owned(), json!({"description": "Another address of the page"}));
        }
        let usual: &[&str] = match self.access {
            Access::Open => &[],
            Access::Known => &["400", "401", "429", "503"],
        };
        for status in usual.iter().chain(self.errors) {
            answers.insert((*status).to_owned(), self.error(status));
        }
        if self.id == "ready" {
            answers.insert(
                "503".to_owned(),
                json_answer("Calls cannot be recorded as they should", "Readiness"),
            );
        }
        answers.insert("431".to_owned(), json!({"description": "The request's head is too large"}));
        let security = match self.access {
            Access::Open => json!([]),
            Access::Known => json!([{"token": []}, {"session": []}]),
        };
        json!({
            "operationId": self.id, "summary": self.summary, "security": security,
            "parameters": self.parameters, "responses": answers,
        })
    }

    fn good(&self) -> Value {
        let mut answer = match self.answer {
            Answer::Json(schema) => json_answer("The answer", schema),
            Answer::Text(types) => {
                let content: Map<String, Value> = types
                    .iter()
                    .map(|name| ((*name).to_owned(), json!({"schema": {"type": "string"}})))
                    .collect();
                json!({"description": "The answer", "content": content})
            }
            Answer::Page => json!({
                "description": "The page",
                "content": {"text/html": {"schema": {"type": "string"}}},
            }),
        };
        if !self.links.is_null() {
            answer["links"] = self.links.clone();
        }
        answer
    }

    fn error(&self, status: &str) -> Value {
        let description = match status {
            "400" => "A parameter is wrong: `param` names it, `message` says what would be right",
            "401" => "The admin token is missing or wrong",
            "404" => "There is no such thing",
            "429" => {
                "Too many wrong tokens came from this address; `retry-after` says when to come again"
            }
            "422" => "The file of prices is wrong; the old ones stay in force",
            _ => {
                "No answer just now: too many questions at once, one that takes too long, or a database \
                  or file that cannot be read"
            }
        };
        let schema = if status == "422" { "PricesError" } else { "Error" };
        let mut answer = json_answer(description, schema);
        answer["headers"] =
            json!({"x-tokenmeter-error": {"$ref": "#/components/headers/ErrorCode"}});
        if matches!(self.answer, Answer::Page) {
            answer["content"]["text/html"] = json!({"schema": {"type": "string"}});
            answer["headers"]["x-tokenmeter-error"] = json!({"schema": {"type": "string"}});
        }
        answer
    }
}

fn json_answer(description: &str, schema: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn operations(metrics_are_public: bool) -> Vec<Operation> {
    let all = [about_calls(), about_prices(), about_itself(metrics_are_public)];
    all.into_iter().flatten().collect()
}

/// What is read with the token, and has no errors of its own.
fn read(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    schema: &'static str,
) -> Operation {
    Operation {
        path,
        method: "get",
        id,
        summary,
        parameters,
        answer: Answer::Json(schema),
        errors: &[],
        access: Access::Known,
        links: Value::Null,
    }
}

fn about_calls() -> Vec<Operation> {
    use parameters::{calls, named, path, totals, user_totals, window};

    let link = |id: &str, name: &str, from: &str| {
        json!({id: {"operationId": id,
        "parameters": {name: format!("$response.body#{from}")}}})
    };
    let next_page = json!({"offset": {"operationId": "stats",
        "parameters": {"offset": "$response.body#/next_offset"}}});
    vec![
        Operation {
            links: next_page,
            ..read("/admin/stats", "stats", "Totals and breakdowns of calls", totals(), "Stats")
        },
        Operation {
            links: link("call", "id", "/records/0/id"),
            ..read("/admin/usage", "usage", "Calls, the newest first", calls(), "Calls")
        },
        Operation {
            errors: &["404"],
            ..read(
                "/admin/usage/{id}",
                "call",
                "One call",
                vec![path(
                    "id",
                    "The call's id, which its answer had as x-tokenmeter-id",
                    json!({"type": "string", "format": "uuid"}),
                )],
                "Call",
            )
        },
        Operation {
            errors: &["404"],
            ..read(
                "/admin/sessions/{session}",
                "session",
                "A session: totals, models, operations, attempts",
                vec![path(
                    "session",
                    "All of the path that follows, percent-encoded",
                    json!({"type": "string", "minLength": 1}),
                )],
                "Session",
            )
        },
        Operation {
            links: link("user", "user", "/users/0/user"),
            ..read("/admin/users", "users", "All users, most tokens first", user_totals(), "Users")
        },
        Operation {
            errors: &["404"],
            ..read(
                "/admin/users/{user}",
                "user",
                "A user: totals, models, operations, days",
                [
                    vec![path(
                        "user",
                        "All of the path that follows, percent-encoded",
                        json!({"type": "string", "minLength": 1}),
                    )],
                    window(),
                    parameters::filters_but_user(),
                ]
                .concat(),
                "User",
            )
        },
        read(
            "/admin/estimates",
            "estimates",
            "What reported usage has taught about estimates",
            Vec::new(),
            "Estimates",
        ),
        Operation {
            answer: Answer::Text(&["text/csv", "application/jsonl"]),
            ..read(
                "/admin/export",
                "export",
                "All calls as a file",
                [vec![named("format")], window(), parameters::filters()].concat(),
                "",
            )
        },
    ]
}

fn about_prices() -> Vec<Operation> {
    use parameters::{named, paged};

    vec![
        read(
            "/admin/prices",
            "prices",
            "The price table in force",
            [
                ["at", "tz", "PricesProvider", "name", "model"].map(named).to_vec(),
                paged("PricesLimit"),
            ]
            .concat(),
            "Prices",
        ),
        Operation {
            method: "post",
            errors: &["422"],
            ..read(
                "/admin/prices/reload",
                "reloadPrices",
                "Read the file of prices again",
                Vec::new(),
                "Reloaded",
            )
        },
    ]
}

fn about_itself(metrics_are_public: bool) -> Vec<Operation> {
    vec![
        read("/admin/live", "live", "The calls that are open now", Vec::new(), "Live"),
        read("/admin/openapi.json", "openapi", "This description", Vec::new(), "Document"),
        Operation {
            answer: Answer::Page,
            ..read(
                "/admin/",
                "dashboard",
                "The dashboard for browsers; docs/DASHBOARD.md has its parameters",
                Vec::new(),
                "",
            )
        },
        Operation {
            answer: Answer::Text(&["text/plain", "application/openmetrics-text"]),
            access: if metrics_are_public { Access::Open } else { Access::Known },
            ..read("/metrics", "metrics", "What Prometheus reads", Vec::new(), "")
        },
        Operation {
            access: Access::Open,
            ..read("/healthz", "alive", "Whether the process is alive", Vec::new(), "Alive")
        },
        Operation {
            access: Access::Open,
            ..read("/readyz", "ready", "Whether calls can be recorded", Vec::new(), "Readiness")
        },
    ]
}
