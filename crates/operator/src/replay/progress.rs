//! What a person sees while letters are sent: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal::plain;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress on standard error.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    last: Option<(Instant, usize)>,
}

/// Everything that is counted over all causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: usize,
    pub(super) well: usize,
    pub(super) failed: usize,
    pub(super) out: usize,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            // ASCII, because a terminal set to Chinese may draw block characters two columns wide.
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Progress { bar, total, last: None }
    }

    pub(super) fn show(&mut self, counts: Counts) {
        let done = counts.well + counts.failed;
        let text = format!("{} well, {} failed again, {} out", counts.well, counts.failed, counts.out);
        match &self.bar {
            Some(bar) => {
                bar.set_position(done as u64);
                bar.set_message(text);
            }
            None => {
                let due = self
                    .last
                    .is_none_or(|(at, last)| at.elapsed() > LINE_EVERY && last != done + counts.sent);
                if due {
                    self.last = Some((Instant::now(), done + counts.sent));
                    self.say(&format!("sent {} of {}: {text}", counts.sent, self.total));
                }
            }
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        let line = plain(line);
        match &self.bar {
            Some(bar) => bar.println(line),
            // Nobody reads it when standard error is closed.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
