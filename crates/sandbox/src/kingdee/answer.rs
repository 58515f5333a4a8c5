//! Kingdee's answer shapes.

use crate::http::Reply;
use crate::json::Json;

/// One entry of `Errors`, with the MsgCode it brings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) field: Option<String>,
    pub(crate) message: String,
    pub(crate) msg_code: i64,
}

impl Problem {
    /// A problem of the whole call or document.
    pub(crate) fn whole(msg_code: i64, message: impl Into<String>) -> Problem {
        Problem { field: None, message: message.into(), msg_code }
    }

    /// A validation problem of one field, MsgCode 11.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Problem {
        Problem { field: Some(field.to_owned()), message: message.into(), msg_code: 11 }
    }

    /// A few words for the ledger.
    pub(crate) fn note(&self) -> String {
        format!("MsgCode {} {}", self.msg_code, self.message)
    }
}

/// What became of the documents of one call, in their order: id and number, or the problems.
pub(crate) type Results = Vec<Result<(i64, String), Vec<Problem>>>;

/// The answer of Save, BatchSave, Submit, Audit and their kind, and its note.
/// `extra` goes beside `ResponseStatus`.
pub(crate) fn results(results: &Results, extra: Vec<(&str, Json)>) -> (Reply, String) {
    let mut succeeded = Vec::new();
    let mut errors = Vec::new();
    let mut msg_code = 0;
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok((fid, number)) => succeeded.push(Json::object([
                // The real one is as undecided: an id is a number here and text there.
                ("Id", if index % 2 == 0 { Json::from(*fid) } else { fid.to_string().into() }),
                ("Number", number.as_str().into()),
                ("DIndex", index.into()),
            ])),
            Err(problems) => {
                msg_code = problems.first().map_or(msg_code, |first| first.msg_code);
                errors.extend(problems.iter().map(|problem| error(problem, index)));
            }
        }
    }
    let (good, bad) = (succeeded.len(), results.len() - succeeded.len());
    let mut body = vec![("ResponseStatus", status(errors, succeeded, msg_code))];
    body.extend(extra);
    let note = if bad == 0 {
        "ok".to_owned()
    } else {
        let first = results.iter().find_map(|result| result.as_ref().err()?.first());
        let first = first.map(|problem| problem.message.as_str()).unwrap_or_default();
        format!("{good} succeeded, {bad} refused: {first}")
    };
    (Reply::json(Json::object([("Result", Json::object(body))])), note)
}

/// A refusal of a whole call; queries wrap it in two arrays.
pub(crate) fn refusal(operation: &str, problem: &Problem) -> Reply {
    let status = status(vec![error(problem, 0)], Vec::new(), problem.msg_code);
    let body = Json::object([("Result", Json::object([("ResponseStatus", status)]))]);
    match operation.to_ascii_lowercase().as_str() {
        "executebillquery" | "billquery" => Reply::json(Json::Array(vec![Json::Array(vec![body])])),
        _ => Reply::json(body),
    }
}

/// A server exception: HTTP 200 and a prefix instead of JSON.
pub(crate) fn exception(message: &str) -> Reply {
    let inner = Json::object([("Message", message.into())]);
    let body = Json::object([
        ("Message", message.into()),
        ("InnerExWrapper", inner),
        ("InnerException", Json::Null),
    ]);
    Reply::json(format!("response_error:{body}"))
}

/// The page a browser would see instead of an answer.
pub(crate) fn login_page() -> Reply {
    Reply::html(
        200,
        "<!DOCTYPE html><html><head><title>金蝶云星空 登录</title></head><body><form>请登录</form></body></html>",
    )
}

/// `ResponseStatus` of a success without documents.
pub(crate) fn plain_success() -> Json {
    status(Vec::new(), Vec::new(), 0)
}

fn status(errors: Vec<Json>, succeeded: Vec<Json>, msg_code: i64) -> Json {
    let mut pairs = Vec::new();
    if !errors.is_empty() {
        pairs.push(("ErrorCode", Json::from(500_i64)));
    }
    pairs.extend([
        ("IsSuccess", errors.is_empty().into()),
        ("Errors", Json::Array(errors)),
        ("SuccessEntitys", Json::Array(succeeded)),
        ("SuccessMessages", Json::Array(Vec::new())),
        ("MsgCode", msg_code.into()),
    ]);
    Json::object(pairs)
}

fn error(problem: &Problem, index: usize) -> Json {
    Json::object([
        ("FieldName", problem.field.clone().into()),
        ("Message", problem.message.as_str().into()),
        ("DIndex", index.into()),
    ])
}
