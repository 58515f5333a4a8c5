//! The spans of messages, of batches and of calls: which trace they belong to, and their way to a collector.
//!
//! Every message that a stage works on gets a place in a trace, in every build: behind the one it came with, or at the
//! beginning of a trace of its own. What the stage makes of it carries that place on. Spans are recorded and sent, by
//! OTLP over HTTP, in builds with the cargo feature `otlp` and with `OTEL_EXPORTER_OTLP_ENDPOINT`.

mod ids;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
mod silent;

use std::fmt;
use std::time::Duration;

use kingpost_model::{Item, TraceContext, Verdict};
use kingpost_settings::{Problem, TraceSettings};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span};

#[cfg(feature = "otlp")]
use self::otlp as export;
#[cfg(not(feature = "otlp"))]
use self::silent as export;
use crate::Metrics;

pub(crate) use self::export::{call, dispatch};

/// What sends spans, if anything does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<export::Exporter>);

impl Traces {
    /// Sends spans from now on, as the settings say, on a thread of its own; to be called outside of any runtime, and
    /// before logging is set up with what it returns. In a build without the feature `otlp` nothing is sent.
    ///
    /// # Errors
    /// The collector's address can't be used.
    pub fn start(settings: Option<&TraceSettings>, metrics: &Metrics) -> Result<Self, Problem> {
        metrics.spans_dropped(0);
        let Some(settings) = settings else { return Ok(Traces::default()) };
        export::Exporter::start(settings, metrics).map(Traces)
    }

    /// What to tell whoever gave settings that this build can't follow.
    pub fn warning(settings: Option<&TraceSettings>) -> Option<&'static str> {
        (settings.is_some() && !export::IS_COMPILED).then_some(
            "OTEL_EXPORTER_OTLP_ENDPOINT: this build sends no spans; build it with `--features otlp`, or remove the \
             variable",
        )
    }

    /// Sends what is left, and gives up after a while; to be called outside of any runtime.
    pub fn end(self, within: Duration) {
        if let Some(exporter) = self.0 {
            exporter.end(within);
        }
    }

    pub(crate) fn exporter(&self) -> Option<&export::Exporter> {
        self.0.as_ref()
    }
}

/// What an exporter's library has decided for a span.
#[derive(Clone, Copy)]
struct Place {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl Place {
    /// Where this is: in the trace of the parent, whose state goes with it, or at the beginning of another.
    fn within(self, parent: Option<&TraceContext>) -> TraceContext {
        match parent.filter(|parent| parent.trace_id() == self.trace_id) {
            Some(parent) => parent.child(self.span_id).sampled(self.sampled),
            None => TraceContext::root(self.trace_id, self.span_id, self.sampled),
        }
    }
}

/// The span of one message at one stage, or of one request.
pub struct WorkSpan {
    context: TraceContext,
    /// It begins a trace, as there was no place to come behind.
    first: bool,
    span: Span,
}

impl WorkSpan {
    /// Begins the work on a message of a queue, behind the place that the message came with.
    pub fn of_item(item: &Item, queue: &str) -> Self {
        let parent = item.work.trace();
        let recorded = export::work(parent.as_ref(), &item.work, queue, item.redelivered);
        Self::begun(parent, recorded)
    }

    /// Begins the work on a request with documents of a scheme, behind the sender's place.
    pub fn of_push(parent: Option<TraceContext>, scheme: &str) -> Self {
        let recorded = export::push(parent.as_ref(), scheme);
        Self::begun(parent, recorded)
    }

    fn begun(parent: Option<TraceContext>, recorded: Option<(Span, Place)>) -> Self {
        let first = parent.is_none();
        let (context, span) = match (recorded, parent) {
            (Some((span, place)), parent) => (place.within(parent.as_ref()), span),
            (None, Some(parent)) => (parent.child(ids::span_id()), Span::none()),
            // Nobody records it, so nobody behind is told that somebody does.
            (None, None) => (TraceContext::root(ids::trace_id(), ids::span_id(), false), Span::none()),
        };
        WorkSpan { context, first, span }
    }

    /// Whether it begins a trace, as the message came without a place or with a malformed one.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Its place, which is the parent of everything that is made of the message.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Ends it with what was judged; nothing when the batch was given up.
    pub fn end(self, verdict: Option<&Verdict>) {
        if let Some(verdict) = verdict {
            export::judged(&self.span, verdict);
        }
    }
}

impl fmt::Debug for WorkSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context.traceparent())
    }
}

/// Runs the work on some messages of one queue. What is called meanwhile belongs to the message's span where there is one
/// message, and otherwise to a span of the batch, which is a trace of its own with links to theirs and back.
pub fn within<F: Future>(spans: &[WorkSpan], queue: &str, work: F) -> Instrumented<F> {
    let span = match spans {
        [only] => only.span.clone(),
        several => export::batch(several.iter().map(|one| &one.span), queue).unwrap_or_else(Span::none),
    };
    work.instrument(span)
}
