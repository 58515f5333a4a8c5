//! 旺店通·旗舰版 as a source.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use kingpost_model::{BoxFuture, Document, Failure, FailureKind, Fault, Fetched, Page, Source, Window};
use kingpost_wdt::{ByNumber, Class, Client, Method, Query, Row, WdtError, values::beijing_text};

use crate::Calls;

/// Which documents are read, and how.
#[derive(Clone, Debug, Default)]
pub struct WdtSpec {
    /// The query method.
    pub method: String,
    /// Fixed criteria; the time range is the window's.
    pub params: Vec<(String, String)>,
    /// The field that tells documents apart.
    pub key: String,
    /// Documents per page.
    pub page_size: u32,
    /// Statuses of cancelled documents.
    pub cancelled: Vec<String>,
}

/// How long a window that isn't over on WDT's own clock is left alone at a time.
const CLOCK_WAIT: Duration = Duration::from_secs(30);

/// One kind of WDT document, read by its time of change.
pub struct WdtSource {
    client: Client,
    spec: WdtSpec,
    calls: Arc<dyn Calls>,
    margin: Option<Duration>,
}

impl WdtSource {
    /// A source of a client.
    pub fn new(client: Client, spec: WdtSpec, calls: Arc<dyn Calls>) -> Self {
        WdtSource { client, spec, calls, margin: None }
    }

    /// Reads no window that isn't over by this long on WDT's own clock while ours is ahead of it by more: documents could
    /// still enter it, and once it is read nobody would look there again.
    #[must_use]
    pub fn with_margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// Why a window can't be read yet, when a call at `now_s` was answered at `server_s`.
    fn too_early(&self, window: Window, now_s: i64, server_s: i64) -> Option<Failure> {
        let margin_s = i64::try_from(self.margin?.as_secs()).unwrap_or(i64::MAX);
        let (ahead_s, wait_s) = (now_s - server_s, window.to_s.saturating_add(margin_s) - server_s);
        if ahead_s <= margin_s || wait_s <= 0 {
            return None;
        }
        let text = format!(
            "this machine's clock is {ahead_s} s ahead of WDT's, where the window {window} isn't safely over and documents \
             may still enter it; it is read in {wait_s} s at the latest; set the clock (NTP), or lengthen `source.window.lag`"
        );
        // Asked again before that, since somebody may set the clock.
        let wait = Duration::from_secs(wait_s.unsigned_abs()).min(CLOCK_WAIT);
        Some(Failure::new(FailureKind::Unavailable, text).by(Fault::Us).retry_after(wait))
    }

    fn query(&self, window: Window, page: u32) -> Query {
        // Whether the interval is open or closed is not documented; an end shared with the next window is right for both.
        let mut params = range(window.from_s, window.to_s);
        params.extend(self.spec.params.iter().cloned());
        Query {
            method: self.spec.method.clone(),
            params,
            page: u64::from(page),
            page_size: self.spec.page_size,
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

    /// What a document has where the scheme asks for something else. What one of WDT's answers doesn't say can't be held
    /// against it; one that somebody `brings` has to say it.
    fn differences(&self, row: &Row, brings: bool) -> Vec<String> {
        let by_number = Method::find(&self.spec.method).and_then(|method| method.by_number);
        let differs = |(criterion, wanted): &(String, String)| {
            if SHAPING.contains(&criterion.as_str()) || criterion.starts_with("need_") {
                return None;
            }
            let field = match by_number {
                Some(by) if by.criterion() == criterion => &self.spec.key,
                _ => criterion,
            };
            match row.field(field) {
                None => brings.then(|| format!("it has no {field}, the scheme asks for {wanted}")),
                Some(found) if wanted.split(',').any(|one| one.trim() == found) => None,
                Some(found) => Some(format!("its {field} is {found}, the scheme asks for {wanted}")),
            }
        };
        self.spec.params.iter().filter_map(differs).collect()
    }

    fn left_out(&self, row: &Row) -> String {
        let reasons = self.differences(row, false);
        match reasons.is_empty() {
            true => "the criteria of the scheme leave it out".to_owned(),
            false => reasons.join("; "),
        }
    }

    fn document(&self, row: Row) -> Document {
        Document {
            modified_ms: row.modified.map(Timestamp::as_millisecond),
            cancelled: !self.spec.cancelled.is_empty()
                && row.field(STATUS).is_some_and(|status| self.spec.cancelled.contains(&status)),
            number: if self.spec.key == KEY { row.key } else { number(&row, &self.spec.key) },
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
            let (method, page_size) = (self.spec.method.clone(), self.spec.page_size);
            let page = self.call(&Query { method, params, page: 0, page_size, want_total: true }).await?;
            let others = page.rows.len();
            let is = |row: &Row| row.field(&self.spec.key).is_some_and(|found| found == number);
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
        self.spec.page_size
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        Box::pin(async move {
            // Before the call, so that a slow answer is not taken for a clock that is ahead.
            let now_s = Timestamp::now().as_second();
            let page = self.call(&self.query(window, page)).await?;
            let server_s = page.server_time.map(Timestamp::as_second);
            if let Some(early) = server_s.and_then(|server_s| self.too_early(window, now_s, server_s)) {
                return Err(early);
            }
            let documents = page.rows.into_iter().map(|row| self.document(row));
            Ok(Page { documents: documents.collect(), total: page.total })
        })
    }

    fn fetch<'a>(&'a self, number: &'a str, since_s: i64) -> BoxFuture<'a, Result<Fetched, Failure>> {
        Box::pin(async move {
            let way = Method::find(&self.spec.method).and_then(|method| Some((method, method.by_number?)));
            let Some(way) = way else {
                let text = format!(
                    "WDT's page of {} promises no way to ask for one document by its number; read its window again instead",
                    self.spec.method
                );
                return Err(Failure::new(FailureKind::Configuration, text));
            };
            if let Some(row) = self.search(number, since_s, way, &self.spec.params).await? {
                return Ok(Fetched::Found(self.document(row)));
            }
            if self.spec.params.is_empty() {
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
        let Some(row) = Row::of(&self.spec.method, body) else {
            return refused(
                FailureKind::Malformed,
                "a document is a JSON object, this is something else".to_owned(),
            );
        };
        let reasons = self.differences(&row, true);
        if !reasons.is_empty() {
            return refused(FailureKind::Refused, reasons.join("; "));
        }
        let document = self.document(row);
        match document.number {
            Some(_) => Ok(document),
            None => refused(FailureKind::Malformed, format!("it has no {}, its number", self.spec.key)),
        }
    }
}

/// The field that the client reads as the number by itself (`order_no`, the key of every `…queryWithDetail` document).
const KEY: &str = "order_no";

/// The field in which a document says how far it is (`status` of every `…queryWithDetail` document).
const STATUS: &str = "status";

/// Criteria that say how WDT answers and leave no document out.
const SHAPING: [&str; 3] = ["time_type", "fuzzy_query", "get_anchor"];

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
pub(crate) fn failure(error: &WdtError) -> Failure {
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
