//! 旺店通·旗舰版 as a source.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use jiff::Timestamp;
use kingpost_model::{BoxFuture, Document, Failure, FailureKind, Fault, Fetched, Page, Source, Window};
use kingpost_wdt::{ByNumber, Class, Client, Method, Query, Row, WdtError, values::beijing_text};

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
        // Whether the interval is open or closed is not documented; an end shared with the next window is right for both.
        let mut params = range(window.from_s, window.to_s);
        params.extend(self.params.iter().cloned());
        Query {
            method: self.method.clone(),
            params,
            page: u64::from(page),
            page_size: self.page_size,
            want_total: true,
        }
    }

    /// One call, counted.
    async fn call(&self, query: &Query) -> Result<kingpost_wdt::Page, Failure> {
        let started = Instant::now();
        let answer = self.client.query(query).await;
        let outcome = answer.as_ref().map_or_else(|e| outcome(e.class), |_| "ok");
        self.calls.call("wdt", "query", outcome, started.elapsed());
        answer.map_err(|e| failure(&e))
    }

    /// What a document has where the scheme asks for something else.
    fn differences(&self, row: &Row) -> Vec<String> {
        let differs = |(name, wanted): &(String, String)| {
            let found = row.field(name)?;
            let meets = wanted.split(',').any(|one| one.trim() == found);
            (!meets).then(|| format!("its {name} is {found}, the scheme asks for {wanted}"))
        };
        self.params.iter().filter_map(differs).collect()
    }

    fn left_out(&self, row: &Row) -> String {
        let reasons = self.differences(row);
        match reasons.is_empty() {
            true => "the criteria of the scheme leave it out".to_owned(),
            false => reasons.join("; "),
        }
    }

    fn document(&self, row: Row) -> Document {
        Document {
            number: if self.key == KEY { row.key } else { number(&row, &self.key) },
            modified_ms: row.modified.map(Timestamp::as_millisecond),
            body: row.body,
        }
    }

    /// Searches for a number among what meets `criteria`, from the oldest range to the newest: a document that changes
    /// meanwhile moves into one that is still to be searched.
    async fn search(
        &self,
        number: &str,
        since_s: i64,
        (method, by): (&Method, ByNumber),
        criteria: &[(String, String)],
    ) -> Result<Option<Row>, Failure> {
        let now_s = Timestamp::now().as_second() + 1;
        let widest = i64::try_from(method.widest_window.as_secs()).unwrap_or(i64::MAX);
        let mut from_s = since_s.min(now_s - 1);
        loop {
            let to_s = from_s.saturating_add(widest).min(now_s);
            let mut params = match by {
                ByNumber::Within(_) => range(from_s, to_s),
                ByNumber::Anywhere(_) => Vec::new(),
            };
            params.push((by.criterion().to_owned(), number.to_owned()));
            // Another kind of time would search the wrong range.
            let ours = |name: &str| name == by.criterion() || name == "time_type";
            params.extend(criteria.iter().filter(|(name, _)| !ours(name)).cloned());
            let (method, page_size) = (self.method.clone(), self.page_size);
            let page = self.call(&Query { method, params, page: 0, page_size, want_total: true }).await?;
            let others = page.rows.len();
            let is = |row: &Row| row.field(&self.key).is_some_and(|found| found == number);
            if let Some(row) = page.rows.into_iter().find(is) {
                return Ok(Some(row));
            }
            if others > 0 || page.total.is_some_and(|total| total > 0) {
                let text = format!(
                    "WDT was asked for {number} alone and answered with other documents ({others} on the first page), so \
                     it doesn't heed `{}`; read the window again instead",
                    by.criterion()
                );
                return Err(Failure::new(FailureKind::Incomplete, text));
            }
            if to_s >= now_s || matches!(by, ByNumber::Anywhere(_)) {
                return Ok(None);
            }
            from_s = to_s;
        }
    }
}

/// A range of time as criteria.
fn range(from_s: i64, to_s: i64) -> Vec<(String, String)> {
    let time = |second: i64| Timestamp::from_second(second).map(beijing_text).unwrap_or_default();
    let range = [("start_time", time(from_s)), ("end_time", time(to_s))];
    range.map(|(name, value)| (name.to_owned(), value)).into()
}

impl Source for WdtSource {
    fn page_size(&self) -> u32 {
        self.page_size
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async move {
            let page = self.call(&self.query(window, page)).await?;
            let documents = page.rows.into_iter().map(|row| self.document(row));
            Ok(Page { documents: documents.collect(), total: page.total })
        })
    }

    fn fetch<'a>(&'a self, number: &'a str, since_s: i64) -> BoxFuture<'a, Result<Fetched, Failure>> {
        Box::pin(async move {
            let way = Method::find(&self.method).and_then(|method| Some((method, method.by_number?)));
            let Some(way) = way else {
                let text = format!(
                    "WDT's page of {} promises no way to ask for one document by its number; read its window again instead",
                    self.method
                );
                return Err(Failure::new(FailureKind::Configuration, text));
            };
            if let Some(row) = self.search(number, since_s, way, &self.params).await? {
                return Ok(Fetched::Found(self.document(row)));
            }
            if self.params.is_empty() {
                return Ok(Fetched::Absent);
            }
            // Without the scheme's criteria it may be there all the same, and a person wants to know why it is left out.
            Ok(match self.search(number, since_s, way, &[]).await? {
                Some(row) => Fetched::LeftOut(self.left_out(&row)),
                None => Fetched::Absent,
            })
        })
    }

    fn read(&self, body: Bytes) -> Result<Document, Failure> {
        let refused = |kind, text: String| Err(Failure::new(kind, text).by(Fault::Source));
        let Some(row) = Row::of(&self.method, body) else {
            return refused(
                FailureKind::Malformed,
                "a document is a JSON object, this is something else".to_owned(),
            );
        };
        // A document that doesn't say how far it is may still change; WDT itself would have known.
        let unsaid = self.params.iter().find(|(name, _)| name == STATUS && row.field(name).is_none());
        let mut reasons = self.differences(&row);
        reasons
            .extend(unsaid.map(|(name, wanted)| format!("it has no {name}, the scheme asks for {wanted}")));
        if !reasons.is_empty() {
            return refused(FailureKind::Refused, reasons.join("; "));
        }
        let document = self.document(row);
        match document.number {
            Some(_) => Ok(document),
            None => refused(FailureKind::Malformed, format!("it has no {}, its number", self.key)),
        }
    }
}

/// The field that the client reads as the number by itself (`order_no`, the key of every `…queryWithDetail` document).
const KEY: &str = "order_no";

/// The criterion that says which documents are complete.
const STATUS: &str = "status";

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
