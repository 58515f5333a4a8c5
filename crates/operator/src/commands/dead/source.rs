//! The order behind a dead letter, read from its source again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kingpost_broker::{Destination, Letter, MAX_BODY_BYTES, Posting};
use kingpost_connectors::{NoCalls, source};
use kingpost_model::{
    Document, Failure, FailureKind, Fetched, Origin, RecordKey, Route, Source, StageName, Work, WorkId,
};
use kingpost_scheme::Scheme;
use kingpost_settings::{Problems, wdt};
use sha2::{Digest as _, Sha256};

use crate::{clock, ending::Stop, replay::Unmade, session::Session};

/// How often a source that is busy or away is asked for one order.
const TRIES: u32 = 5;
/// Longest wait for a source that says how long it wants to be left alone.
const PATIENCE: Duration = Duration::from_secs(120);

/// The sources of some schemes.
pub(crate) struct Sources {
    schemes: HashMap<String, (Scheme, Arc<dyn Source>)>,
    now_ms: i64,
}

impl Sources {
    /// The sources of the schemes that are named, with the settings of their accounts; connects to nothing yet.
    pub(crate) fn open<'a>(
        session: &Session,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Stop> {
        let mut all: HashMap<String, Scheme> =
            session.schemes()?.into_iter().map(|scheme| (scheme.name.clone(), scheme)).collect();
        let mut schemes = HashMap::new();
        let mut problems = Problems::new();
        for name in names {
            if schemes.contains_key(name) {
                continue;
            }
            let Some(scheme) = all.remove(name) else {
                let text =
                    format!("there is no scheme `{name}` in SCHEMES_DIR, which says where its orders are");
                return Err(Stop::failed(text));
            };
            let opened = wdt(&session.environment, scheme.account.as_deref())
                .and_then(|settings| source(&scheme, &settings, Arc::new(NoCalls)));
            match opened {
                Ok(source) => drop(schemes.insert(name.to_owned(), (scheme, source))),
                Err(wrong) => problems = problems.merge(wrong),
            }
        }
        problems.or(()).map_err(|problems| Stop::settings(&problems))?;
        Ok(Sources { schemes, now_ms: session.now_ms })
    }

    /// The order of a letter as the source has it now, as work for the transformer, marked as a replay that has to be
    /// looked up before it is posted.
    ///
    /// # Errors
    /// Why there is none, for a person; the letter has to stay.
    pub(crate) async fn posting(&self, letter: &Letter, reply_to: Option<&str>) -> Result<Posting, Unmade> {
        let work = &letter.work;
        let Some((scheme, source)) = self.schemes.get(&work.scheme) else {
            return Err(Unmade::of_order(format!("no source was opened for the scheme `{}`", work.scheme)));
        };
        let number = order_number(letter).map_err(Unmade::of_order)?;
        let since_s =
            work.modified_ms.map_or(scheme.source.window.start.as_second(), |ms| ms.div_euclid(1_000));
        match fetched(&**source, number, since_s).await {
            Ok(Fetched::Found(document)) => {
                let work = order(scheme, letter, number, document, reply_to, self.now_ms)
                    .map_err(Unmade::of_order)?;
                Ok(Posting { destination: Destination::Work(Route::new(work.stage, &*work.scheme)), work })
            }
            Ok(Fetched::LeftOut(reason)) => Err(Unmade::of_order(format!(
                "{number} is in the source, but no longer among what is posted: {reason}"
            ))),
            Ok(Fetched::Absent) => Err(Unmade::of_order(format!(
                "the source has no {number} any more that was changed since {}; it was deleted, or the account may not \
                 see it",
                clock::beijing(since_s.saturating_mul(1_000))
            ))),
            Err(failure) => Err(Unmade {
                text: format!("the source was asked for {number} in vain: {failure}"),
                source_failed: true,
            }),
        }
    }
}

impl Sources {
    /// What the source of a scheme has under a number now.
    ///
    /// # Errors
    /// Why that can't be told, for a person.
    pub(crate) async fn look(
        &self,
        scheme: &str,
        number: &str,
        since_ms: Option<i64>,
    ) -> Result<Fetched, String> {
        let Some((scheme, source)) = self.schemes.get(scheme) else {
            return Err(format!("no source was opened for the scheme `{scheme}`"));
        };
        let start = scheme.source.window.start.as_second();
        let since_s = since_ms.map_or(start, |ms| ms.div_euclid(1_000));
        fetched(&**source, number, since_s).await.map_err(|failure| failure.to_string())
    }
}

/// The number of a letter's order in the source.
fn order_number(letter: &Letter) -> Result<&str, String> {
    let work = &letter.work;
    match work.stage {
        StageName::Extract => {
            Err(format!("{} is a window and no order; replay it as it is", work.key.number))
        }
        StageName::Transform | StageName::Load => {
            Ok(work.source_number.as_deref().unwrap_or(&work.key.number))
        }
    }
}

/// Asks a source, and again when it is only busy.
async fn fetched(source: &dyn Source, number: &str, since_s: i64) -> Result<Fetched, Failure> {
    let mut tried = 1;
    loop {
        let failure = match source.fetch(number, since_s).await {
            Ok(fetched) => return Ok(fetched),
            Err(failure) => failure,
        };
        let passing = matches!(
            failure.kind,
            FailureKind::Throttled | FailureKind::Transient | FailureKind::Unavailable
        );
        let wait = failure.retry_after.unwrap_or(Duration::from_secs(2) * tried);
        if !passing || tried == TRIES || wait > PATIENCE {
            return Err(failure);
        }
        tokio::time::sleep(wait).await;
        tried += 1;
    }
}

fn order(
    scheme: &Scheme,
    letter: &Letter,
    number: &str,
    document: Document,
    reply_to: Option<&str>,
    now_ms: i64,
) -> Result<Work, String> {
    if document.body.len() > MAX_BODY_BYTES {
        let bytes = document.body.len();
        return Err(format!("{number} has {bytes} bytes now, a message holds {MAX_BODY_BYTES}"));
    }
    let old = &letter.work;
    let id = version_id(&scheme.name, number, &document.body);
    let key = RecordKey::new(&*scheme.target.form, number);
    let mut work = Work::new(id, StageName::Transform, &*scheme.name, key, document.body);
    work.origin = Origin::Replay;
    work.verify = true;
    work.cancelled = document.cancelled;
    work.modified_ms = document.modified_ms;
    work.extracted_ms = Some(now_ms);
    work.reply_to = reply_to.map(str::to_owned);
    work.traceparent.clone_from(&old.traceparent);
    work.tracestate.clone_from(&old.tracestate);
    work.first_failure.clone_from(&old.first_failure);
    work.headers.clone_from(&old.headers);
    Ok(work)
}

/// The identity of one version of a document, the same that an extractor gives it: equal bytes have equal ids.
pub(crate) fn version_id(scheme: &str, number: &str, body: &[u8]) -> WorkId {
    let mut hash = Sha256::new();
    hash.update(scheme.as_bytes());
    hash.update([0]);
    hash.update(body);
    let digest = hex::encode(&hash.finalize()[..12]);
    WorkId::new(format!("{}-{digest}", number.chars().take(64).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kingpost_model::{BoxFuture, Page, Window};

    use super::*;

    /// A source that answers one call after the other.
    struct Answers(Mutex<Vec<Result<Fetched, Failure>>>);

    impl Source for Answers {
        fn page_size(&self) -> u32 {
            1
        }

        fn page(&self, _: Window, _: u32) -> BoxFuture<'_, Result<Page, Failure>> {
            Box::pin(async { Ok(Page { documents: Vec::new(), total: None }) })
        }

        fn fetch<'a>(&'a self, _: &'a str, _: i64) -> BoxFuture<'a, Result<Fetched, Failure>> {
            let next = self.0.lock().unwrap().remove(0);
            Box::pin(async { next })
        }
    }

    fn busy(kind: FailureKind) -> Result<Fetched, Failure> {
        Err(Failure::new(kind, "busy").retry_after(Duration::from_millis(1)))
    }

    #[tokio::test]
    async fn a_busy_source_is_asked_again_and_a_refusal_is_final() {
        let answers = Answers(Mutex::new(vec![
            busy(FailureKind::Throttled),
            busy(FailureKind::Unavailable),
            Ok(Fetched::Absent),
        ]));
        assert_eq!(fetched(&answers, "RK1", 0).await, Ok(Fetched::Absent));
        let answers = Answers(Mutex::new(vec![busy(FailureKind::Configuration)]));
        assert_eq!(fetched(&answers, "RK1", 0).await.unwrap_err().kind, FailureKind::Configuration);
    }

    #[test]
    fn equal_bytes_have_the_id_that_an_extractor_gives_them() {
        // SHA-256 of `s`, a zero byte and `{}`, the first twelve bytes.
        let id = version_id("s", "RK1", b"{}");
        assert_eq!(id.as_str(), format!("RK1-{}", &hex::encode(Sha256::digest(b"s\0{}"))[..24]));
        assert_ne!(version_id("other", "RK1", b"{}"), id);
    }
}
