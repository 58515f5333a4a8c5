use std::collections::BTreeMap;

use jiff::Timestamp;
use kingpost_wdt::values::{beijing_text, decimal, flexible_time};
use kingpost_wdt::{SignMethod, direct_sign, top_sign, wdt_sign};
use md5::{Digest, Md5};
use proptest::prelude::*;
use rust_decimal::Decimal;
use secrecy::SecretString;
use serde_json::Value;

fn name() -> impl Strategy<Value = String> {
    "[a-z_]{1,6}"
}

/// Text that can't be taken for an object or array.
fn plain() -> impl Strategy<Value = String> {
    "[^\\[{\\p{White_Space}][^\\[{]{0,10}"
}

fn content() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        plain().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The flattening rule over decoded values, written apart from the client's, which works on text.
fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(flat).collect(),
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            sorted.into_iter().map(|(name, value)| format!("{name}{}", flat(value))).collect()
        }
    }
}

fn shuffled(map: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    map.iter().rev().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

proptest! {
    #[test]
    fn wdt_sign_signs_the_content_of_json_text(content in prop::collection::vec(content(), 0..3), escaped: bool) {
        let params = Value::from(content);
        let mut text = params.to_string();
        if escaped {
            text = text.chars().fold(String::new(), |mut out, char| {
                let mut units = [0; 2];
                match char.is_ascii() {
                    true => out.push(char),
                    false => char.encode_utf16(&mut units).iter().for_each(|unit| out += &format!("\\u{unit:04x}")),
                }
                out
            });
        }
        let preimage = format!("kmethodwdt.mparams{}k", flat(&params));
        let sign = wdt_sign(&SecretString::from("k"), "wdt.m", &[("params", &text), ("wdt3_customer_id", "x")]);
        prop_assert_eq!(sign, hex::encode(Md5::digest(preimage)));
    }

    #[test]
    fn outer_signatures_depend_neither_on_order_nor_on_empty_values(
        params in prop::collection::btree_map(name(), "\\PC{0,8}", 0..8),
        body in "\\PC{0,20}",
    ) {
        let secret = SecretString::from("topsecret");
        let ordered: Vec<_> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let full: Vec<_> = ordered.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
        for method in [SignMethod::Md5, SignMethod::Hmac, SignMethod::HmacSha256] {
            let sign = top_sign(&secret, method, &ordered);
            prop_assert_eq!(&sign, &top_sign(&secret, method, &shuffled(&params)));
            prop_assert_eq!(&sign, &top_sign(&secret, method, &full));
            prop_assert_eq!(sign.len(), if method == SignMethod::HmacSha256 { 64 } else { 32 });
        }
        prop_assert_eq!(direct_sign(&secret, &ordered, &body), direct_sign(&secret, &shuffled(&params), &body));
    }

    #[test]
    fn a_decimal_survives_its_text(mantissa: i64, scale in 0_u32..19) {
        let number = Decimal::new(mantissa, scale);
        prop_assert_eq!(decimal(&number.to_string()).map(|read| read.to_string()), Some(number.to_string()));
        let exponent = format!("{mantissa}e-{scale}");
        prop_assert_eq!(decimal(&exponent), Some(number));
    }

    #[test]
    fn a_time_survives_each_of_its_notations(second in 1_000_000_000_i64..9_999_999_999) {
        let time = Timestamp::from_second(second).unwrap();
        for notation in [beijing_text(time), second.to_string(), format!("{second}000")] {
            prop_assert_eq!(flexible_time(&notation), Some(time), "{}", notation);
        }
    }

    #[test]
    fn no_text_breaks_a_reader(text in "\\PC{0,30}|[-0-9.eE: ]{0,30}") {
        let _ = (decimal(&text), flexible_time(&text));
        let _ = wdt_sign(&SecretString::from("k"), &text, &[("params", &text)]);
    }
}
