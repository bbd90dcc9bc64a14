//! A terminal of a size of one's own choosing, with a shell in it: tmux. Owns its server, which nobody
//! else's tests share.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Tmux {
    socket: String,
}

impl Tmux {
    /// A shell in a directory, without anybody's settings.
    pub(crate) fn start(directory: &std::path::Path, wide: u16, tall: u16) -> Tmux {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let tmux = Tmux { socket: format!("tokenmeter-{}-{count}", std::process::id()) };
        let [wide, tall] = [wide, tall].map(|size| size.to_string());
        let directory = directory.to_str().unwrap();
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &wide,
            "-y",
            &tall,
            "-c",
            directory,
            "exec env -i PATH=/usr/bin:/bin TERM=tmux-256color LC_ALL=C.UTF-8 PS1='ready> ' sh",
        ]);
        tmux.sees("ready>");
        tmux
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new("tmux")
            .args(["-u", "-L", &self.socket])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .expect("tmux is installed");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Keys by tmux's names.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// A line for the shell.
    pub(crate) fn enter(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    pub(crate) fn resize(&self, wide: u16, tall: u16) {
        let [wide, tall] = [wide, tall].map(|size| size.to_string());
        self.run(&["resize-window", "-x", &wide, "-y", &tall]);
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8(self.run(&["capture-pane", "-p"]).stdout).unwrap()
    }

    /// Of the terminal: `#{alternate_on}` and the like.
    pub(crate) fn tells(&self, what: &str) -> String {
        String::from_utf8(self.run(&["display-message", "-p", what]).stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// Waits for a screen.
    pub(crate) fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not on the screen:\n{screen}");
            std::thread::sleep(LOOK);
        }
    }

    pub(crate) fn sees(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// The id of the process that the shell runs.
    pub(crate) fn child(&self) -> String {
        let shell = self.tells("#{pane_pid}");
        let children = PathBuf::from(format!("/proc/{shell}/task/{shell}/children"));
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().expect("a child of the shell").to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let kill = ["-L", &self.socket, "kill-server"];
        let _ = Command::new("tmux").args(kill).stdin(Stdio::null()).output();
    }
}
