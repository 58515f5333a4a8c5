use std::collections::BTreeSet;

use kingpost_kingdee::{
    Catalogue, Class, FieldError, KingdeeError, Row, SaveAnswer, Unconditional, UnknownCause,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    msg_code: Option<i64>,
    field: Option<String>,
    message: String,
    class: Class,
    #[serde(default)]
    base_data: bool,
    #[serde(default)]
    unknown: bool,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../data/refusals.json")).unwrap()
}

fn error(field: Option<&str>, message: &str) -> FieldError {
    FieldError { field: field.map(str::to_owned), message: message.to_owned(), index: Some(0) }
}

#[test]
fn each_refusal_has_its_class() {
    for case in cases() {
        let errors = [error(case.field.as_deref(), &case.message)];
        let ruling = Catalogue::builtin().rule(case.msg_code, &errors);
        assert_eq!((ruling.class, ruling.base_data), (case.class, case.base_data), "{}", case.message);
        assert!(!ruling.advice.is_empty());
        let row = Catalogue::builtin().row(case.msg_code, case.field.as_deref(), &case.message);
        assert_eq!(row.is_none(), case.unknown, "{}", case.message);
    }
}

#[test]
fn each_row_is_reached_by_a_case() {
    let builtin = Catalogue::builtin();
    let reached: BTreeSet<usize> = cases()
        .iter()
        .filter_map(|case| builtin.row(case.msg_code, case.field.as_deref(), &case.message))
        .map(|(at, _)| at)
        .collect();
    let missed: Vec<_> = builtin
        .rows()
        .iter()
        .enumerate()
        .filter(|(at, _)| !reached.contains(at))
        .map(|(_, row)| row)
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn of_several_errors_the_one_that_needs_most_care_counts() {
    let busy = error(None, "冲突，请稍候再使用");
    let taken = error(Some("FBillNo"), "编码唯一。[X]在当前系统中已经被使用");
    let field = error(None, "元数据中标识为FX的字段不存在");
    let data = error(None, "字段“仓库”是必填项");
    let class = |errors: &[FieldError]| Catalogue::builtin().rule(Some(11), errors).class;
    assert_eq!(class(&[busy.clone(), data.clone()]), Class::Data);
    assert_eq!(class(&[data.clone(), field.clone()]), Class::Config);
    assert_eq!(class(&[data, field, taken, busy]), Class::Duplicate);
}

#[test]
fn without_an_error_text_the_code_decides() {
    let class = |code| Catalogue::builtin().rule(code, &[]).class;
    assert_eq!(class(Some(7)), Class::Config);
    assert_eq!(class(Some(13)), Class::Transient);
    assert_eq!(class(Some(14)), Class::Throttled);
    assert_eq!(class(None), Class::Data);
}

/// Rows as a program gives them.
fn rows(json: &str) -> Vec<Row> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_row_of_ones_own_wins_over_the_table() {
    let own = rows(
        r#"[{"texts": ["字段…是必填项"], "fields": ["F_ABCD_Base"], "class": "config", "advice": "ask the key user"}]"#,
    );
    let catalogue = Catalogue::extended(own).unwrap();
    let ruling = catalogue.rule(Some(11), &[error(Some("F_ABCD_Base"), "字段“项目”是必填项")]);
    assert_eq!((ruling.class, ruling.advice.as_str()), (Class::Config, "ask the key user"));
    assert_eq!(catalogue.rule(Some(11), &[error(None, "字段“项目”是必填项")]).class, Class::Data);
    assert_eq!(catalogue.rows().len(), Catalogue::builtin().rows().len() + 1);
}

#[test]
fn a_row_that_would_fit_everything_is_refused() {
    let some = r#"{"texts": ["x"], "class": "data", "advice": "x"}"#;
    for everything in
        [r#"{"class": "data", "advice": "x"}"#, r#"{"texts": ["…"], "class": "data", "advice": "x"}"#]
    {
        let error = Catalogue::extended(rows(&format!("[{some}, {everything}]"))).unwrap_err();
        assert_eq!(error, Unconditional { row: 2 });
        assert!(error.to_string().contains("row 2 has no condition"), "{error}");
    }
}

#[test]
fn an_exception_that_a_row_of_ones_own_knows_is_configuration() {
    let own = rows(r#"[{"texts": ["Could not load file or assembly"], "class": "config", "advice": "x"}]"#);
    let catalogue = Catalogue::extended(own).unwrap();
    let error = KingdeeError::Unknown {
        cause: UnknownCause::ResponseError,
        write: true,
        text: "Could not load file or assembly 'Example.Plugin'".to_owned(),
    };
    assert_eq!((error.class(), error.class_by(&catalogue)), (Class::Unclear, Class::Config));
}

#[test]
fn each_kind_of_missing_answer_has_its_class() {
    let text = || "x".to_owned();
    let unknown = |cause, write, text: &str| KingdeeError::Unknown { cause, write, text: text.to_owned() };
    let missing_field = "元数据中标识为FX的字段不存在";
    for (error, class, look_up_first) in [
        (KingdeeError::NotSent { timeout: false, text: text() }, Class::Transient, false),
        (unknown(UnknownCause::TimedOut, true, "x"), Class::Unclear, true),
        (unknown(UnknownCause::TimedOut, false, "x"), Class::Transient, false),
        (unknown(UnknownCause::Status(500), true, "x"), Class::Unclear, true),
        (
            unknown(UnknownCause::Status(500), true, "Additional text found in JSON string"),
            Class::Config,
            true,
        ),
        (unknown(UnknownCause::ResponseError, false, missing_field), Class::Config, false),
        (unknown(UnknownCause::ResponseError, true, "编码唯一 已经被使用"), Class::Unclear, true),
        (unknown(UnknownCause::Html, true, missing_field), Class::Unclear, true),
        (KingdeeError::Unexpected { write: true, text: text() }, Class::Unclear, true),
        (KingdeeError::Unexpected { write: false, text: text() }, Class::Transient, false),
        (
            KingdeeError::Session { after_login: false, answered: true, text: text() },
            Class::SessionLost,
            true,
        ),
        (KingdeeError::Session { after_login: true, answered: false, text: text() }, Class::Config, true),
        (KingdeeError::Invalid { text: text() }, Class::Config, false),
        (
            KingdeeError::Refused(Box::new(SaveAnswer { msg_code: Some(2), ..SaveAnswer::default() })),
            Class::Config,
            false,
        ),
    ] {
        assert_eq!((error.class(), error.look_up_first()), (class, look_up_first), "{error:?}");
    }
}
