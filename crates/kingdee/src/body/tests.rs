use super::*;

const GOOD: &str = r#"{"Result":{"ResponseStatus":{"IsSuccess":true,"Errors":[],"SuccessEntitys":[{"Id":102493,"Number":"RK17","DIndex":0}],"SuccessMessages":[],"MsgCode":0},"NeedReturnData":[{"FBillNo":"RK17"}]}}"#;
const LOST: &str = r#"{"Result":{"ResponseStatus":{"ErrorCode":500,"IsSuccess":false,"Errors":[{"FieldName":null,"Message":"会话信息已丢失，请重新登录","DIndex":0}],"SuccessEntitys":[],"SuccessMessages":[],"MsgCode":1}}}"#;

fn status(body: &str) -> SaveAnswer {
    match decode(200, body.as_bytes()) {
        Ok(Answer::Status { answer, .. }) => answer,
        other => panic!("{body}: {other:?}"),
    }
}

fn rows(body: &str) -> Vec<Vec<String>> {
    match decode(200, body.as_bytes()) {
        Ok(Answer::Rows(rows)) => {
            rows.iter().map(|row| row.iter().map(|cell| cell.raw().to_owned()).collect()).collect()
        }
        other => panic!("{body}: {other:?}"),
    }
}

fn fault(code: u16, body: &[u8]) -> BodyFault {
    decode(code, body).expect_err("a body that decides nothing")
}

fn unknown(code: u16, body: &str) -> (UnknownCause, String) {
    match fault(code, body.as_bytes()) {
        BodyFault::Unknown(cause, text) => (cause, text),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn any_status_but_200_and_206_is_unknown_even_with_a_good_body() {
    for code in [400, 403, 404, 500, 502, 503, 504] {
        assert_eq!(unknown(code, GOOD).0, UnknownCause::Status(code));
    }
    assert!(unknown(502, "<html><body>Bad Gateway</body></html>").1.contains("Bad Gateway"));
    assert!(matches!(decode(206, GOOD.as_bytes()), Ok(Answer::Status { .. })));
}

#[test]
fn status_401_and_a_redirect_are_a_lost_session() {
    for (status, body, words) in [(401, "denied", "denied"), (302, "", "302")] {
        let BodyFault::Session { answered: false, text } = fault(status, body.as_bytes()) else {
            panic!("{status}")
        };
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn an_exception_as_text_is_unknown_with_its_messages() {
    let said = r#"response_error:{"Message":"外层","InnerExWrapper":{"Message":"死锁牺牲品","InnerExWrapper":null},"InnerException":null}"#;
    assert_eq!(unknown(200, said), (UnknownCause::ResponseError, "外层: 死锁牺牲品".to_owned()));
    let quoted = serde_json::to_string(said).unwrap();
    assert_eq!(unknown(200, &quoted), (UnknownCause::ResponseError, "外层: 死锁牺牲品".to_owned()));
    assert_eq!(unknown(200, "response_error: reason"), (UnknownCause::ResponseError, "reason".to_owned()));
    let before = r#"response_error:at once {"Message":"later"}"#;
    assert_eq!(unknown(200, before).1, "later");
    assert_eq!(unknown(200, r#"response_error:{"Message":12}"#).1, r#"{"Message":12}"#);
}

#[test]
fn an_exception_that_speaks_of_the_session_is_a_lost_session() {
    let body = r#"response_error:{"Message":"会话信息已丢失，请重新登录"}"#;
    assert!(matches!(fault(200, body.as_bytes()), BodyFault::Session { answered: true, .. }));
}

#[test]
fn a_page_is_unknown_unless_it_is_the_login_page() {
    assert_eq!(unknown(200, "  <html><title>维护中</title></html>").0, UnknownCause::Html);
    let login = r#"<html><form action="/k3cloud/html5/login.aspx"></form></html>"#;
    assert!(matches!(fault(200, login.as_bytes()), BodyFault::Session { answered: false, .. }));
}

#[test]
fn a_normal_answer_gives_its_documents_and_return_data() {
    let Ok(Answer::Status { answer, return_data, result }) = decode(200, GOOD.as_bytes()) else {
        panic!("no status")
    };
    assert!(answer.is_success && answer.errors.is_empty() && result.is_none());
    assert_eq!(answer.msg_code, Some(0));
    assert_eq!(
        (answer.successes[0].id.as_str(), answer.successes[0].number.as_str(), answer.successes[0].index),
        ("102493", "RK17", Some(0))
    );
    assert_eq!(return_data.unwrap().get(), r#"[{"FBillNo":"RK17"}]"#);
    assert_eq!(status(&format!("\u{feff} {GOOD}\r\n")), answer);
}

#[test]
fn a_refused_query_is_found_inside_its_arrays() {
    for body in [format!("[[{LOST}]]"), format!("[{LOST}]"), format!("[[[{LOST}]]]"), LOST.to_owned()] {
        let answer = status(&body);
        assert!(!answer.is_success);
        assert_eq!(answer.msg_code, Some(1));
        assert_eq!(answer.errors[0].message, "会话信息已丢失，请重新登录");
        assert_eq!(answer.errors[0].field, None);
    }
}

#[test]
fn rows_keep_every_digit_and_none_is_no_row() {
    assert_eq!(
        rows(r#"[[102493,"RK17",1.130000000000000000001,null,true]]"#),
        [["102493", "\"RK17\"", "1.130000000000000000001", "null", "true"]]
    );
    assert!(rows("[]").is_empty());
    assert!(rows(" [ ] ").is_empty());
}

#[test]
fn json_inside_a_json_string_is_decoded_twice_at_most() {
    let once = serde_json::to_string(GOOD).unwrap();
    let twice = serde_json::to_string(&once).unwrap();
    let thrice = serde_json::to_string(&twice).unwrap();
    assert!(status(&once).is_success && status(&twice).is_success);
    assert!(matches!(fault(200, thrice.as_bytes()), BodyFault::Unexpected(_)));
    assert_eq!(rows(&serde_json::to_string("[[1]]").unwrap()), [["1"]]);
    assert_eq!(unknown(200, r#""<html>x</html>""#).0, UnknownCause::Html);
    assert_eq!(unknown(200, r#""""#).0, UnknownCause::Empty);
}

#[test]
fn nothing_null_and_half_json_are_unknown() {
    for body in ["", " \r\n", "null", "\u{feff}"] {
        assert_eq!(unknown(200, body).0, UnknownCause::Empty, "{body:?}");
    }
    for end in (1..GOOD.len()).filter(|end| GOOD.is_char_boundary(*end)) {
        assert_eq!(unknown(200, &GOOD[..end]).0, UnknownCause::NotJson, "{}", &GOOD[..end]);
    }
    assert_eq!(unknown(200, &format!("{GOOD}{GOOD}")).0, UnknownCause::NotJson);
    assert_eq!(unknown(200, "OK").0, UnknownCause::NotJson);
    assert!(matches!(fault(200, b"{\"Result\":\xff}"), BodyFault::Unknown(UnknownCause::NotJson, _)));
}

#[test]
fn an_answer_without_successes_or_with_the_status_on_top_is_read() {
    let bare = status(r#"{"Result":{"ResponseStatus":{"IsSuccess":false,"MsgCode":7}},"Other":{"x":[1]}}"#);
    assert_eq!((bare.is_success, bare.msg_code), (false, Some(7)));
    let top = status(r#"{"ResponseStatus":{"IsSuccess":true,"SuccessEntitys":[{"Id":"7","Number":"A"}]}}"#);
    assert_eq!((top.successes[0].id.as_str(), top.successes[0].index), ("7", None));
    let beside = status(r#"{"Result":{"Id":1},"ResponseStatus":{"IsSuccess":true}}"#);
    assert!(beside.is_success);
}

#[test]
fn types_that_differ_between_servers_are_all_read() {
    for (written, meant) in [
        ("true", true),
        ("\"true\"", true),
        ("\"True\"", true),
        ("1", true),
        ("false", false),
        ("\"False\"", false),
        ("null", false),
        ("\"\"", false),
        ("[]", false),
    ] {
        let body = format!(r#"{{"Result":{{"ResponseStatus":{{"IsSuccess":{written}}}}}}}"#);
        assert_eq!(status(&body).is_success, meant, "{written}");
    }
    let answer = status(
        r#"{"Result":{"ResponseStatus":{"IsSuccess":"true","MsgCode":"11","ErrorCode":"500","New":{"a":1},
        "Errors":[{"FieldName":"","Message":null,"DIndex":"3"},{"Message":"m"}],
        "SuccessEntities":[{"Id":"9007199254740993","Number":42,"DIndex":"1","Extra":null},{}]}}}"#,
    );
    assert_eq!(answer.msg_code, Some(11));
    assert_eq!(answer.errors[0], crate::FieldError { field: None, message: String::new(), index: Some(3) });
    assert_eq!(answer.errors[1].index, None);
    assert_eq!(answer.successes[0].id, "9007199254740993");
    assert_eq!((answer.successes[0].number.as_str(), answer.successes[1].id.as_str()), ("42", ""));
    let nulls = status(
        r#"{"Result":{"ResponseStatus":{"IsSuccess":true,"Errors":null,"SuccessEntitys":null,"MsgCode":null}}}"#,
    );
    assert!(nulls.errors.is_empty() && nulls.successes.is_empty() && nulls.msg_code.is_none());
}

#[test]
fn other_json_is_unexpected_and_never_a_success() {
    for body in [
        "{}",
        "true",
        "17",
        r#"{"Result":null}"#,
        r#"{"Result":{}}"#,
        r#"{"Result":{"ResponseStatus":null}}"#,
        r#"{"Message":"An error has occurred."}"#,
        "[1,2]",
        r#"[{"a":1}]"#,
        r#"{"Result":{"ResponseStatus":{"IsSuccess":true,"SuccessEntitys":"many"}}}"#,
    ] {
        assert!(matches!(fault(200, body.as_bytes()), BodyFault::Unexpected(_)), "{body}");
    }
}

#[test]
fn an_excerpt_is_one_short_line() {
    assert_eq!(excerpt("a\r\n\tb\u{0}c"), "a b c");
    assert_eq!(excerpt(" "), "(no text)");
    assert_eq!(excerpt(&"入".repeat(2000)).chars().count(), EXCERPT + 1);
}
