//! `tokenmeter serve`: runs the proxy until it is told to stop.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::path::PathBuf;
use std::process;
use std::task::Poll;
use std::thread;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::demonstration::{self, DemoFlags, Demonstration};
use super::log::Log;
use crate::app::{self, App};
use crate::config::{Config, Flags};
use crate::ledger;

/// Run the proxy
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub serve: ServeArgs,

    /// If the database is damaged, save what can be read into a new one first
    #[arg(long)]
    pub recover: bool,

    #[command(flatten)]
    pub demo: DemoFlags,
}

impl RunArgs {
    pub fn flags(&self) -> Flags {
        let mut flags = self.serve.flags();
        if self.demo.demo && flags.database.is_none() {
            // Before what variables and files say: that one is for real calls.
            flags.database = Some(demonstration::PLACE.to_owned());
        }
        flags
    }
}

/// Where the configuration is, and what goes before it.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// IP address and port to listen on [default: 127.0.0.1:4100]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    /// Price table [default: the one built in]
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,
}

impl ServeArgs {
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            listen: self.listen.clone(),
            database: self.database.clone(),
            pricing: self.pricing.clone(),
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    let config = Config::load(&args.flags())?;
    let log = Log::to_stderr(&config.log, config.log_format);
    let served = serve(args, config);
    if !log.finish() && served.is_err() {
        // Nobody reads stderr: to say there what went wrong would never end.
        process::exit(1);
    }
    served
}

fn serve(args: &RunArgs, mut config: Config) -> Result<(), Box<dyn Error>> {
    panic::set_hook(Box::new(|panicked| tracing::error!("{}", place(panicked))));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if args.recover {
        let recovered = ledger::recover(&config.database, &mut |_, _, _| {})?;
        recovered.to_string().lines().for_each(|line| tracing::warn!("{line}"));
    }
    let demo = args.demo.demo.then(|| Demonstration::prepare(&args.demo, &mut config));
    let demo = demo.transpose()?;
    let app = App::build(&config)?;
    for warning in app::exposed_files(&config) {
        tracing::warn!("{warning}");
    }
    let banner = match &demo {
        None => {
            if ledger::is_made_up(&config.database)? {
                tracing::warn!(
                    "{} has a demo's calls; what is recorded now gets among them for good",
                    config.database.display()
                );
            }
            banner(&app, &config)?
        }
        Some(demo) => {
            demo.fill(&config.database)?;
            demo.banner(&app, &config)?
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        let playing = demo.map(|demo| demo.begin(&app, &config)).transpose()?;
        io::stdout().write_all(banner.as_bytes())?;
        app.run(|| async {
            signals.stop().await;
            if let Some(playing) = &playing {
                playing.hurry();
            }
        })
        .await?;
        Ok(())
    })
}

/// What is listened on, where each upstream goes, where to look.
fn banner(app: &App, config: &Config) -> io::Result<String> {
    let url = app.url()?;
    let mut lines = vec![format!("tokenmeter listens on {url}")];
    if config.admin_listen.is_some() {
        lines.push(format!("admin API, dashboard and metrics: {}", app.admin_url()?));
    }
    lines.push(String::new());
    for upstream in config.upstreams.values() {
        let is_default = upstream.name == config.default_upstream;
        let also = if is_default { ", and every path that names no upstream" } else { "" };
        lines.push(format!("  /{:<12} {}{also}", upstream.name, upstream.base_url));
    }
    lines.push(String::new());
    lines.push(format!("dashboard (logs in once): {}", app.login_link()?));
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// Where a panic happened. Not what it said: where text is read, that may quote a prompt.
fn place(panicked: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    panicked.location().map_or_else(
        || format!("thread {name} panicked"),
        |location| format!("thread {name} panicked at {location}"),
    )
}

/// The signals that ask for a stop.
struct Signals {
    interrupt: RefCell<Signal>,
    terminate: RefCell<Signal>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: RefCell::new(signal(SignalKind::interrupt())?),
            terminate: RefCell::new(signal(SignalKind::terminate())?),
        })
    }

    /// Resolves at the next one.
    async fn stop(&self) {
        poll_fn(|cx| {
            let interrupted = self.interrupt.borrow_mut().poll_recv(cx).is_ready();
            let terminated = self.terminate.borrow_mut().poll_recv(cx).is_ready();
            if interrupted || terminated { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_panic_printed_the_text_that_it_was_about() {
        let (said, heard) = mpsc::channel();
        let before = panic::take_hook();
        // Other tests' panics are none of this one's.
        panic::set_hook(Box::new(move |panicked| match thread::current().name() {
            Some("reader") => said.send(place(panicked)).unwrap(),
            _ => before(panicked),
        }));
        let text = "Swordfish".to_owned();
        let reader = thread::Builder::new().name("reader".to_owned());
        let panicked = reader.spawn(move || panic!("byte 3 of {text}")).unwrap().join();
        assert_eq!(*panicked.unwrap_err().downcast::<String>().unwrap(), "byte 3 of Swordfish");
        let told = heard.recv().unwrap();
        assert!(told.starts_with("thread reader panicked at src/cli/serve.rs:"), "{told}");
        assert!(!told.contains("Sword"), "{told}");
    }
}
