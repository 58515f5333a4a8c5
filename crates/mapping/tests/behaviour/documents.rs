//! Documents as bytes: what is refused, and where.

use kingpost_mapping::spec::Node;
use kingpost_mapping::{Mapping, Outcome, Rejection, Scratch};

use crate::spec_json;

fn apply(rule: &str, document: &[u8]) -> Result<String, Rejection> {
    let mapping = Mapping::compile(&spec_json::of_one(rule)).unwrap();
    let mut out = Vec::new();
    mapping.apply(document, &mut Scratch::new(), &mut out).map(|_| String::from_utf8(out).unwrap())
}

fn place(document: &[u8]) -> (u32, u32, String) {
    match apply("{{ a }}", document) {
        Err(Rejection::Malformed { message, line, column }) => (line, column, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_malformed_where_they_stand() {
    assert_eq!(place(b"{\"a\":\"x\",\n \"b\":\"\xff\"}"), (2, 7, "document is not UTF-8".to_owned()));
}

#[test]
fn columns_count_characters() {
    let (line, column, _) = place("{\"a\":\"杭州\", }".as_bytes());
    assert_eq!((line, column), (1, 12));
}

#[test]
fn nesting_is_bounded_whether_the_value_is_used_or_not() {
    for key in ["a", "unused"] {
        let document = format!("{{\"{key}\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let (_, _, message) = place(document.as_bytes());
        assert_eq!(message, "values are nested deeper than 127 levels");
    }
    let deepest = format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(126), "]".repeat(126));
    assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok(), "serde_json has the same limit");
    assert_eq!(apply("{{ a }}", deepest.as_bytes()).unwrap(), r#"{"x":1}"#);
    let deeper = deepest.replace("[]", "[[]]");
    assert!(serde_json::from_str::<serde_json::Value>(&deeper).is_err());
    assert!(apply("{{ a }}", deeper.as_bytes()).is_err());
}

#[test]
fn a_rejected_document_leaves_the_output_as_it_was_and_the_scratch_usable() {
    let mapping = Mapping::compile(&spec_json::of_one("{{ a }}")).unwrap();
    let (mut scratch, mut out) = (Scratch::new(), b"before".to_vec());
    for bad in [r#"{"a":""}"#, r#"{"a":1"#, r#"{"a":1,"a":2}"#] {
        assert!(mapping.apply(bad.as_bytes(), &mut scratch, &mut out).is_err());
        assert_eq!(out, b"before");
    }
    assert!(mapping.apply(br#"{"a":1}"#, &mut scratch, &mut out).is_ok());
    assert_eq!(out, br#"before{"x":1}"#);
}

#[test]
fn one_scratch_serves_mappings_of_different_shapes() {
    let lines = r#"{"model":{"E":{"each":"lines","n":"{{ n }}","h":"{{ header.h }}"}}}"#;
    let mappings = [
        Mapping::compile(&spec_json::read(lines)).unwrap(),
        Mapping::compile(&spec_json::of_one("{{ h }}")).unwrap(),
    ];
    let document = br#"{"h":"H","lines":[{"n":1},{"n":2}]}"#;
    let mut scratch = Scratch::new();
    for _ in 0..2 {
        for (mapping, expected) in
            mappings.iter().zip([r#"{"E":[{"n":1,"h":"H"},{"n":2,"h":"H"}]}"#, r#"{"x":"H"}"#])
        {
            let mut out = Vec::new();
            let outcome = mapping.apply(document, &mut scratch, &mut out).unwrap();
            assert_eq!(outcome, Outcome::Mapped { outputs: Vec::new() });
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}

#[test]
fn a_constant_number_keeps_its_digits() {
    let mut spec = spec_json::of_one("");
    spec.model[0].value = Node::Number("12.50".to_owned());
    let mut out = Vec::new();
    Mapping::compile(&spec).unwrap().apply(b"{}", &mut Scratch::new(), &mut out).unwrap();
    assert_eq!(out, br#"{"x":12.50}"#);
}

#[test]
fn a_mapping_is_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Mapping>();
    shared::<Scratch>();
}
