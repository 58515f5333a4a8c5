//! What a person sees while both books are read: one line on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use kingpost_model::Failure;

use crate::terminal::plain;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Progress on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Progress { bar, last: Mutex::new(Instant::now()) }
    }

    /// Says where it stands.
    pub(crate) fn show(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(plain(&text()));
            bar.tick();
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() > LINE_EVERY {
            *last = Instant::now();
            drop(writeln!(std::io::stderr(), "{}", plain(&text())));
        }
    }

    /// A line that stays: a system that wants to be left alone is waited for.
    pub(crate) fn waits(&self, failure: &Failure, pause: Duration) {
        let line = plain(&format!("waiting {} s: {}", pause.as_secs(), failure.text));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
