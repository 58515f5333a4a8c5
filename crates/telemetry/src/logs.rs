//! Log lines on the standard error output.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use kingpost_settings::{LogFormat, Problem};
use prometheus::IntCounter;
use tracing::Dispatch;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::{MakeWriter, layer};

use crate::metrics::valid;
use crate::names::LOG_LINES_DROPPED;
use crate::traces::{self, Traces};

/// Sends every event of the program to the standard error output, for as long as it runs; and spans to where `traces`
/// sends them.
///
/// JSON lines hold `timestamp` (RFC 3339, UTC), `level`, `target`, `message` and the fields of the event side by side; the
/// fields of the span it happened in stand under `span`. A line that can't be written is dropped and counted
/// (`kingpost_log_lines_dropped_total`); it never stops the program.
///
/// # Errors
/// `filter` is no filter, as a problem of `RUST_LOG`; or logging has been set up before.
pub fn init(format: LogFormat, filter: &str, traces: &Traces) -> Result<(), Problem> {
    let ansi = io::stderr().is_terminal();
    let dispatch = dispatch(format, filter, ansi, io::stderr, traces)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| {
        Problem::new(
            "RUST_LOG",
            "logging is set up already",
            "one set-up for a program",
            "report this as a bug",
        )
    })
}

/// What [`init`] installs, with another writer, for one thread or one test.
///
/// # Errors
/// `filter` is no filter, as a problem of `RUST_LOG`.
pub fn dispatch<W>(
    format: LogFormat,
    filter: &str,
    ansi: bool,
    writer: W,
    traces: &Traces,
) -> Result<Dispatch, Problem>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = checked(filter)?;
    // With internal errors on, a failed write is reported by eprintln!, which panics when that write fails too.
    let layer = layer().with_ansi(ansi).with_writer(Lossy(writer)).log_internal_errors(false);
    Ok(match format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            traces::dispatch(filter, layer, traces.exporter())
        }
        LogFormat::Text => traces::dispatch(filter, layer, traces.exporter()),
    })
}

/// Lines dropped by this process so far.
pub fn dropped_lines() -> u64 {
    dropped_counter().get()
}

pub(crate) fn dropped_counter() -> &'static IntCounter {
    static DROPPED: LazyLock<IntCounter> =
        LazyLock::new(|| valid(IntCounter::new(LOG_LINES_DROPPED.name, LOG_LINES_DROPPED.help)));
    &DROPPED
}

/// A bare word that is no level names a target, so that `infoo` would switch off everything else without a word.
fn checked(filter: &str) -> Result<EnvFilter, Problem> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let problem = |received: String| {
        Problem::new(
            "RUST_LOG",
            received,
            "a level (off, error, warn, info, debug, trace) or target=level pairs, separated by commas",
            "for example RUST_LOG=info,kingpost_loader=debug",
        )
    };
    for part in filter.split(',').map(str::trim).filter(|part| !part.contains(['=', '['])) {
        let level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
        if !level && !part.is_empty() && !part.starts_with("kingpost") {
            return Err(problem(format!("{part:?} is no level, and a target needs one, as in {part}=info")));
        }
    }
    // The AMQP client logs as errors what it returns to us as values, a clean close among them.
    let quiet = if filter.contains("lapin") { String::new() } else { ",lapin=off".to_owned() };
    EnvFilter::try_new(format!("{filter}{quiet}"))
        .map_err(|error| problem(format!("holds {filter:?}: {error}")))
}

struct Lossy<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lossy<W> {
    type Writer = LossyLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LossyLine(self.0.make_writer())
    }
}

/// Takes every line, and counts the ones that the writer behind it would not take.
struct LossyLine<W>(W);

impl<W: Write> Write for LossyLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            dropped_counter().inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
