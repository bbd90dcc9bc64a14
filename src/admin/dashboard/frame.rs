//! What all pages have: the document, the way to the others, the window of time, the conditions in force.
//! Owns what stands around a page's own content, and the pages that stand in place of one.

use maud::{DOCTYPE, Markup, html};

use super::address::{Address, View};
use super::assets;
use super::window::{OFFERED, Span, local};
use super::{Scene, show, table};
use crate::ledger::GroupKey;

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
    %3Crect width='16' height='16' rx='3' fill='%234269d0'/%3E%3Cpath d='M4 12V8m4 4V4m4 8V6' \
    stroke='white' stroke-width='2'/%3E%3C/svg%3E";

/// What can be asked for by key and has a place of its own among the links.
const KEYS: [(GroupKey, &str); 7] = [
    (GroupKey::User, "Users"),
    (GroupKey::Session, "Sessions"),
    (GroupKey::Operation, "Operations"),
    (GroupKey::Model, "Models"),
    (GroupKey::Provider, "Providers"),
    (GroupKey::Upstream, "Upstreams"),
    (GroupKey::Endpoint, "Endpoints"),
];

/// A page's own content.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) body: Markup,
    /// Whether the window and the conditions say what it is about.
    pub(super) is_scoped: bool,
    /// Where the same is to be had as CSV.
    pub(super) csv: Option<String>,
    /// Whether it stands in place of a page.
    pub(super) is_trouble: bool,
}

/// The document around a page. `metadata` are the names that calls have.
pub(super) fn document(page: &Page, address: &Address, metadata: &[String], nonce: &str) -> Markup {
    // Parsing it takes longer than all the rest.
    let has_charts = page.body.0.contains("data-chart=");
    html! {
        (DOCTYPE)
        html lang="en" data-zone=(address.zone_name()) {
            head {
                (head(&page.title))
                link rel="stylesheet" href=(assets::href("dashboard.css"));
                script src=(assets::href("dashboard.js")) {}
                @if has_charts {
                    // plotly.js puts its style rules here, and needs no right to make a style of its own.
                    style id="plotly.js-style-global" nonce=(nonce) { "/* */" }
                    script #plotly src=(assets::href("plotly.js")) async="async" {}
                }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header.top {
                    a.brand href=(Address::home(address.now).keeping(address).href()) { "tokenmeter" }
                    button #theme type="button" hidden="hidden" { "Theme" }
                }
                (navigation(address, metadata, !page.is_trouble))
                main #content tabindex="-1" {
                    div.title {
                        h1 { (show::visible(&page.title)) }
                        @if let Some(csv) = &page.csv {
                            a.button href=(csv) download="" { "Download CSV" }
                        }
                    }
                    @if page.is_scoped { (scope(address)) }
                    (page.body)
                    @if !page.is_trouble { footer.quiet {
                        "Times in " span #zone { (address.zone_name()) } ". "
                        "Figures with " (show::about()) " hold estimates."
                    } }
                }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        title { (show::visible(title)) " · tokenmeter" }
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        link rel="icon" href=(ICON);
    }
}

/// `is_there`: whether the address is that of the page.
fn navigation(address: &Address, metadata: &[String], is_there: bool) -> Markup {
    let link = |view: View, text: &str| {
        let current = is_there && is_under(&address.view, &view);
        html! {
            li { a href=(address.to(view).href()) aria-current=[current.then_some("page")] { (text) } }
        }
    };
    html! {
        nav.views aria-label="Views" {
            ul {
                (link(View::Overview, "Overview"))
                @for (key, text) in KEYS { (link(View::By(key), text)) }
                (link(View::Compare, "Compare models"))
                (link(View::Calls, "Calls"))
                (link(View::Quality, "Quality"))
            }
            @if !metadata.is_empty() {
                p.quiet #metadata { "Metadata" }
                ul aria-labelledby="metadata" {
                    @for name in metadata {
                        (link(View::By(GroupKey::Metadata(name.clone())), &show::label(name)))
                    }
                }
            }
        }
    }
}

/// Whether a page is found under a link: one user is among the users.
fn is_under(view: &View, link: &View) -> bool {
    match (view, link) {
        (View::User(_), View::By(GroupKey::User))
        | (View::Session(_), View::By(GroupKey::Session))
        | (View::Call(_), View::Calls) => true,
        _ => view == link,
    }
}

fn scope(address: &Address) -> Markup {
    let is_custom = matches!(address.span, Span::Custom { .. });
    html! {
        div.scope {
            nav aria-label="Window of time" { ul.windows {
                @for span in OFFERED { li {
                    a href=(address.spanning(span.clone()).href())
                        aria-current=[(span == address.span).then_some("true")] { (span.name()) }
                } }
                li { details.custom {
                    summary.here[is_custom] { "From – until" }
                    (custom(address))
                } }
            } }
            p.quiet.when { (when(address)) }
            @if !address.conditions().is_empty() {
                ul.chips aria-label="Only calls with" {
                    @for (name, text) in address.conditions() { li.chip {
                        span { (show::visible(name)) " = " (show::name(text)) }
                        a href=(address.without(name).href())
                            aria-label=(format!("Remove the condition {}", show::label(name))) { "×" }
                    } }
                    @if address.conditions().len() > 1 {
                        li { a href=(address.without_conditions().href()) { "Remove all" } }
                    }
                }
            }
        }
    }
}

fn custom(address: &Address) -> Markup {
    let window = address.window();
    let (since, until) = match &address.span {
        Span::Custom { since, until, .. } => (since.clone(), until.clone()),
        _ => (
            window.since.map(|since| local(&address.zone, since).date().to_string()),
            window.until.map(|until| local(&address.zone, until).date().to_string()),
        ),
    };
    let hidden = address.spanning(Span::default()).in_zone().pairs();
    html! {
        form method="get" {
            @for (name, text) in hidden { input type="hidden" name=(name) value=(text); }
            label { "From " input name="since" value=[since] placeholder="2026-11-01" size="24"; }
            label { "Up to, not included " input name="until" value=[until] placeholder="now" size="24"; }
            p.quiet { "A date, or a time such as 2026-11-21T09:30:00Z" }
            button type="submit" { "Show" }
        }
    }
}

/// The window in words, and what it is compared with.
fn when(address: &Address) -> Markup {
    let window = address.window();
    let said = |at| local(&address.zone, at).strftime("%e %b %Y %H:%M").to_string();
    html! {
        @match (window.since, window.until) {
            (None, None) => "Since the first call",
            (Some(since), None) => { (said(since)) " – now" }
            (None, Some(until)) => { "Up to " (said(until)) }
            (Some(since), Some(until)) => { (said(since)) " – " (said(until)) }
        }
        ", " (address.zone_name())
        @let is_compared = matches!(address.view, View::Overview | View::User(_));
        @if let Some(before) = address.before().filter(|_| is_compared) {
            @if let (Some(since), Some(until)) = (before.since, before.until) {
                "; compared with " (said(since)) " – " (said(until))
            }
        }
    }
}

/// In place of figures, where there are none: what to do next.
pub(super) fn nothing(scene: &Scene<'_>, is_new: bool) -> Markup {
    if is_new { first_call(scene.base) } else { elsewhere(scene.address) }
}

fn elsewhere(address: &Address) -> Markup {
    html! {
        section.panel.empty {
            h2 { "Nothing in this window" }
            p { "There are calls in the ledger, but none that this page is about." }
            ul {
                @for span in [Span::Days(30), Span::Days(90), Span::All] {
                    @if span != address.span {
                        li { a href=(address.spanning(span.clone()).href()) { "Look at: " (span.name()) } }
                    }
                }
                @if !address.conditions().is_empty() {
                    li { a href=(address.without_conditions().href()) { "Look at all calls, without conditions" } }
                }
            }
        }
    }
}

fn first_call(base: &str) -> Markup {
    let curl = format!(
        "curl {base}/v1/chat/completions \\\n  -H \"Authorization: Bearer $OPENAI_API_KEY\" \
         -H \"X-User: me\" -H \"X-Operation: hello\" \\\n  -H \"Content-Type: application/json\" \\\n  \
         -d '{{\"model\": \"gpt-4o-mini\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    );
    html! {
        section.panel.empty {
            h2 { "No call has been recorded yet" }
            ol {
                li {
                    "Point an SDK's base URL here: " code { (show::visible(base)) "/v1" }
                    " for OpenAI, " code { "/anthropic" } ", " code { "/openrouter/api/v1" }
                    " and so on for others. Keys stay as they are."
                }
                li { "Or send a first call by hand:" pre tabindex="0" { (show_lines(&curl)) } }
                li {
                    "Say who calls and what for: the headers " code { "X-User" } ", " code { "X-Session" }
                    ", " code { "X-Operation" } " and " code { "X-Tag-…" } " become the tables here."
                }
                li { "Load this page again." }
            }
            p {
                "No key at hand? " code { "tokenmeter serve --demo" }
                " shows all of this with the calls of a made-up company, in a ledger of its own."
            }
        }
    }
}

/// Text whose line breaks stay.
fn show_lines(text: &str) -> Markup {
    html! { @for line in text.lines() { (show::visible(line)) "\n" } }
}

/// A page that is no answer: what went wrong, in words.
pub(super) fn trouble(status: u16, message: &str) -> Page {
    let (title, hint) = match status {
        400 => {
            ("This address asks for something that cannot be", "Mend the address, or begin again.")
        }
        404 => ("Not found", "It may be older than the ledger, or written differently."),
        503 => ("No answer just now", "A narrower window or fewer conditions are quicker."),
        _ => ("No answer", "Begin again."),
    };
    let body = html! {
        section.panel.empty {
            p { (show::visible(message)) }
            p.quiet { (hint) }
            p { a href="./" { "To the overview" } }
        }
    };
    Page { title: title.to_owned(), body, is_scoped: false, csv: None, is_trouble: true }
}

const LOCKED: &str = ":root{color-scheme:light dark;font:16px/1.6 system-ui,sans-serif}body{margin:0;\
    min-height:100vh;display:grid;place-items:center}main{max-width:34rem;margin:1rem;padding:1.5rem 2rem;border:1px solid #8886;border-radius:.75rem}\
    h1{margin:0 0 1rem;font-size:1.6rem}code{overflow-wrap:anywhere;background:#8882;padding:.1em .3em;\
    border-radius:.25em}a:focus-visible{outline:3px solid;outline-offset:2px}";

/// The page for whoever is not logged in. `root` leads from where it is shown to the pages' path.
pub(super) fn locked(root: &str, nonce: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head("Locked")) style nonce=(nonce) { (LOCKED) } }
            body { main {
                h1 { "tokenmeter" }
                p { "This page needs the admin token." }
                p {
                    "Open the login link that tokenmeter wrote to its log when it started: it works once, and \
                     keeps this browser logged in for a week. Or send " code { "Authorization: Bearer TOKEN" }
                    "."
                }
                p {
                    "The token is " code { "TOKENMETER_ADMIN_TOKEN" } ", or else in the file "
                    code { "tokenmeter.token" } " beside the database."
                }
                p { "Just logged in? " a href=(root) { "Go on to the page." } }
            } }
        }
    }
}

/// A heading with the way to the whole table.
pub(super) fn heading(title: &str, all: &Address) -> Markup {
    html! {
        div.panel-head {
            h2 { (title) }
            a href=(all.href()) aria-label=(format!("All of: {title}")) { "All" }
        }
    }
}

/// In place of a table among others that would be too long.
pub(super) fn too_many(title: &str) -> Markup {
    html! { section.panel { h2 { (title) } p.quiet { (TOO_MANY) } } }
}

/// Instead of more rows than the ledger gives in one answer.
pub(super) const TOO_MANY: &str = "Too many to list. Narrow the window, or add a condition.";

/// A table of few rows among others on a page.
pub(super) fn panel(address: &Address, table: &table::Table<'_>, all: &Address) -> Markup {
    html! {
        section.panel {
            (heading(table.caption, all))
            @if table.groups.is_empty() { p.quiet { "None." } } @else { (table.markup(address)) }
        }
    }
}
