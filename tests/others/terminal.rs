//! `tokenmeter top` in a real terminal, by keys: what a person sees while calls come in, in every size, and
//! how the terminal is left.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tmux::Tmux;

/// A tokenmeter with calls of the last hours, killed by its own id when dropped.
struct Server {
    process: Child,
    directory: TempDir,
    base: String,
}

impl Server {
    fn start() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let made = command(directory.path())
            .args(["demo", "--database", "tokenmeter.db", "--calls", "3000", "--days", "1"])
            .args(["--users", "30", "--seed", "5"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut process = command(directory.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--database", "tokenmeter.db"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let base =
            said.find_map(|line| line.split_once("listens on ").map(|(_, url)| url.to_owned()));
        thread::spawn(move || said.for_each(drop));
        Server { process, directory, base: base.expect("an address") }
    }

    fn token(&self) -> String {
        let file = self.directory.path().join("tokenmeter.token");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// A terminal in which `top` asks this server.
    fn top(&self, wide: u16, tall: u16) -> Tmux {
        let tmux = Tmux::start(self.directory.path(), wide, tall);
        let program = env!("CARGO_BIN_EXE_tokenmeter");
        let (url, token) = (&self.base, self.token());
        tmux.enter(&format!(
            "TOKENMETER_ADMIN_TOKEN={token} {program} top --url {url} --days 2 --interval 300ms"
        ));
        tmux.sees("asked every");
        tmux.until("a group", |screen| rows(screen).len() > 2);
        tmux
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenmeter"));
    command.current_dir(directory).env_clear();
    command
}

/// The groups on the screen: the lines between the table's head and the next one's.
fn rows(screen: &str) -> Vec<&str> {
    let lines =
        screen.lines().skip_while(|line| !(line.contains("calls  ") && line.contains("cost")));
    lines
        .skip(1)
        .take_while(|line| !line.starts_with("newest calls") && !line.starts_with("q quit"))
        .filter(|line| line.contains('$'))
        .collect()
}

fn is_restored(tmux: &Tmux) {
    tmux.until("the shell", |screen| screen.trim_end().ends_with("ready>"));
    assert_eq!(tmux.tells("#{alternate_on}"), "0", "the alternate screen is left");
    assert_eq!(tmux.tells("#{cursor_flag}"), "1", "the cursor is there");
    // What is typed is seen, and a line is a line.
    let modes = "stty -a | tr ';' '\\n' | grep -wo -- '-\\?\\(echo\\|icanon\\|isig\\)' | sort";
    tmux.enter(&format!("echo has $({modes})"));
    tmux.until("its modes", |screen| {
        screen.lines().any(|line| line.trim() == "has echo icanon isig")
    });
}

#[test]
fn keys_lead_through_the_figures_and_back() {
    let server = Server::start();
    let tmux = server.top(100, 30);
    let screen = tmux.screen();
    for told in [
        "tokenmeter top",
        &server.base,
        "all calls by user",
        "last 2 d",
        "newest calls",
        "an hour now",
    ] {
        assert!(screen.contains(told), "{told} in\n{screen}");
    }
    assert_eq!(tmux.tells("#{alternate_on}"), "1");

    tmux.press(&["m"]);
    tmux.sees("all calls by model");
    tmux.until("models", |screen| {
        rows(screen).iter().any(|row| row.contains("gpt") || row.contains("claude"))
    });
    tmux.press(&["Tab"]);
    tmux.sees("all calls by operation");
    tmux.press(&["u"]);
    let screen = tmux.until("users", |screen| screen.contains("by user") && rows(screen).len() > 3);
    // Into the second row, whoever that is.
    let second = rows(&screen)[1].split([' ', '…']).next().unwrap().to_owned();
    tmux.press(&["Down", "Enter"]);
    let screen = tmux.sees("› by model");
    assert!(screen.contains(&format!("user {second}")), "{second} in\n{screen}");
    tmux.until("models of one", |screen| !rows(screen).is_empty());
    tmux.press(&["BSpace"]);
    tmux.sees("all calls by user");

    tmux.press(&["t"]);
    tmux.sees("by tokens ↓");
    tmux.press(&["t"]);
    tmux.sees("by tokens ↑");
    tmux.press(&["c", "w"]);
    tmux.until("another window", |screen| !screen.contains("last 2 d") && screen.contains("last "));
    tmux.press(&["Space"]);
    tmux.sees("paused");
    tmux.press(&["Space", "?"]);
    tmux.sees("only what is selected");
    tmux.press(&["?", "/"]);
    tmux.press(&["-l", "zzz"]);
    tmux.sees("/zzz");
    tmux.sees("no name has this text");
    tmux.press(&["Escape"]);
    tmux.until("the groups", |screen| !screen.contains("zzz"));
    tmux.press(&["q"]);
    is_restored(&tmux);
}

#[test]
fn every_size_has_its_picture() {
    let server = Server::start();
    let tmux = server.top(80, 24);
    let fits = |wide: usize, screen: &str| {
        screen.lines().all(|line| line.chars().count() <= wide) && screen.contains("tokenmeter top")
    };
    tmux.until("80x24", |screen| fits(80, screen) && screen.contains("cost an hour"));
    tmux.resize(40, 12);
    let screen = tmux.until("40x12", |screen| {
        fits(40, screen) && !screen.contains("newest calls") && screen.contains("q quit")
    });
    assert!(rows(&screen).len() >= 4 && screen.contains("cost"), "{screen}");
    tmux.resize(200, 50);
    let screen = tmux.until("200x50", |screen| {
        screen.contains("newest calls") && screen.contains("share") && screen.contains("p50 ms")
    });
    assert!(rows(&screen).len() > 15, "{screen}");
    tmux.resize(80, 24);
    tmux.until("80x24", |screen| fits(80, screen) && screen.contains("newest calls"));
    tmux.press(&["C-c"]);
    is_restored(&tmux);
}

#[test]
fn the_terminal_is_given_back_whoever_ends_it() {
    let server = Server::start();
    for signal in ["-TERM", "-INT", "-HUP"] {
        let tmux = server.top(80, 24);
        let id = tmux.child();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        is_restored(&tmux);
    }
    // And for a while.
    let tmux = server.top(80, 24);
    tmux.press(&["C-z"]);
    tmux.until("the shell", |screen| screen.trim_end().ends_with("ready>"));
    assert_eq!(tmux.tells("#{alternate_on}"), "0");
    tmux.enter("fg");
    tmux.sees("asked every");
    assert_eq!(tmux.tells("#{alternate_on}"), "1");
    tmux.press(&["q"]);
    is_restored(&tmux);
}

#[test]
fn a_terminal_that_went_away_left_it_spinning() {
    let server = Server::start();
    let tmux = server.top(80, 24);
    let process = PathBuf::from(format!("/proc/{}", tmux.child()));
    assert!(process.exists());
    drop(tmux);
    let began = Instant::now();
    while process.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on without a terminal");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_is_gone_is_told_and_keys_go_on() {
    let mut server = Server::start();
    let tmux = server.top(100, 30);
    let before = tmux.screen();
    let first = rows(&before)[0].split_whitespace().next().unwrap().to_owned();
    server.stop();
    let screen = tmux.sees("no answer for");
    assert!(rows(&screen).iter().any(|row| row.contains(&first)), "the figures stay:\n{screen}");
    tmux.press(&["?"]);
    tmux.sees("suspend");
    tmux.press(&["?", "r"]);
    tmux.sees("by calls ↓");
    tmux.press(&["q"]);
    is_restored(&tmux);
}
