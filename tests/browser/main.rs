//! The dashboard as a person meets it: a real Chromium goes through every view with mouse and keyboard.
//!
//! `cargo test --test browser` needs Chromium (or its place in `CHROMIUM`); `cargo test` leaves it out.

mod chrome;
mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use chrome::Tab;
use server::{DATABASE, Server, run};

/// Every name that could do harm where it is shown, or is merely hard to show.
const HOSTILE: [&str; 6] = [
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror=window.pwned=1>",
    "=HYPERLINK(\"http://evil.example\",\"x\")",
    "ann\u{202e}txt.exe",
    "';window.pwned=1;//&amp;<b>",
    "javascript:window.pwned=1",
];

/// A page that is logged in.
fn visit(server: &Server) -> Tab {
    let mut tab = Tab::open();
    tab.go(&server.login);
    tab
}

/// The addresses of all views that the navigation leads to.
fn views(tab: &mut Tab) -> Vec<String> {
    let links = "[...document.querySelectorAll('nav.views a')].map(link => link.href)";
    let links: Vec<String> = serde_json::from_value(tab.eval(links)).unwrap();
    assert!(links.len() >= 11, "{links:?}");
    links
}

#[test]
fn every_view_is_reached_by_clicks_and_nothing_is_complained_about() {
    let server = Server::with_demo(3000);
    let mut tab = visit(&server);
    assert!(tab.text("location.pathname") == "/admin/", "the link leads to the pages");
    let mut titles = Vec::new();
    for at in 0..views(&mut tab).len() {
        // The lists of links stand one below the other.
        tab.eval(
            "[...document.querySelectorAll('nav.views a')].forEach((a, i) => a.id = 'view-' + i); 0",
        );
        tab.follow(&format!("#view-{at}"));
        titles.push(tab.text("document.querySelector('h1').innerText"));
        assert_eq!(tab.count("nav.views a[aria-current=page]"), 1, "{titles:?}");
        assert_eq!(tab.complaints(), Vec::<String>::new(), "{titles:?}");
    }
    for title in ["Overview", "Users", "Sessions", "Models", "Models compared", "Calls", "Quality"]
    {
        assert!(titles.iter().any(|one| one.starts_with(title)), "{title} in {titles:?}");
    }
}

#[test]
fn rows_lead_into_users_sessions_and_calls_and_back_by_conditions() {
    let server = Server::with_demo(3000);
    let mut tab = visit(&server);
    let pages = views(&mut tab);
    let page =
        |key: &str| pages.iter().find(|link| link.contains(&format!("key={key}"))).unwrap().clone();

    tab.go(&page("user"));
    let user = tab.text("document.querySelector('tbody th a').innerText");
    tab.follow("tbody th a");
    assert!(tab.text("document.querySelector('h1').innerText").contains(&user));
    tab.follow("table[data-live] tbody a");
    let one = tab.text("document.body.innerText");
    assert!(one.contains("Price entry") && one.contains("Tokens by class"), "{one}");

    tab.go(&page("session"));
    tab.follow("tbody th a");
    assert!(tab.text("document.body.innerText").contains("ttempt"));

    // A model's row narrows the overview, and the chip widens it again.
    tab.go(&page("model"));
    let calls = |tab: &mut Tab| tab.text("document.querySelector('main').innerText");
    tab.follow("tbody th a");
    assert_eq!(tab.count(".chip"), 1);
    let narrow = calls(&mut tab);
    tab.follow(".chip a");
    assert_eq!(tab.count(".chip"), 0);
    assert_ne!(calls(&mut tab), narrow);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[test]
fn headings_sort_and_the_browser_goes_back() {
    let server = Server::with_demo(2000);
    let mut tab = visit(&server);
    let users = views(&mut tab).into_iter().find(|link| link.contains("key=user")).unwrap();
    tab.go(&users);
    let names =
        "JSON.stringify([...document.querySelectorAll('tbody th')].map(one => one.innerText))";
    let by_cost = tab.text(names);
    assert_eq!(
        tab.text("document.querySelector('[aria-sort]').getAttribute('aria-sort')"),
        "descending"
    );
    tab.follow("thead th:first-child a");
    let sorted = tab.text("document.querySelector('[aria-sort]').innerText");
    assert!(sorted.contains("User"), "{sorted}");
    let by_name: Vec<String> = serde_json::from_str(&tab.text(names)).unwrap();
    // Calls of nobody come first, in words of our own.
    assert_eq!(by_name[0], "no user");
    assert!(by_name[1..].is_sorted(), "{by_name:?}");
    // The page may be kept as it was, and not be loaded again.
    tab.eval("history.back(); 0");
    tab.until("!location.search.includes('sort=')");
    tab.settle();
    assert_eq!(tab.text(names), by_cost);
}

#[test]
fn charts_say_exact_figures_and_lead_on() {
    let server = Server::with_demo(3000);
    let mut tab = visit(&server);
    assert!(tab.count("[data-chart] .main-svg") > 0);
    // The bar in the middle of the first chart.
    tab.eval(
        "(() => { const bars = [...document.querySelector('[data-chart]').querySelectorAll('.bars .point path')];
           const tall = bars.sort((a, b) => b.getBoundingClientRect().height - a.getBoundingClientRect().height);
           tall[0].id = 'tallest'; return 0; })()",
    );
    tab.hover("#tallest");
    tab.until("document.querySelector('.hoverlayer .hovertext') !== null");
    let said = tab.text("document.querySelector('.hoverlayer').textContent");
    assert!(said.contains(|digit: char| digit.is_ascii_digit()), "{said}");
    let before = tab.text("location.search");
    tab.eval("window.isOld = true");
    tab.click("#tallest");
    tab.until("window.isOld !== true");
    tab.settle();
    assert_ne!(tab.text("location.search"), before);
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

#[test]
fn a_phone_shows_every_view_without_scrolling_sideways() {
    let server = Server::with_demo(1500);
    let mut tab = visit(&server);
    tab.resize(360, 740);
    for view in views(&mut tab) {
        tab.go(&view);
        let wide = tab.eval("document.documentElement.scrollWidth - window.innerWidth");
        assert!(wide.as_i64().unwrap() <= 0, "{view} is wider than the phone by {wide}");
    }
}

#[test]
fn a_keyboard_reaches_everything_and_sees_where_it_is() {
    let server = Server::with_demo(1000);
    let mut tab = visit(&server);
    tab.press("Tab");
    assert_eq!(tab.text("document.activeElement.innerText"), "Skip to the content");
    let visible = "document.activeElement.getBoundingClientRect().top >= 0";
    assert_eq!(tab.eval(visible), Value::Bool(true), "the link is seen while it has the focus");
    tab.press("Enter");
    tab.until("location.hash === '#content'");
    // From the content on, the next stop is within it.
    tab.press("Tab");
    let within = "document.querySelector('main').contains(document.activeElement)";
    assert_eq!(tab.eval(within), Value::Bool(true));
    let outline = "(() => { const style = getComputedStyle(document.activeElement);
        return style.outlineStyle !== 'none' || style.boxShadow !== 'none'; })()";
    assert_eq!(tab.eval(outline), Value::Bool(true), "the focus is visible");
    // Whatever acts on a click can have the focus.
    let odd = "[...document.querySelectorAll('[onclick], [role=button]:not(button):not([tabindex])')].length";
    assert_eq!(tab.eval(odd), json!(0));
}

#[test]
fn what_a_screen_reader_needs_is_there() {
    let server = Server::with_demo(1000);
    let mut tab = visit(&server);
    for view in views(&mut tab) {
        tab.go(&view);
        let lacks = tab.eval(
            "(() => { const lacks = [];
               const named = (one) => one.getAttribute('aria-label') || one.labels?.length
                 || one.textContent?.trim() || one.getAttribute('title');
               if (document.querySelectorAll('h1').length !== 1) lacks.push('one h1');
               if (!document.documentElement.lang) lacks.push('a language');
               if (document.querySelectorAll('main').length !== 1) lacks.push('main');
               for (const one of document.querySelectorAll('table')) {
                 if (!one.caption) lacks.push('a caption: ' + one.outerHTML.slice(0, 80));
                 if ([...one.querySelectorAll('th')].some(th => !th.scope)) lacks.push('scopes: ' + one.caption?.innerText);
               }
               for (const one of document.querySelectorAll('a, button, input:not([type=hidden]), select, summary'))
                 if (!one.hidden && !named(one)) lacks.push('a name: ' + one.outerHTML.slice(0, 120));
               for (const one of document.querySelectorAll('[data-chart]'))
                 if (!one.getAttribute('aria-label') && !one.closest('[aria-label], figure, [aria-labelledby]'))
                   lacks.push('a chart in words: ' + one.outerHTML.slice(0, 80));
               const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
               if (new Set(ids).size !== ids.length) lacks.push('ids of their own');
               return lacks; })()",
        );
        assert_eq!(lacks, json!([]), "{view}");
    }
}

#[test]
fn light_and_dark_follow_the_system_and_the_choice_is_remembered() {
    let server = Server::with_demo(500);
    let mut tab = visit(&server);
    let colour = "getComputedStyle(document.body).backgroundColor";
    tab.dark(false);
    let light = tab.text(colour);
    tab.dark(true);
    let dark = tab.text(colour);
    assert_ne!(light, dark);
    // Of three, the second is light.
    tab.click("#theme");
    assert_eq!(tab.text(colour), light);
    tab.eval("window.isOld = true; location.reload(); 0");
    tab.until("window.isOld !== true");
    tab.settle();
    assert_eq!(tab.text(colour), light);
}

#[test]
fn times_are_the_viewers() {
    let server = Server::with_demo(500);
    let mut tab = visit(&server);
    tab.until("document.getElementById('zone').innerText === 'Europe/Berlin'");
    let asked = format!("{}/admin/?tz=Asia/Kolkata", server.base);
    tab.go(&asked);
    assert_eq!(tab.text("document.getElementById('zone').innerText"), "Asia/Kolkata");
}

#[test]
fn hostile_names_are_only_text() {
    let server = Server::start(|directory| {
        run(directory, &["demo", "--database", DATABASE, "--calls", "60", "--seed", "3"]);
        rename(directory);
    });
    let mut tab = visit(&server);
    let mut pages = views(&mut tab);
    for name in HOSTILE {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        pages.push(format!("{}/admin/?view=user&name={name}&days=90", server.base));
        pages.push(format!("{}/admin/?view=session&name={name}&days=90", server.base));
        pages.push(format!("{}/admin/?view=calls&user={name}&days=90", server.base));
    }
    let mut seen = 0;
    for page in pages {
        tab.go(&page);
        assert_eq!(tab.eval("typeof window.pwned"), json!("undefined"), "{page}");
        assert_eq!(tab.count("main script:not([type='application/json'])"), 0, "{page}");
        assert_eq!(tab.count("main img, main iframe, main b"), 0, "{page}");
        assert_eq!(
            tab.count("a[href^='javascript:'], a[href^='http:']:not([href*='127.0.0.1'])"),
            0
        );
        let text = tab.text("document.body.innerText");
        seen += u32::from(text.contains("<script>window.pwned"));
        // A mark that turns the direction of what follows must not be there as it is.
        assert!(!text.contains('\u{202e}'), "{page}");
    }
    assert!(seen >= 3, "the names are there to be seen: {seen}");
    let said: Vec<String> = tab.complaints();
    assert_eq!(said, Vec::<String>::new());
}

/// How long a page takes, from the click until its charts can be pointed at. A measurement, for a release
/// build: `cargo test --release --test browser -- --ignored --nocapture`; `TOKENMETER_CALLS` sets the calls.
#[test]
#[ignore = "a measurement"]
fn the_first_view_of_a_million_calls() {
    let calls = std::env::var("TOKENMETER_CALLS").map_or(1_000_000, |text| text.parse().unwrap());
    let server = Server::with_demo(calls);
    println!(
        "{:<40} {:>10} {:>10} {:>10} {:>10}",
        "ms", "first byte", "content", "charts", "loaded"
    );
    let shown = |what: &str, tab: &mut Tab| {
        let times = tab.eval(
            "(() => { const one = performance.getEntriesByType('navigation')[0];
               return [one.responseStart, one.domInteractive, window.drawnAt ?? 0, one.loadEventEnd]
                 .map(Math.round); })()",
        );
        println!("{what:<40} {:>10} {:>10} {:>10} {:>10}", times[0], times[1], times[2], times[3]);
    };
    // When the last chart is drawn, told by the page itself.
    let watch = "new MutationObserver(() => {
        const all = [...document.querySelectorAll('[data-chart]')];
        if (all.length && all.every(one => one.dataset.drawn)) window.drawnAt ??= performance.now();
      }).observe(document, {subtree: true, attributes: true, childList: true});";
    let mut first = Tab::open();
    first.before_each_page(watch);
    first.go(&server.login);
    shown("overview, 7 days, nothing cached", &mut first);
    for (what, query) in [
        ("overview, 7 days", ""),
        ("overview, 30 days", "?days=30"),
        ("users", "?view=by&key=user"),
        ("models compared", "?view=compare"),
        ("calls", "?view=calls"),
        ("quality", "?view=quality"),
    ] {
        first.go(&format!("{}/admin/{query}", server.base));
        shown(what, &mut first);
    }
}

/// Pictures of every view, to be looked at: light, dark, as wide as a phone, and of an empty ledger.
/// `TOKENMETER_SCREENS=DIR cargo test --test browser screens -- --ignored`
#[test]
#[ignore = "makes pictures"]
fn screens_of_every_view() {
    let place = std::env::var("TOKENMETER_SCREENS").expect("TOKENMETER_SCREENS says where to");
    let calls = std::env::var("TOKENMETER_CALLS").map_or(20_000, |text| text.parse().unwrap());
    let full = Server::with_demo(calls);
    let mut tab = visit(&full);
    for (name, width, is_dark) in
        [("light", 1400, false), ("dark", 1400, true), ("phone", 390, false)]
    {
        tab.dark(is_dark);
        take(&mut tab, &full, &format!("{place}/{name}"), width);
    }
    let empty = Server::start(|_| {});
    take(&mut visit(&empty), &empty, &format!("{place}/empty"), 1400);
}

fn take(tab: &mut Tab, server: &Server, place: &str, width: u32) {
    tab.resize(1400, 900);
    tab.go(&format!("{}/admin/", server.base));
    let mut pages = views(tab);
    for key in ["user", "session"] {
        tab.go(&format!("{}/admin/?view=by&key={key}&sort=requests", server.base));
        let first = "document.querySelector('tbody th a')?.href ?? ''";
        pages.extend(Some(tab.text(first)).filter(|link| !link.is_empty()));
    }
    tab.go(&format!("{}/admin/?view=calls", server.base));
    let first = "document.querySelector('table[data-live] tbody a')?.href ?? ''";
    pages.extend(Some(tab.text(first)).filter(|link| !link.is_empty()));
    for (at, page) in pages.iter().enumerate() {
        tab.resize(width, 900);
        tab.go(page);
        let height = tab.eval("document.documentElement.scrollHeight").as_u64().unwrap();
        tab.resize(width, u32::try_from(height).unwrap().clamp(900, 4000));
        tab.settle();
        let title = tab.text("document.querySelector('h1').innerText").to_lowercase();
        let title: String =
            title.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(24).collect();
        let file = format!("{place}-{at:02}-{title}.png");
        std::fs::write(file, tab.screenshot()).unwrap();
    }
}

/// Gives the calls of a ledger hostile names, as a client that sends them would.
fn rename(directory: &Path) {
    let mut calls: Vec<Value> =
        run(directory, &["export", "--database", DATABASE, "--format", "jsonl"])
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
    for (at, call) in calls.iter_mut().enumerate() {
        let name = HOSTILE[at % HOSTILE.len()];
        for tag in ["user", "session", "operation", "model", "model_requested", "finish_reason"] {
            call[tag] = json!(name);
        }
        call["metadata"] = json!({ "team": name, name: "x" });
        call["error"] = json!(name);
    }
    let lines: Vec<String> = calls.iter().map(Value::to_string).collect();
    std::fs::remove_file(directory.join(DATABASE)).unwrap();
    std::fs::write(directory.join("hostile.jsonl"), lines.join("\n") + "\n").unwrap();
    run(directory, &["import", "--database", DATABASE, "hostile.jsonl"]);
}

#[test]
fn a_newcomer_is_told_what_to_do_and_an_empty_window_where_to_look() {
    let server = Server::start(|_| {});
    let mut tab = visit(&server);
    let text = tab.text("document.querySelector('main').innerText");
    assert!(text.contains("No call has been recorded yet") && text.contains("curl"), "{text}");
    assert!(text.contains("serve --demo"), "{text}");
    for view in views(&mut tab) {
        tab.go(&view);
        assert_eq!(tab.complaints(), Vec::<String>::new(), "{view}");
    }
    let server = Server::with_demo(200);
    let mut tab = visit(&server);
    tab.go(&format!("{}/admin/?since=2001-01-01&until=2001-02-01", server.base));
    let text = tab.text("document.querySelector('main').innerText");
    assert!(text.contains("Nothing in this window"), "{text}");
}

#[test]
fn calls_appear_as_they_come_unless_they_are_being_read() {
    let server = Server::with_demo(300);
    let mut tab = visit(&server);
    let calls = views(&mut tab).into_iter().find(|link| link.contains("view=calls")).unwrap();
    tab.go(&calls);
    let user = "live-user@northwind.example";
    let is_shown =
        format!("document.querySelector('table[data-live]').innerText.includes('{user}')");
    assert_eq!(tab.eval(&is_shown), json!(false));
    // A provider that cannot be reached makes a row as well as any other.
    call(&server, user);
    tab.until(&is_shown);
    // Under the pointer nothing moves: new rows wait.
    tab.hover("table[data-live] tbody tr:nth-child(3)");
    let first = "document.querySelector('table[data-live] tbody tr').dataset.id";
    let before = tab.text(first);
    call(&server, "second@northwind.example");
    tab.until("!document.getElementById('fresh').hidden");
    assert_eq!(tab.text(first), before);
    tab.click("#fresh");
    tab.until("document.querySelector('table[data-live]').innerText.includes('second@')");
    tab.click("#pause");
    tab.until("document.getElementById('live').innerText === 'Paused'");
}

/// Sends a call to a port of this machine where nobody listens.
fn call(server: &Server, user: &str) {
    let body = r#"{"model": "gpt-4o-mini", "messages": []}"#;
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "POST /nowhere/v1/chat/completions HTTP/1.1\r\nhost: tokenmeter\r\nconnection: close\r\n\
         x-user: {user}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
