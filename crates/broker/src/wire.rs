//! Work as an AMQP message: the body is the document, everything about it is in properties and headers.

use bytes::Bytes;
use kingpost_model::{
    FailureRecord, Origin, RecordKey, Route, StageName, TRACESTATE_BYTES_MAX, Work, WorkId,
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

/// The largest body that is published; RabbitMQ 4 refuses a message of 16 MiB.
pub const MAX_BODY_BYTES: usize = 15 * 1024 * 1024;
/// Room for headers that others set; a header frame is bounded and must hold our own as well.
const FOREIGN_HEADER_BYTES: usize = 4_096;
/// Longest value of one of our own text headers in bytes.
const TEXT_HEADER_BYTES: usize = 512;

const DOCUMENT: &str = "kingpost-document";
const KEY: &str = "kingpost-key";
const SCHEME: &str = "kingpost-scheme";
const STAGE: &str = "kingpost-stage";
const SOURCE_NUMBER: &str = "kingpost-source-number";
const WRITE_KEY: &str = "kingpost-write-key";
const ATTEMPT: &str = "kingpost-attempt";
const ORIGIN: &str = "kingpost-origin";
const VERIFY: &str = "kingpost-verify";
const CANCELLED: &str = "kingpost-cancelled";
const MODIFIED: &str = "kingpost-modified-ms";
const EXTRACTED: &str = "kingpost-extracted-ms";
const UNCLEAR_SINCE: &str = "kingpost-unclear-since-ms";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const FIRST_FAILURE: &str = "kingpost-first-failure";
const LAST_FAILURE: &str = "kingpost-last-failure";
/// The work queue that a waiting or dead message belongs to, which is its routing key back.
const QUEUE: &str = "kingpost-queue";
/// The last failure's kind by itself, so that a broker's own tools can show it.
const FAILURE_KIND: &str = "kingpost-failure-kind";
/// What this release reads itself; everything else is carried along unread, a newer release's headers as well.
const KNOWN: [&str; 20] = [
    DOCUMENT,
    KEY,
    SCHEME,
    STAGE,
    SOURCE_NUMBER,
    WRITE_KEY,
    ATTEMPT,
    ORIGIN,
    VERIFY,
    CANCELLED,
    MODIFIED,
    EXTRACTED,
    UNCLEAR_SINCE,
    TRACEPARENT,
    TRACESTATE,
    FIRST_FAILURE,
    LAST_FAILURE,
    FAILURE_KIND,
    "kingpost-version",
    QUEUE,
];
/// Longest failure record in bytes as it is written; two of them share a header frame with everything else.
const RECORD_BYTES_MAX: usize = 8_192;
/// The broker's count of deliveries that ended without a settlement.
const DELIVERY_COUNT: &str = "x-delivery-count";

fn insert(table: &mut FieldTable, name: &str, value: AMQPValue) {
    if let Ok(name) = ShortString::try_new(name) {
        table.insert(name, value);
    }
}

fn insert_text(table: &mut FieldTable, name: &str, value: &str) {
    let mut end = value.len().min(TEXT_HEADER_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    insert(table, name, AMQPValue::LongString(LongString::from(&value.as_bytes()[..end])));
}

fn insert_record(table: &mut FieldTable, name: &str, record: Option<&FailureRecord>) {
    let Some(record) = record else { return };
    let Ok(mut json) = serde_json::to_vec(record) else { return };
    if json.len() > RECORD_BYTES_MAX {
        // Only escapes make it this long: what remains is the kind, and a beginning of the text.
        let text: String = record.text.chars().filter(|c| !c.is_control()).take(200).collect();
        let more_problems = record.more_problems + record.problems.len();
        let short = FailureRecord { problems: Vec::new(), more_problems, text, ..record.clone() };
        json = serde_json::to_vec(&short).unwrap_or_default();
    }
    if json.len() <= RECORD_BYTES_MAX {
        insert(table, name, AMQPValue::LongString(LongString::from(json)));
    }
}

/// Properties and headers of work.
pub(crate) fn properties(work: &Work, queue: &str, app: &ShortString, now_s: u64) -> BasicProperties {
    let mut table = FieldTable::default();
    let mut room = FOREIGN_HEADER_BYTES;
    for (name, value) in &work.headers {
        // A newer release's record is worth nothing once it is cut.
        if [FIRST_FAILURE, LAST_FAILURE].contains(&&**name) && value.len() <= RECORD_BYTES_MAX {
            insert(&mut table, name, AMQPValue::LongString(LongString::from(value.as_str())));
            continue;
        }
        if let Some(left) = room.checked_sub(name.len() + value.len()) {
            room = left;
            insert_text(&mut table, name, value);
        }
    }
    insert_text(&mut table, SCHEME, &work.scheme);
    insert_text(&mut table, STAGE, work.stage.as_str());
    insert_text(&mut table, DOCUMENT, &work.key.document);
    insert_text(&mut table, KEY, &work.key.number);
    insert_text(&mut table, QUEUE, queue);
    insert_text(&mut table, ORIGIN, work.origin.as_str());
    insert(&mut table, ATTEMPT, AMQPValue::LongLongInt(i64::from(work.attempt)));
    for (name, is_set) in [(VERIFY, work.verify), (CANCELLED, work.cancelled)] {
        if is_set {
            insert(&mut table, name, AMQPValue::Boolean(true));
        }
    }
    for (name, value) in [
        (SOURCE_NUMBER, work.source_number.as_deref()),
        (WRITE_KEY, work.write_key.as_deref()),
        (TRACEPARENT, work.traceparent.as_deref()),
        (TRACESTATE, work.tracestate.as_deref().filter(|state| state.len() <= TRACESTATE_BYTES_MAX)),
        (FAILURE_KIND, work.last_failure.as_ref().map(|f| f.kind.as_str())),
    ] {
        if let Some(value) = value {
            insert_text(&mut table, name, value);
        }
    }
    for (name, value) in
        [(MODIFIED, work.modified_ms), (EXTRACTED, work.extracted_ms), (UNCLEAR_SINCE, work.unclear_since_ms)]
    {
        if let Some(value) = value {
            insert(&mut table, name, AMQPValue::LongLongInt(value));
        }
    }
    insert_record(&mut table, FIRST_FAILURE, work.first_failure.as_deref());
    insert_record(&mut table, LAST_FAILURE, work.last_failure.as_deref());
    let id = ShortString::try_new(work.id.as_str()).unwrap_or_default();
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(id)
        .with_timestamp(now_s)
        .with_app_id(app.clone())
        .with_type(work.stage.as_str().into())
        .with_headers(table);
    match work.reply_to.as_deref().map(ShortString::try_new) {
        Some(Ok(queue)) => properties.with_reply_to(queue),
        _ => properties,
    }
}

fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(s) => Some(String::from_utf8_lossy(s.as_bytes()).into_owned()),
        AMQPValue::ShortString(s) => Some(s.as_str().to_owned()),
        AMQPValue::Boolean(b) => Some(b.to_string()),
        _ => as_int(value).map(|n| n.to_string()),
    }
}

fn as_int(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::Timestamp(n) => i64::try_from(*n).ok(),
        AMQPValue::LongString(s) => std::str::from_utf8(s.as_bytes()).ok()?.trim().parse().ok(),
        _ => None,
    }
}

/// Reads a message back; whatever is missing or unreadable, because a person, another tool or another release
/// published it, gets the most careful reading.
pub(crate) fn work(route: &Route, properties: &BasicProperties, body: Bytes, now_ms: i64) -> Work {
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty).inner();
    let get = |name: &str| headers.get(name);
    let text = |name: &str| get(name).and_then(as_text);
    let int = |name: &str| get(name).and_then(as_int);
    let mut foreign: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !KNOWN.contains(name) && !name.starts_with("x-"))
        .filter_map(|(name, value)| Some((name.to_owned(), as_text(value)?)))
        .collect();
    let mut record = |name: &str| -> Option<Box<FailureRecord>> {
        let json = text(name)?;
        match serde_json::from_str(&json) {
            Ok(record) => Some(Box::new(record)),
            Err(_) => {
                // A newer release's record is not ours to lose.
                foreign.push((name.to_owned(), json));
                None
            }
        }
    };
    let (first_failure, last_failure) = (record(FIRST_FAILURE), record(LAST_FAILURE));
    let id = properties.message_id().as_ref().map_or_else(
        || WorkId::new(format!("body-{:016x}", fingerprint(&body))),
        |id| WorkId::new(id.as_str()),
    );
    let number = text(KEY).unwrap_or_else(|| id.as_str().to_owned());
    let ours = get(STAGE).is_some();
    let mut work = Work::new(
        id,
        route.stage,
        text(SCHEME).unwrap_or_else(|| route.scheme.clone()),
        RecordKey::new(text(DOCUMENT).unwrap_or_else(|| "unknown".to_owned()), number),
        body,
    );
    work.source_number = text(SOURCE_NUMBER);
    work.write_key = text(WRITE_KEY);
    work.attempt = int(ATTEMPT).and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
    work.origin = text(ORIGIN).map_or(Origin::Replay, |o| Origin::parse(&o));
    let is_set = |name: &str| get(name).is_some_and(|v| as_text(v).as_deref() != Some("false"));
    work.verify = !ours || is_set(VERIFY);
    work.cancelled = is_set(CANCELLED);
    work.modified_ms = int(MODIFIED);
    work.extracted_ms = int(EXTRACTED);
    work.unclear_since_ms = get(UNCLEAR_SINCE).map(|value| as_int(value).unwrap_or(now_ms));
    work.reply_to = properties.reply_to().as_ref().map(|queue| queue.as_str().to_owned());
    work.traceparent = text(TRACEPARENT);
    work.tracestate = text(TRACESTATE);
    work.first_failure = first_failure;
    work.last_failure = last_failure;
    work.headers = foreign;
    work
}

/// How often the broker has delivered a message that nobody settled.
pub(crate) fn delivery_count(properties: &BasicProperties) -> u64 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|h| h.inner().get(DELIVERY_COUNT)).and_then(as_int);
    count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// When a message came into its queue, in milliseconds since the epoch: when it was published, or when the broker moved it
/// there from a retry tier. Both are told in whole seconds, by the publisher's clock and the broker's. Nothing when somebody
/// published it without a time.
pub(crate) fn queued_ms(properties: &BasicProperties) -> Option<i64> {
    let published = properties.timestamp().and_then(|at| i64::try_from(at).ok());
    published.max(moved(properties)).filter(|at| *at > 0)?.checked_mul(1_000)
}

/// When the broker last moved a message to another queue. A copy that we publish carries nothing of earlier moves.
fn moved(properties: &BasicProperties) -> Option<i64> {
    let headers = properties.headers().as_ref()?.inner();
    let AMQPValue::FieldArray(moves) = headers.get("x-death")? else { return None };
    let times = moves.as_slice().iter().filter_map(|one| match one {
        AMQPValue::FieldTable(one) => one.inner().get("time").and_then(as_int),
        _ => None,
    });
    times.max()
}

/// Why the broker itself dead-lettered a message, if it did: `delivery_limit`, `rejected`, `expired` or `maxlen`.
pub(crate) fn broker_reason(properties: &BasicProperties) -> Option<String> {
    let headers = properties.headers().as_ref()?.inner();
    headers.get("x-last-death-reason").or_else(|| headers.get("x-first-death-reason")).and_then(as_text)
}

fn fingerprint(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The stage and scheme of a queue name, `transform.purchase-stockin` or `load.x.dead` alike.
pub(crate) fn route_of(queue: &str) -> Option<Route> {
    let mut parts = queue.split('.');
    let stage = StageName::parse(parts.next()?)?;
    Some(Route::new(stage, parts.next()?))
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureKind};

    use super::*;

    fn sample() -> Work {
        let mut work = Work::new(
            WorkId::new("id-1"),
            StageName::Load,
            "purchase-stockin",
            RecordKey::new("STK_InStock", "RK采购1"),
            &b"{\"a\":1}"[..],
        );
        work.write_key = Some("CG1".into());
        work.attempt = 3;
        work.origin = Origin::Backfill;
        work.verify = true;
        work.cancelled = true;
        work.modified_ms = Some(1_700_000_000_000);
        work.unclear_since_ms = Some(1_700_000_000_001);
        work.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
        work.tracestate = Some("vendor=1".into());
        work.reply_to = Some("replay.1".into());
        work.headers = vec![("ticket".into(), "T-1".into())];
        let record = FailureRecord::of(&Failure::new(FailureKind::Transient, "冲突"), &work, 5, "w/1");
        work.first_failure = Some(Box::new(record.clone()));
        work.last_failure = Some(Box::new(record));
        work
    }

    #[test]
    fn work_survives_the_wire() {
        let work = sample();
        let properties = properties(&work, "load.x", &"kingpost-test/1".into(), 1);
        let route = Route::new(StageName::Load, "purchase-stockin");
        assert_eq!(super::work(&route, &properties, work.body.clone(), 9), work);
        assert_eq!(properties.delivery_mode(), &Some(2));
    }

    #[test]
    fn the_brokers_own_headers_are_never_sent_back() {
        let mut work = sample();
        let mut table = FieldTable::default();
        insert_text(&mut table, "x-death", "junk");
        insert_text(&mut table, "ticket", "T-1");
        let properties = BasicProperties::default().with_headers(table);
        work = super::work(&Route::new(StageName::Load, "s"), &properties, work.body, 9);
        assert_eq!(work.headers, [("ticket".to_owned(), "T-1".to_owned())]);
    }

    #[test]
    fn a_message_came_into_its_queue_with_its_publish_or_its_return_from_a_tier() {
        let published = BasicProperties::default().with_timestamp(1_700_000_000);
        assert_eq!(queued_ms(&published), Some(1_700_000_000_000));
        assert_eq!(queued_ms(&BasicProperties::default()), None);
        assert_eq!(queued_ms(&BasicProperties::default().with_timestamp(u64::MAX)), None);
        let death = |at: u64| {
            let mut one = FieldTable::default();
            insert_text(&mut one, "queue", "wait.30s");
            insert(&mut one, "time", AMQPValue::Timestamp(at));
            AMQPValue::FieldTable(one)
        };
        let deaths = vec![death(1_700_000_030), death(1_600_000_000)];
        let mut table = FieldTable::default();
        insert(&mut table, "x-death", AMQPValue::FieldArray(deaths.into()));
        assert_eq!(queued_ms(&published.with_headers(table)), Some(1_700_000_030_000));
    }

    #[test]
    fn a_message_published_by_hand_is_looked_up_before_it_is_posted() {
        let route = Route::new(StageName::Load, "s");
        let work = super::work(&route, &BasicProperties::default(), Bytes::from_static(b"{}"), 9);
        assert!(work.verify);
        assert_eq!(work.origin, Origin::Replay);
        assert_eq!(work.attempt, 1);
        assert_eq!(work.scheme, "s");
    }

    #[test]
    fn what_another_release_or_tool_wrote_is_kept_and_read_with_care() {
        let route = Route::new(StageName::Load, "s");
        let mut table = FieldTable::default();
        for (name, value) in [
            (STAGE, "load"),
            (VERIFY, "true"),
            (UNCLEAR_SINCE, "yesterday"),
            ("kingpost-fence", "7"),
            (LAST_FAILURE, "{\"kind\":\"of-a-newer-release\"}"),
        ] {
            insert_text(&mut table, name, value);
        }
        let properties = BasicProperties::default().with_headers(table);
        let work = super::work(&route, &properties, Bytes::from_static(b"{}"), 9);
        assert!(work.verify, "a text is as good as a truth value");
        assert_eq!((work.origin, work.unclear_since_ms), (Origin::Replay, Some(9)));
        let back = super::properties(&work, "load.x", &"t".into(), 1);
        let headers = back.headers().clone().unwrap_or_default();
        for name in ["kingpost-fence", LAST_FAILURE] {
            assert!(headers.inner().contains_key(name), "{name} was lost");
        }
    }

    #[test]
    fn a_record_of_a_newer_release_is_carried_on_whole() {
        let route = Route::new(StageName::Load, "s");
        let record = format!("{{\"kind\":\"of-a-newer-release\",\"text\":\"{}\"}}", "物".repeat(400));
        let mut table = FieldTable::default();
        insert(&mut table, FIRST_FAILURE, AMQPValue::LongString(LongString::from(record.as_str())));
        let read = super::work(&route, &BasicProperties::default().with_headers(table), Bytes::new(), 9);
        let again = super::properties(&read, "load.s", &ShortString::default(), 1);
        let headers = again.headers().as_ref().unwrap();
        assert_eq!(headers.inner().get(FIRST_FAILURE).and_then(as_text), Some(record));
    }

    #[test]
    fn a_failure_of_nothing_but_escapes_still_fits_its_header() {
        let mut work = sample();
        let problem = kingpost_model::FieldProblem { message: "\u{1}".repeat(900), ..Default::default() };
        let failure =
            Failure::new(FailureKind::Refused, "\u{2}".repeat(900)).with_problems(vec![problem; 50]);
        let record = FailureRecord::of(&failure, &work, 5, "w/1");
        work.last_failure = Some(Box::new(record));
        let properties = properties(&work, "load.x", &"t".into(), 1);
        let headers = properties.headers().clone().unwrap_or_default();
        let json = headers.inner().get(LAST_FAILURE).and_then(as_text).unwrap();
        assert!(json.len() <= RECORD_BYTES_MAX && json.contains("refused"), "{} bytes", json.len());
    }

    #[test]
    fn a_queue_name_tells_its_stage_and_scheme() {
        assert_eq!(
            route_of("load.purchase-stockin.dead"),
            Some(Route::new(StageName::Load, "purchase-stockin"))
        );
        assert_eq!(route_of("wait.5s"), None);
    }
}
