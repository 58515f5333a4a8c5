//! What holds for every text and every document.

use kingpost_mapping::{Mapping, Rejection, Scratch};
use proptest::prelude::*;
use serde_json::Value;

use crate::spec_json;

/// JSON texts of every kind, with odd blanks, escapes and keys.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?",
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u676d\ud83d\ude00\/\b""#.to_owned()),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof![Just("a"), Just("lines"), Just("b"), Just(r"\u0061"), Just("杭")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec((key, inner), 0..5).prop_map(|fields| {
                let fields: Vec<String> =
                    fields.into_iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                format!("{{ {}\n}}", fields.join(","))
            }),
        ]
    })
}

/// A document as it is, or with one piece of it cut out or put in.
fn nearly_json() -> impl Strategy<Value = String> {
    (
        json(),
        any::<prop::sample::Index>(),
        prop_oneof![Just(""), Just(","), Just("\""), Just("\\"), Just("1"), Just("}")],
        0..3_usize,
    )
        .prop_map(|(json, at, put, cut)| {
            let chars: Vec<char> = json.chars().collect();
            let at = at.index(chars.len().max(1));
            let tail = chars.iter().skip(at + cut);
            chars.iter().take(at).copied().chain(put.chars()).chain(tail.copied()).collect()
        })
}

fn mapping() -> Mapping {
    let spec = r#"{
        "model": {"c": "{{ a }}", "d?": "{{ b }} and {{ a }}", "n?": "= b * 2",
                  "e?": {"each": "lines", "f?": {"g": "{{ a }}"}, "t?": "= a | date"},
                  "s?": "= sum(lines.b)", "k?": "= count(lines)"},
        "outputs": {"o?": "a | text"}
    }"#;
    Mapping::compile(&spec_json::read(spec)).unwrap()
}

/// A document that is malformed for us is refused by serde_json too, unless a key we use stands twice or the text in
/// `lines` is at fault; and the other way round.
fn agrees(document: &str) {
    let mut out = Vec::new();
    let ours = mapping().apply(document.as_bytes(), &mut Scratch::new(), &mut out);
    let theirs: Result<Value, _> = serde_json::from_str(document);
    match (&ours, theirs) {
        (Err(Rejection::Malformed { message, .. }), Ok(value)) => {
            let known = ["stands twice", "is not a JSON object", "holds text that isn't JSON"];
            assert!(known.iter().any(|known| message.contains(known)), "{message}: {document}");
            assert!(!message.contains("is not a JSON object") || !value.is_object(), "{document}");
        }
        (Err(Rejection::Malformed { .. }), Err(_)) | (Err(Rejection::Unmappable(_)), Ok(_)) => {}
        (Ok(_), Ok(source)) => {
            let model: Value = serde_json::from_slice(&out).expect("a model is JSON");
            assert_eq!(model["c"], source["a"], "{document}");
        }
        // Binary numbers end somewhere; characters don't.
        (_, Err(error)) => assert!(error.to_string().contains("number out of range"), "{error}: {document}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_is_accepted_and_refused_as_by_serde_json(document in json()) {
        agrees(&document);
        agrees(&format!("{{\"a\":{document}}}"));
        agrees(&format!("{{\"a\":\"x\",\"lines\":{document}}}"));
    }

    #[test]
    fn nearly_json_is_accepted_and_refused_as_by_serde_json(document in nearly_json()) {
        agrees(&document);
        agrees(&format!("{{\"a\":{document}}}"));
    }

    #[test]
    fn no_bytes_make_it_panic(document in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = mapping().apply(&document, &mut Scratch::new(), &mut Vec::new());
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in ".{0,60}", pieces in "[a-c'\"0-9(){}|.,=<>!+*/% -]{0,60}") {
        for rule in [text.clone(), format!("= {text}"), format!("{{{{ {pieces} }}}}"), format!("= {pieces}")] {
            let _ = Mapping::compile(&spec_json::of_one(&rule));
        }
    }

    #[test]
    fn copied_texts_arrive_unchanged(text in ".{1,40}") {
        let document = serde_json::json!({ "a": text }).to_string();
        for rule in ["{{ a }}", "= replace(a, 'a text of more than forty characters, so never found', '')", "= a | text"] {
            let given = apply(rule, &document);
            if text.trim().is_empty() {
                prop_assert!(given.is_err());
            } else {
                prop_assert_eq!(&given.unwrap()["x"], &Value::from(text.as_str()));
            }
        }
    }

    #[test]
    fn digits_are_kept_when_copied_and_normalised_when_calculated(whole in 0..u64::MAX, fraction in "[0-9]{1,8}", negative: bool) {
        let digits = format!("{}{whole}.{fraction}", if negative { "-" } else { "" });
        for document in [format!("{{\"a\":{digits}}}"), format!("{{\"a\":\" {digits}\"}}")] {
            prop_assert_eq!(written("= a | decimal", &document), digits.clone());
            let sum = written("= a + 0", &document);
            let normal: rust_decimal::Decimal = digits.parse().unwrap();
            let normal = if normal.is_zero() { rust_decimal::Decimal::ZERO } else { normal.normalize() };
            prop_assert_eq!(sum, normal.to_string());
        }
    }

    #[test]
    fn calculations_are_exact_or_a_problem(a in any::<i64>(), b in any::<i64>(), p in 0..28_u32, q in 0..28_u32) {
        let at = |value: i64, places: u32| rust_decimal::Decimal::from_i128_with_scale(i128::from(value), places);
        let (left, right) = (at(a, p), at(b, q));
        let document = format!("{{\"a\":\"{left}\",\"b\":\"{right}\"}}");
        if let Ok(model) = apply_raw("= a * b", &document) {
            let product = i128::from(a).checked_mul(i128::from(b)).unwrap();
            prop_assert_eq!(model, format!("{{\"x\":{}}}", plain(product, p + q)));
        }
        if let (Ok(model), true) = (apply_raw("= a + b", &document), p == q) {
            prop_assert_eq!(model, format!("{{\"x\":{}}}", plain(i128::from(a) + i128::from(b), p)));
        }
    }
}

/// `value × 10^-places` in plain digits without zeros at the end.
fn plain(value: i128, places: u32) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places as usize);
    let fraction = fraction.trim_end_matches('0');
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn apply_raw(rule: &str, document: &str) -> Result<String, Rejection> {
    let mapping = Mapping::compile(&spec_json::of_one(rule)).unwrap();
    let mut out = Vec::new();
    mapping.apply(document.as_bytes(), &mut Scratch::new(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn apply(rule: &str, document: &str) -> Result<Value, Rejection> {
    apply_raw(rule, document).map(|model| serde_json::from_str(&model).unwrap())
}

fn written(rule: &str, document: &str) -> String {
    let model = apply_raw(rule, document).unwrap();
    model.strip_prefix("{\"x\":").and_then(|rest| rest.strip_suffix('}')).unwrap().to_owned()
}
