//! The places of a batch's messages in their traces.

use kingpost_model::{Item, Verdict, Work};
use kingpost_telemetry::traces::{WorkSpan, within};
use tracing::{Instrument as _, Span, error_span};

/// The spans of the works of a batch, and what each came with.
pub(crate) struct BatchTrace {
    spans: Vec<WorkSpan>,
    /// The place that a message came with, where it came with one.
    came_with: Vec<Option<(Option<String>, Option<String>)>>,
    queue: String,
    /// What log lines of the stage say of themselves.
    lines: Span,
}

impl BatchTrace {
    /// Begins the work on some messages: from now on each bears the place of its own span, so that whatever a stage makes
    /// of it comes behind.
    pub(crate) fn begin(items: &mut [Item], queue: String) -> Self {
        let (mut spans, mut came_with) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for item in items.iter_mut() {
            let span = WorkSpan::of_item(item, &queue);
            let (parent, state) = (item.work.traceparent.take(), item.work.tracestate.take());
            came_with.push((!span.is_first()).then_some((parent, state)));
            item.work.set_trace(span.context());
            spans.push(span);
        }
        let lines = lines(items);
        BatchTrace { spans, came_with, queue, lines }
    }

    /// Does the work of the batch.
    pub(crate) async fn run<F: Future>(&self, work: F) -> F::Output {
        within(&self.spans, &self.queue, work).instrument(self.lines.clone()).await
    }

    /// Gives a copy of a message the place back that the message came with: all tries of a work, through retry tiers, dead
    /// letters and replays, stand beside each other. One that came with none stays behind its first try.
    pub(crate) fn restore(&self, index: usize, work: &mut Work) {
        if let Some(Some((parent, state))) = self.came_with.get(index) {
            work.traceparent.clone_from(parent);
            work.tracestate.clone_from(state);
        }
    }

    /// Ends the spans, with the verdicts when they were carried out.
    pub(crate) fn end(self, verdicts: &[Verdict], concluded: bool) {
        for (index, span) in self.spans.into_iter().enumerate() {
            span.end(verdicts.get(index).filter(|_| concluded));
        }
    }
}

/// As loud as an error, since what a line belongs to has to be said whatever level is logged.
fn lines(items: &[Item]) -> Span {
    let Some(Item { work, .. }) = items.first() else { return Span::none() };
    let (scheme, stage) = (work.scheme.as_str(), work.stage.as_str());
    if items.len() > 1 {
        return error_span!("batch", scheme, stage, count = items.len());
    }
    let (trace_id, span_id) = work.trace_ids();
    error_span!("work", scheme, stage, message.id = work.id.as_str(), trace_id, span_id)
}

#[cfg(test)]
mod tests {
    use kingpost_model::{RecordKey, StageName, WorkId};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn item(parent: Option<&str>, state: Option<&str>) -> Item {
        let key = RecordKey::new("STK_InStock", "RK1");
        let mut work = Work::new(WorkId::new("1"), StageName::Load, "s", key, "{}");
        work.traceparent = parent.map(str::to_owned);
        work.tracestate = state.map(str::to_owned);
        Item { work, redelivered: false }
    }

    #[test]
    fn what_is_made_of_a_message_stands_behind_it_and_its_copies_stand_where_it_stood() {
        let mut items = [item(Some(PARENT), Some("vendor=1"))];
        let trace = BatchTrace::begin(&mut items, "load.s".into());
        let own = items[0].work.trace().unwrap();
        assert_eq!((own.trace_id(), own.state()), (0x4bf92f3577b34da6a3ce929d0e0e4736, Some("vendor=1")));
        assert_ne!(own.span_id(), 0xf067aa0ba902b7);
        assert!(own.is_sampled(), "what the one before has decided is passed on");
        let mut copy = items[0].work.clone();
        trace.restore(0, &mut copy);
        assert_eq!(
            (copy.traceparent.as_deref(), copy.tracestate.as_deref()),
            (Some(PARENT), Some("vendor=1"))
        );
    }

    #[test]
    fn a_message_without_a_place_or_with_a_malformed_one_begins_a_trace_that_its_copies_keep() {
        for bad in [None, Some(""), Some("00-junk"), Some(&PARENT[..50])] {
            let mut items = [item(bad, Some("vendor=1")), item(bad, None)];
            let trace = BatchTrace::begin(&mut items, "load.s".into());
            let [own, other] = items.each_ref().map(|item| item.work.trace().unwrap());
            assert_ne!(own.trace_id(), other.trace_id());
            assert_eq!((own.state(), own.is_sampled()), (None, false));
            let mut copy = items[0].work.clone();
            trace.restore(0, &mut copy);
            assert_eq!(copy.trace(), Some(own.clone()));
            // The next try of the copy is in the same trace.
            let mut again = [Item { work: copy, redelivered: false }];
            BatchTrace::begin(&mut again, "load.s".into());
            assert_eq!(again[0].work.trace().unwrap().trace_id(), own.trace_id());
        }
    }
}
