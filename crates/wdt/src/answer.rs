//! From the bytes of an answer to a page of rows or a classified error, by one fixed procedure.

use bytes::Bytes;
use jiff::Timestamp;
use kingpost_outbound::Response;
use serde_json::value::RawValue;

use crate::classify::{classify, is_business_code};
use crate::config::Transport;
use crate::error::{Class, Origin, WdtError};
use crate::json::{self, Kind};
use crate::methods::Method;
use crate::values;

/// One page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order sent. A page behind the last one is empty.
    pub rows: Vec<Row>,
    /// Number of documents in the whole window, where the answer tells it.
    pub total: Option<u64>,
    /// The gateway's own clock when it answered (HTTP's `Date`), to the second.
    pub server_time: Option<Timestamp>,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The document, byte for byte as sent: a slice of the answer, not a copy, unless the answer wrapped it in text.
    pub body: Bytes,
    /// Value of the method's key member (`order_no` for a method that is in no table), untrimmed; `None` when it is
    /// missing or blank, or the row is no object.
    pub key: Option<String>,
    /// Time of the last change, where the row carries it.
    pub modified: Option<Timestamp>,
}

impl Row {
    /// One document of a method, as it would stand in an answer. `None` when the text is no JSON object.
    #[must_use]
    pub fn of(method: &str, body: Bytes) -> Option<Row> {
        let [] = json::pick(str_of(&body), [])?;
        Some(row(key(Method::find(method)), body))
    }

    /// The characters of a text, number or truth value among the row's own members.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let [value] = json::pick(str_of(&self.body), [name])?;
        Some(values::text(value?)?.into_owned())
    }

    /// The row's lines, under either of WDT's two names (`details_list`, `detail_list`), also when they come as JSON
    /// text, in a wrapper, or as a single object. `None` when there is no such list or it can't be read.
    #[must_use]
    pub fn lines(&self) -> Option<Vec<Bytes>> {
        let [details, detail] = json::pick(str_of(&self.body), ["details_list", "detail_list"])?;
        list(&slice(&self.body, details.or(detail)?), 0)
    }
}

/// Names under which a list of rows is known to come.
const LIST_KEYS: [&str; 4] = ["order", "order_list", "pd_list", "pd_detail_list"];

/// Wrappers around wrappers that are still looked into.
const DEEPEST_WRAPPER: usize = 4;

pub(crate) fn read(
    transport: Transport,
    method: Option<&Method>,
    answer: &Response,
) -> Result<Page, WdtError> {
    let body = whole(answer)?;
    let text = str_of(body);
    let Some(members) = json::members(text) else {
        return Err(unknown("the answer is JSON, but no object".to_owned()));
    };
    if let Some((_, failure)) =
        members.iter().find(|(name, value)| name == "error_response" && is_object(value))
    {
        return Err(Said::read(failure.get()).gateway());
    }
    let inner = match members.as_slice() {
        [(_, only)] if is_object(only) => only.get(),
        _ => text,
    };
    let said = Said::read(inner);
    if said.flag.as_deref().is_some_and(|flag| flag.trim().eq_ignore_ascii_case("failure")) {
        return Err(said.gateway());
    }
    match said.status.as_deref().map(str::trim) {
        Some("0") => page(method, body, said.data.map_or(Bare::No, Bare::Data)),
        Some(_) => Err(said.business()),
        None if said.code.is_some() || said.has_words() => {
            let gateways = said.sub_code.is_some()
                || (transport == Transport::Qimen && !said.code.as_deref().is_none_or(is_business_code));
            Err(if gateways { said.gateway() } else { said.business() })
        }
        // One page of the vendor's reference shows rows without status and data.
        None if json::pick(inner, LIST_KEYS)
            .is_some_and(|lists| lists.iter().flatten().any(|list| is_array(list))) =>
        {
            page(method, body, Bare::Data(inner))
        }
        None => Err(unknown("the answer has neither status nor code nor message".to_owned())),
    }
}

/// Step one: a whole answer with a good status and JSON in it.
fn whole(answer: &Response) -> Result<&Bytes, WdtError> {
    let status = answer.status;
    if status == 429 {
        let seconds = answer.header("retry-after").and_then(|text| text.trim().parse::<u32>().ok());
        let wait = seconds.map(|seconds| std::time::Duration::from_secs(u64::from(seconds) + 1));
        let text = "http status 429, too many requests".to_owned();
        let error = WdtError::http(Some(status.to_string()), text, "wait, then call again; call less often");
        return Err(WdtError { class: Class::Throttled { wait }, ..error });
    }
    if !(200..300).contains(&status) {
        let advice = match status {
            300..=499 => "check the address of the gateway and what stands between it and this machine",
            _ => "the gateway or what stands before it is in trouble: try again after a pause",
        };
        return Err(WdtError::http(Some(status.to_string()), format!("http status {status}"), advice));
    }
    let is_json =
        std::str::from_utf8(&answer.body).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    if !is_json {
        let kind = answer.header("content-type").unwrap_or("unknown");
        let text = format!("no JSON in the answer ({} bytes, content type {kind})", answer.body.len());
        let advice =
            "an error page of a proxy or of the gateway: try again after a pause, then check the address";
        return Err(WdtError::http(Some(status.to_string()), text, advice));
    }
    Ok(&answer.body)
}

/// What stands where the rows should be.
enum Bare<'a> {
    No,
    Data(&'a str),
}

fn page(method: Option<&Method>, body: &Bytes, data: Bare<'_>) -> Result<Page, WdtError> {
    let Bare::Data(data) = data else { return Ok(Page { rows: Vec::new(), total: None, server_time: None }) };
    let mut data = body.slice_ref(data.as_bytes());
    if json::kind(str_of(&data)) == Kind::Text {
        data = unquoted(&data).unwrap_or_default();
    }
    if json::kind(str_of(&data)) == Kind::Array {
        return rows(method, &data, None);
    }
    let Some(members) = json::members(str_of(&data)) else {
        return if str_of(&data).trim().is_empty() {
            Ok(Page { rows: Vec::new(), total: None, server_time: None })
        } else {
            Err(WdtError::malformed("data is neither an object nor a list".to_owned()))
        };
    };
    let counted = members.iter().find(|(name, _)| name == "total_count").map(|(_, value)| *value);
    let total = counted.and_then(|value| values::count(&values::text(value)?));
    match find_list(method, &members, total)? {
        Some(list) => rows(method, &slice(&data, list), total),
        None if total == Some(0) || counted.is_none_or(|value| value.get() == r#""""#) => {
            Ok(Page { rows: Vec::new(), total, server_time: None })
        }
        None => {
            let count = counted.map_or("absent", RawValue::get);
            let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
            Err(WdtError::malformed(format!(
                "total_count is {count}, but data has no list, only {}",
                names.join(", ")
            )))
        }
    }
}

/// The list by its known names, else the only array: taking an unknown list for no rows would lose documents. Where
/// nothing is counted there is no list to look for, and another array is something else.
fn find_list<'a>(
    method: Option<&Method>,
    members: &[(String, &'a RawValue)],
    total: Option<u64>,
) -> Result<Option<&'a RawValue>, WdtError> {
    let known = method.map(|method| method.list_key).into_iter().chain(LIST_KEYS);
    let mut by_name =
        known.filter_map(|key| members.iter().find(|(name, value)| name == key && value.get() != r#""""#));
    if let Some((_, list)) = by_name.next() {
        return Ok(Some(list));
    }
    if total == Some(0) {
        return Ok(None);
    }
    let arrays: Vec<_> = members.iter().filter(|(_, value)| is_array(value)).collect();
    match arrays.as_slice() {
        [] => Ok(None),
        [(_, list)] => Ok(Some(list)),
        _ => {
            let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
            Err(WdtError::malformed(format!("data has several lists and no known one: {}", names.join(", "))))
        }
    }
}

fn rows(method: Option<&Method>, raw: &Bytes, total: Option<u64>) -> Result<Page, WdtError> {
    let Some(bodies) = list(raw, 0) else {
        return Err(WdtError::malformed("the list of rows is neither an array nor an object".to_owned()));
    };
    let key = key(method);
    let rows = bodies.into_iter().map(|body| row(key, body)).collect();
    Ok(Page { rows, total, server_time: None })
}

fn key(method: Option<&Method>) -> &'static str {
    method.map_or("order_no", |method| method.key)
}

fn row(key: &str, body: Bytes) -> Row {
    let [key, modified, modified_date] =
        json::pick(str_of(&body), [key, "modified", "modified_date"]).unwrap_or_default();
    let key = key.and_then(values::text).filter(|text| !text.trim().is_empty()).map(Into::into);
    let time = |value: Option<&RawValue>| values::flexible_time(&values::text(value?)?);
    let modified = time(modified).or_else(|| time(modified_date));
    Row { key, modified, body }
}

/// The elements of a list that may be an array, JSON text of one, a single element, or any of these in a wrapper with
/// one member, as classic answers of the Taobao platform have it.
fn list(raw: &Bytes, depth: usize) -> Option<Vec<Bytes>> {
    if depth > DEEPEST_WRAPPER {
        return None;
    }
    let text = str_of(raw);
    match json::kind(text) {
        Kind::Array => Some(
            json::elements(text)?.into_iter().map(|element| object_in_text(slice(raw, element))).collect(),
        ),
        Kind::Text => {
            let inner = unquoted(raw)?;
            if str_of(&inner).trim().is_empty() { Some(Vec::new()) } else { list(&inner, depth + 1) }
        }
        Kind::Object => match json::members(text)?.as_slice() {
            [] => Some(Vec::new()),
            [(_, only)] if holds_json(only) => list(&slice(raw, only), depth + 1),
            _ => Some(vec![raw.clone()]),
        },
        Kind::Plain => None,
    }
}

/// An element that is the JSON text of an object, decoded; any other as it is.
fn object_in_text(element: Bytes) -> Bytes {
    match json::kind(str_of(&element)) {
        Kind::Text => {
            unquoted(&element).filter(|inner| json::members(str_of(inner)).is_some()).unwrap_or(element)
        }
        _ => element,
    }
}

fn holds_json(value: &RawValue) -> bool {
    is_array(value)
        || is_object(value)
        || values::text(value)
            .is_some_and(|text| matches!(json::kind(text.trim()), Kind::Array | Kind::Object))
}

fn unquoted(raw: &Bytes) -> Option<Bytes> {
    let text: String = serde_json::from_slice(raw).ok()?;
    Some(Bytes::from(text.trim().to_owned()))
}

fn slice(whole: &Bytes, part: &RawValue) -> Bytes {
    whole.slice_ref(part.get().as_bytes())
}

/// Every slice begins as part of a body that was checked to be UTF-8.
fn str_of(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn is_object(value: &RawValue) -> bool {
    json::kind(value.get()) == Kind::Object
}

fn is_array(value: &RawValue) -> bool {
    json::kind(value.get()) == Kind::Array
}

fn unknown(text: String) -> WdtError {
    let advice = "try again after a pause; when it stays, look at the answer with another tool";
    WdtError { class: Class::Retryable, origin: Origin::Business, code: None, sub_code: None, text, advice }
}

/// What an envelope says about how the call went, under any of its spellings.
struct Said<'a> {
    flag: Option<String>,
    status: Option<String>,
    code: Option<String>,
    sub_code: Option<String>,
    message: Option<String>,
    sub_message: Option<String>,
    request_id: Option<String>,
    data: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(object: &'a str) -> Self {
        let [flag, status, code, sub_code, message, msg, sub_message, sub_msg, request_id, data] =
            json::pick(
                object,
                [
                    "flag",
                    "status",
                    "code",
                    "sub_code",
                    "message",
                    "msg",
                    "sub_message",
                    "sub_msg",
                    "request_id",
                    "data",
                ],
            )
            .unwrap_or_default();
        let word = |value: Option<&RawValue>| {
            Some(values::text(value?)?.into_owned()).filter(|text| !text.trim().is_empty())
        };
        Self {
            flag: word(flag),
            status: word(status),
            code: word(code),
            sub_code: word(sub_code),
            message: word(message).or_else(|| word(msg)),
            sub_message: word(sub_message).or_else(|| word(sub_msg)),
            request_id: word(request_id),
            data: data.map(RawValue::get),
        }
    }

    fn has_words(&self) -> bool {
        self.message.is_some() || self.sub_message.is_some()
    }

    fn gateway(self) -> WdtError {
        let code = self.code.clone();
        self.failure(Origin::Gateway, code)
    }

    fn business(self) -> WdtError {
        let code = self.status.clone().or_else(|| self.code.clone());
        self.failure(Origin::Business, code)
    }

    fn failure(self, origin: Origin, code: Option<String>) -> WdtError {
        let mut text = self.message.unwrap_or_default();
        if let Some(more) = self.sub_message.filter(|more| !text.contains(more.as_str())) {
            text = if text.is_empty() { more } else { format!("{text}; {more}") };
        }
        let (class, advice) = classify(origin, code.as_deref(), self.sub_code.as_deref(), &text);
        if let Some(id) = self.request_id {
            text = format!("{text} [request {id}]");
        }
        WdtError { class, origin, code, sub_code: self.sub_code, text: text.trim_start().to_owned(), advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Response {
        Response { status: 200, date: None, headers: Vec::new(), body: Bytes::from(body.to_owned()) }
    }

    #[test]
    fn a_row_is_a_slice_of_the_answer_and_not_a_copy() {
        let answer = answer(
            r#"{"response":{"status":0,"data":{"order":[{"order_no":"A","n":1.50}, {"order_no":"B"}]}}}"#,
        );
        let page = read(Transport::Qimen, None, &answer).unwrap();
        let whole = answer.body.as_ptr_range();
        for row in &page.rows {
            assert!(whole.contains(&row.body.as_ptr()));
        }
        assert_eq!(page.rows[0].body, r#"{"order_no":"A","n":1.50}"#);
        assert_eq!(page.rows[1].body, r#"{"order_no":"B"}"#);
    }

    #[test]
    fn a_pushed_document_is_read_like_a_row_of_an_answer() {
        let body = r#"{"order_no":"RK1","modified":"2026-01-01 08:00:00","n":1.50}"#;
        let pushed = Row::of("wdt.wms.stockin.purchase.querywithdetail", Bytes::from(body)).unwrap();
        let answer = answer(&format!(r#"{{"status":0,"data":{{"order":[{body}]}}}}"#));
        assert_eq!(pushed, read(Transport::Direct, None, &answer).unwrap().rows[0]);
        for text in ["[]", "1", "", r#"{"order_no":"#, "{} {}"] {
            assert_eq!(Row::of("x", Bytes::from(text)), None, "{text}");
        }
    }

    #[test]
    fn lines_are_found_under_both_names_and_in_every_wrapping() {
        for member in [
            r#""details_list":[{"a":1},{"a":2}]"#,
            r#""detail_list":[{"a":1},{"a":2}]"#,
            r#""details_list":"[{\"a\":1},{\"a\":2}]""#,
            r#""details_list":null,"detail_list":{"detail":[{"a":1},{"a":2}]}"#,
            r#""details_list":["{\"a\":1}",{"a":2}]"#,
        ] {
            let row = row("order_no", Bytes::from(format!(r#"{{"order_no":1,{member}}}"#)));
            assert_eq!(row.lines().unwrap(), [r#"{"a":1}"#, r#"{"a":2}"#], "{member}");
        }
        assert_eq!(row("order_no", Bytes::from("{}")).lines(), None);
        assert_eq!(row("order_no", Bytes::from(r#"{"detail_list":""}"#)).lines(), Some(Vec::new()));
    }

    #[test]
    fn wrappers_without_end_are_refused() {
        let nested = format!("{}1{}", r#"{"order":"#.repeat(50), "}".repeat(50));
        let answer = answer(&format!(r#"{{"status":0,"data":{nested}}}"#));
        assert_eq!(read(Transport::Direct, None, &answer).unwrap_err().class, Class::Malformed);
    }
}
