//! The terminal as a whole screen, and back as it was. Owns raw mode, the alternate screen and the signals
//! that end it.
//!
//! Invariant: however `top` ends (a key, a fault, a panic, SIGTERM, SIGINT, SIGHUP), the terminal is as it
//! was before. A panic is ratatui's own hook's affair.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::{io, thread};

use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};

#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
    is_over: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Screen> {
        let is_over = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            // The second one ends it at once: the first may wait for a terminal that takes nothing.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_over))?;
            signal_hook::flag::register(signal, Arc::clone(&is_over))?;
        }
        Ok(Screen { terminal: ratatui::try_init()?, is_over })
    }

    /// Whether a signal has asked for the end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }

    /// Gives the terminal back, stops as Ctrl-Z does, and goes on when the shell says so.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        leave()?;
        signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
        enable_raw_mode()?;
        // Not by the terminal's own way, which asks where the cursor is: the answer would go to whoever
        // listens for keys.
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All))?;
        self.terminal.swap_buffers();
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = leave();
    }
}

/// What happens at the terminal, as it comes, from a thread of its own: where a terminal is gone, the
/// library's reading of it never ends.
pub(super) fn listen() -> io::Result<Receiver<io::Result<Event>>> {
    let (outbox, events) = mpsc::channel();
    let work = move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if outbox.send(event).is_err() || is_last {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(work)?;
    Ok(events)
}

fn leave() -> io::Result<()> {
    let raw = disable_raw_mode();
    execute!(io::stdout(), LeaveAlternateScreen, Show)?;
    raw
}
