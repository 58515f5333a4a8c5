//! Mistakes of authors: what they hear, and where.

use kingpost_mapping::spec::{Field, Node, Position, Spec, Table, Text};
use kingpost_mapping::{Mapping, SpecProblem};

use crate::spec_json;

fn problems(spec: &Spec) -> Vec<SpecProblem> {
    Mapping::compile(spec).map(drop).expect_err("the spec is wrong")
}

/// What is wrong with one rule, without the field's name.
fn what(rule: &str) -> String {
    let found = problems(&spec_json::of_one(rule));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].what.strip_prefix("x: ").unwrap().to_owned()
}

#[test]
fn a_problem_stands_where_its_word_stands() {
    let mut spec = spec_json::of_one("");
    spec.model[0].value =
        Node::Text(Text { text: "{{ 名称 | tirm }}".to_owned(), at: Position { line: 7, column: 12 } });
    let found = problems(&spec);
    assert_eq!(found[0].at, Position { line: 7, column: 20 });
    assert_eq!(found[0].remedy, "did you mean `trim`?");
}

#[test]
fn a_problem_on_a_further_line_of_a_text_has_that_line_and_no_column() {
    let mut spec = spec_json::of_one("");
    spec.model[0].value =
        Node::Text(Text { text: "= a +\n  b $".to_owned(), at: Position { line: 7, column: 12 } });
    assert_eq!(problems(&spec)[0].at, Position { line: 8, column: 0 });
}

#[test]
fn mistakes_in_writing_are_named() {
    for (rule, expected) in [
        ("{{ a", "`{{` is never closed"),
        ("a }}", "`}}` without `{{`"),
        ("{{ }}", "value is missing"),
        ("= a = b", "`=` is no comparison"),
        ("= a && b", "`&` is no operator"),
        ("= !a", "`!` is no operator"),
        ("= (a", "`(` is never closed"),
        ("= round(a", "arguments don't end"),
        ("= a b", "`b` is not expected here"),
        ("= 'a", "text after ' has no end"),
        ("= ‘a’", "`‘` is a typographic quote"),
        ("= round（a）", "`（` is a full-width character"),
        ("= 1a", "name begins with a digit"),
        ("= a | decimal * 2", "operator after a pipe"),
        ("= a |", "no function after `|`"),
        ("= 1 < 2 < 3", "two comparisons in a row"),
        ("= a.", "no name after `.`"),
        ("= a.b.c", "`a.b.c` has more than two parts"),
        ("= 12345678901234567890123456789", "`12345678901234567890123456789` has more than 28 digits"),
        ("{order_no}", "single braces make no expression"),
        ("_function {{a}} * 100", "formula of another tool"),
        ("_findCollection find FID", "formula of another tool"),
        ("= null", "there is no `null`"),
    ] {
        assert_eq!(what(rule), expected, "{rule}");
    }
}

#[test]
fn a_formula_of_another_tool_never_passes_as_text() {
    for rule in ["_function {{a}} * 100", "_function 1 + 1", "findCollection find FID", "{a|date}"] {
        assert!(Mapping::compile(&spec_json::of_one(rule)).is_err(), "{rule}");
    }
}

#[test]
fn types_that_don_t_fit_are_named() {
    for (rule, expected) in [
        ("= 'a' + 1", "`+` needs a decimal, but this is text"),
        ("= 1 and true", "`and` needs true or false, but this is a decimal"),
        ("= not 'a'", "`not` needs true or false, but this is text"),
        ("= if(1, 2, 3)", "if needs true or false, but this is a decimal"),
        ("= if(true, 2, 'b')", "if needs a decimal, but this is text"),
        ("= a == b", "`==` compares values of unknown type"),
        ("= (a | text) < 'b'", "`<` compares text, which has no order"),
        ("= a == ''", "nothing equals an empty text"),
        ("= (a | date) >= 'yesterday'", "'yesterday' is not a date"),
        ("= round(1, 2, 3)", "round is given 3 arguments"),
        ("= substr('a')", "substr is given 1 argument"),
        ("= one_of(a, b)", "one_of compares values of unknown type"),
        ("= sum(1)", "sum is given no array"),
        ("= sum(a.x + b.y)", "sum runs over two arrays, a and b"),
        ("= sum(a.x + sum(a.y))", "sum stands inside another one"),
        ("= count(a.x)", "`a.x` is no array"),
        ("= a | table('stock', 'org')", "there is no table `stock`"),
    ] {
        assert_eq!(what(rule), expected, "{rule}");
    }
}

#[test]
fn an_expression_nested_without_end_is_refused_not_followed() {
    for rule in
        [format!("= {}1", "(".repeat(50_000)), format!("= {}1", "-".repeat(50_000)), "= not ".repeat(9_000)]
    {
        assert!(Mapping::compile(&spec_json::of_one(&rule)).is_err());
    }
}

#[test]
fn a_model_nested_without_end_is_refused() {
    let mut node = Node::Null;
    for _ in 0..80 {
        node = Node::Array(vec![node]);
    }
    let mut spec = spec_json::of_one("");
    spec.model[0].value = node;
    assert!(problems(&spec)[0].what.ends_with("is nested too deep"));
}

#[test]
fn keys_are_given_once_and_named() {
    let field = |key: &str| Field {
        key: key.to_owned(),
        optional: false,
        enabled: true,
        at: Position { line: 3, column: 1 },
        value: Node::Null,
    };
    let spec = Spec { model: vec![field("a"), field("b"), field("a"), field(" ")], ..Spec::default() };
    let found: Vec<String> = problems(&spec).into_iter().map(|problem| problem.what).collect();
    assert_eq!(found, ["  has an empty key", "a stands twice in one object"]);
}

#[test]
fn numbers_are_numbers_and_tables_are_even() {
    let mut spec = spec_json::of_one("");
    spec.model[0].value = Node::Number("0x10".to_owned());
    spec.tables.insert(
        "stock".to_owned(),
        Table { columns: vec!["org".to_owned()], fallback: Some(Vec::new()), ..Table::default() },
    );
    spec.utc_offset_seconds = 1_000_000;
    let found: Vec<String> = problems(&spec).into_iter().map(|problem| problem.what).collect();
    assert_eq!(
        found,
        [
            "offset of 1000000 seconds from UTC doesn't exist",
            "table stock: row '*' has not one answer per column",
            "x: `0x10` is not a JSON number",
        ]
    );
}

#[test]
fn an_empty_model_is_no_model() {
    assert_eq!(problems(&Spec::default())[0].what, "model has no fields");
}
