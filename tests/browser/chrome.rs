//! A headless Chromium, driven through its DevTools protocol. Owns the process and the connection; knows
//! nothing of what is shown.
//!
//! Crates for this exist; they read the protocol's messages into types by trial (`untagged`), which fails for
//! every number where `serde_json` keeps numbers as texts, as tokenmeter has it do for money.
//!
//! Protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Longer than anything takes here, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where Chromium may be, unless `CHROMIUM` says it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// One page in a browser of its own.
pub(crate) struct Tab {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    last: u64,
    events: VecDeque<Value>,
    _profile: TempDir,
}

impl Tab {
    /// A wide page in Berlin.
    pub(crate) fn open() -> Tab {
        let profile = tempfile::tempdir().unwrap();
        let mut process = launch(&profile);
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = said
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned))
            .expect("Chromium says where it listens");
        // It goes on talking, and must not wait for a reader.
        thread::spawn(move || said.for_each(drop));
        let host = address.trim_start_matches("ws://").split('/').next().unwrap();
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(&address, stream).unwrap();
        let (session, events) = (String::new(), VecDeque::new());
        let mut tab = Tab { process, socket, session, last: 0, events, _profile: profile };
        let target = tab.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = tab.call("Target.attachToTarget", &attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut tab.session);
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        tab.call("Emulation.setTimezoneOverride", &json!({"timezoneId": "Europe/Berlin"}));
        tab.resize(1400, 1000);
        tab
    }

    /// As large as a screen; narrow ones are phones'.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    pub(crate) fn dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// A script that runs before those of each page to come.
    pub(crate) fn before_each_page(&mut self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    /// Goes to an address and waits for the page.
    pub(crate) fn go(&mut self, address: &str) {
        let gone = self.call("Page.navigate", &json!({"url": address}));
        assert!(gone["errorText"].is_null(), "{address}: {gone}");
        self.settle();
    }

    /// Waits for the page that is being loaded, in the viewer's time, charts included.
    pub(crate) fn settle(&mut self) {
        self.until(
            "(() => { const zone = document.documentElement.dataset.zone;
               return document.readyState === 'complete' && document.querySelector('h1') !== null
                 && (!zone || new URLSearchParams(location.search).has('tz')
                   || zone === Intl.DateTimeFormat().resolvedOptions().timeZone)
                 && [...document.querySelectorAll('[data-chart]')].every(one => one.dataset.drawn); })()",
        );
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, condition: &str) {
        let began = Instant::now();
        // While a page goes, there is nothing to ask.
        while self.try_eval(condition) != Some(Value::Bool(true)) {
            let page = || "document.location.href + '\\n' + document.body.innerText.slice(0, 2000)";
            if began.elapsed() > PATIENCE {
                panic!("never true: {condition}\n{:?}", self.try_eval(page()));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of an expression.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|| panic!("no value: {expression}"))
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        self.eval(expression).as_str().unwrap_or_else(|| panic!("no text: {expression}")).to_owned()
    }

    pub(crate) fn count(&mut self, selector: &str) -> u64 {
        let count = self.eval(&format!("document.querySelectorAll({}).length", json!(selector)));
        count.as_u64().unwrap()
    }

    /// Follows what a selector names, with the mouse, and waits for the page behind it.
    pub(crate) fn follow(&mut self, selector: &str) {
        self.eval("window.isOld = true");
        self.click(selector);
        self.until("window.isOld !== true");
        self.settle();
    }

    pub(crate) fn click(&mut self, selector: &str) {
        let (x, y) = self.hover(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let click = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &click);
        }
    }

    /// Puts the pointer on the middle of the first element that a selector names.
    pub(crate) fn hover(&mut self, selector: &str) -> (f64, f64) {
        let place = self.eval(&format!(
            "(() => {{ const one = document.querySelector({}); one.scrollIntoView({{block: 'center'}});
               const box = one.getBoundingClientRect();
               return [box.x + box.width / 2, box.y + box.height / 2]; }})()",
            json!(selector)
        ));
        let (x, y) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
        self.call("Input.dispatchMouseEvent", &json!({"type": "mouseMoved", "x": x, "y": y}));
        (x, y)
    }

    /// What is to be seen, as a PNG file.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }

    /// Presses a key that writes nothing, such as `Tab` or `Enter`.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            other => panic!("which key is `{other}`"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = text.filter(|_| kind == "keyDown");
            let press = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            let Value::Object(mut press) = press else { unreachable!() };
            press.retain(|_, value| !value.is_null());
            self.call("Input.dispatchKeyEvent", &Value::Object(press));
        }
    }

    /// What the browser complained about since it was last asked: errors, warnings, broken rules.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // An answer brings what was said before it.
        self.eval("0");
        let is_bad = |level: &Value| matches!(level.as_str(), Some("error" | "warning" | "assert"));
        let complaint = |event: Value| {
            let what = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(what["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if is_bad(&what["type"]) => {
                    Some(what["args"].to_string())
                }
                "Log.entryAdded" if is_bad(&what["entry"]["level"]) => {
                    Some(what["entry"].to_string())
                }
                _ => None,
            }
        };
        std::mem::take(&mut self.events).into_iter().filter_map(complaint).collect()
    }

    fn try_eval(&mut self, expression: &str) -> Option<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", &params).ok()?;
        assert!(
            answer["exceptionDetails"].is_null() || expression.contains("document"),
            "{answer}"
        );
        answer["result"].get("value").cloned()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.last += 1;
        let mut request = json!({"id": self.last, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().expect("an answer of Chromium's") else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == json!(self.last) {
                return match message.get_mut("error") {
                    Some(error) => Err(error.take()),
                    None => Ok(message["result"].take()),
                };
            }
            self.events.push_back(message);
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(profile: &TempDir) -> Child {
    let named = std::env::var("CHROMIUM").ok();
    let names = named.iter().map(String::as_str).chain(NAMES);
    let start = |name: &str| {
        Command::new(name)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()
    };
    names.map(start).find_map(|started| started).expect("Chromium, or where it is in CHROMIUM")
}
