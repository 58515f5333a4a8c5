//! 旺店通·旗舰版 as a source.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use kingpost_model::{BoxFuture, Document, Failure, FailureKind, Fault, Page, Source, Window};
use kingpost_wdt::{Class, Client, Query, Row, WdtError, values::beijing_text};

use crate::Calls;

/// One kind of WDT document, read by its time of change.
pub struct WdtSource {
    client: Client,
    method: String,
    params: Vec<(String, String)>,
    key: String,
    page_size: u32,
    calls: Arc<dyn Calls>,
}

impl WdtSource {
    /// A source for a method with fixed criteria, whose documents are told apart by the field `key`; the time range
    /// is the window's.
    pub fn new(
        client: Client,
        method: impl Into<String>,
        params: Vec<(String, String)>,
        key: impl Into<String>,
        page_size: u32,
        calls: Arc<dyn Calls>,
    ) -> Self {
        WdtSource { client, method: method.into(), params, key: key.into(), page_size, calls }
    }

    fn query(&self, window: Window, page: u32) -> Query {
        let time = |second: i64| Timestamp::from_second(second).map(beijing_text).unwrap_or_default();
        // Whether the interval is open or closed is not documented; an end shared with the next window is right for both.
        let range = [("start_time", time(window.from_s)), ("end_time", time(window.to_s))];
        let mut params: Vec<_> = range.map(|(name, value)| (name.to_owned(), value)).into();
        params.extend(self.params.iter().cloned());
        Query {
            method: self.method.clone(),
            params,
            page: u64::from(page),
            page_size: self.page_size,
            want_total: true,
        }
    }
}

impl Source for WdtSource {
    fn page_size(&self) -> u32 {
        self.page_size
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async move {
            let started = Instant::now();
            let answer = self.client.query(&self.query(window, page)).await;
            let outcome = answer.as_ref().map_or_else(|e| outcome(e.class), |_| "ok");
            self.calls.call("wdt", "query", outcome, started.elapsed());
            let page = answer.map_err(|e| failure(&e))?;
            let documents = page.rows.into_iter().map(|row| Document {
                number: if self.key == KEY { row.key } else { number(&row, &self.key) },
                modified_ms: row.modified.map(Timestamp::as_millisecond),
                body: row.body,
            });
            Ok(Page { documents: documents.collect(), total: page.total })
        })
    }
}

/// The field that the client reads as the number by itself (`order_no`, the key of every `…queryWithDetail` document).
const KEY: &str = "order_no";

/// The text of another field; a blank one is none.
fn number(row: &Row, field: &str) -> Option<String> {
    row.field(field).filter(|text| !text.trim().is_empty())
}

fn outcome(class: Class) -> &'static str {
    match class {
        Class::Transport => "no-answer",
        Class::Throttled { .. } => "throttled",
        Class::Malformed => "unreadable",
        Class::Retryable
        | Class::WindowTooWide
        | Class::TooBroad
        | Class::Clock
        | Class::Configuration
        | Class::Permanent => "refused",
    }
}

/// What a failed call means for the window.
fn failure(error: &WdtError) -> Failure {
    let kind = match error.class {
        Class::Transport => FailureKind::Unavailable,
        Class::Throttled { .. } => FailureKind::Throttled,
        // An answer that can't be read may hold documents, so it is never taken as empty.
        Class::Retryable | Class::Malformed => FailureKind::Transient,
        // The extractor narrows the window and asks again.
        Class::WindowTooWide | Class::TooBroad => FailureKind::Incomplete,
        Class::Clock | Class::Configuration => FailureKind::Configuration,
        Class::Permanent => FailureKind::Refused,
    };
    let fault = if kind == FailureKind::Configuration { Fault::Us } else { Fault::Source };
    let mut failure = Failure::new(kind, error.to_string()).by(fault);
    failure.code = match (&error.code, &error.sub_code) {
        (Some(code), Some(sub)) => Some(format!("{code} {sub}")),
        (code, sub) => code.clone().or_else(|| sub.clone()),
    };
    if let Class::Throttled { wait: Some(wait) } = error.class {
        failure.retry_after = Some(wait);
    }
    failure
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kingpost_wdt::Origin;

    use super::*;

    fn error(class: Class) -> WdtError {
        WdtError {
            class,
            origin: Origin::Gateway,
            code: Some("7".to_owned()),
            sub_code: None,
            text: "their words".to_owned(),
            advice: "wait",
        }
    }

    #[test]
    fn every_class_of_error_has_its_kind_and_its_culprit() {
        let ban = Some(Duration::from_secs(61));
        for (class, kind, fault) in [
            (Class::Transport, FailureKind::Unavailable, Fault::Source),
            (Class::Throttled { wait: None }, FailureKind::Throttled, Fault::Source),
            (Class::Throttled { wait: ban }, FailureKind::Throttled, Fault::Source),
            (Class::Retryable, FailureKind::Transient, Fault::Source),
            (Class::Malformed, FailureKind::Transient, Fault::Source),
            (Class::WindowTooWide, FailureKind::Incomplete, Fault::Source),
            (Class::TooBroad, FailureKind::Incomplete, Fault::Source),
            (Class::Clock, FailureKind::Configuration, Fault::Us),
            (Class::Configuration, FailureKind::Configuration, Fault::Us),
            (Class::Permanent, FailureKind::Refused, Fault::Source),
        ] {
            let failure = failure(&error(class));
            assert_eq!((failure.kind, failure.fault), (kind, fault), "{class:?}");
            assert!(failure.text.contains("their words") && failure.text.contains("wait"), "{failure}");
            assert!(!failure.in_flight, "reading changes nothing");
        }
    }

    #[test]
    fn a_ban_is_left_alone_for_as_long_as_it_says_and_nothing_else_waits() {
        let wait = Duration::from_secs(61);
        assert_eq!(failure(&error(Class::Throttled { wait: Some(wait) })).retry_after, Some(wait));
        assert_eq!(failure(&error(Class::Throttled { wait: None })).retry_after, None);
        assert_eq!(failure(&error(Class::Transport)).retry_after, None);
    }

    #[test]
    fn both_codes_are_kept() {
        let sub = || Some("isv.x".to_owned());
        let code = |code: Option<&str>, sub_code| {
            let code = code.map(str::to_owned);
            failure(&WdtError { code, sub_code, ..error(Class::Permanent) }).code
        };
        assert_eq!(code(Some("41"), sub()).as_deref(), Some("41 isv.x"));
        assert_eq!(code(None, sub()).as_deref(), Some("isv.x"));
        assert_eq!(code(Some("41"), None).as_deref(), Some("41"));
        assert_eq!(code(None, None), None);
    }
}
