//! Showing something again and again.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use crate::ending::{Report, Stop};

/// What is shown once.
pub(crate) struct Glance {
    /// Whole lines for standard output.
    pub(crate) out: String,
    /// Nothing will change any more.
    pub(crate) over: bool,
}

/// Clears a terminal and goes to its first place.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Shows what `look` gives: once, or every so often until it is over. On a terminal each look takes the place of the one
/// before. A broker that is away for a moment doesn't end the watching.
pub(crate) async fn run<F>(every: Option<Duration>, mut look: F) -> Result<Report, Stop>
where
    F: AsyncFnMut() -> Result<Glance, Stop>,
{
    let mut glance = look().await?;
    let mut shown = glance.out.clone();
    let Some(every) = every else { return Ok(Report::done(glance.out)) };
    let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
    while !glance.over {
        let mut stdout = std::io::stdout();
        if stdout.write_all(format!("{clear}{shown}").as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // A reader that went away, such as `head`, has seen enough.
            return Ok(Report::done(""));
        }
        tokio::time::sleep(every).await;
        match look().await {
            Ok(next) => {
                shown.clone_from(&next.out);
                glance = next;
            }
            Err(stop) => shown = format!("{}{}\n", glance.out, stop.text),
        }
    }
    Ok(Report::done(format!("{clear}{}", glance.out)))
}
