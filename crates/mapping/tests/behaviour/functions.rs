//! The examples of the functions are true, and the manual is theirs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use kingpost_mapping::spec::Table;
use kingpost_mapping::{Mapping, Rejection, Scratch, functions};

use crate::spec_json;

#[test]
fn every_example_of_a_function_gives_what_it_says() {
    for function in functions::all() {
        assert!(!function.examples.is_empty(), "{} has no example", function.name);
        for example in function.examples {
            let mut spec = spec_json::of_one(&format!("= {}", example.expression));
            let row = vec!["101".to_owned(), "CK001".to_owned()];
            let table = Table {
                columns: vec!["org".to_owned(), "stock".to_owned()],
                rows: HashMap::from([("SH01".to_owned(), row)]),
                fallback: None,
            };
            spec.tables.insert("stock".to_owned(), table);
            let mapping =
                Mapping::compile(&spec).unwrap_or_else(|problems| panic!("{example:?}: {problems:?}"));
            let mut out = Vec::new();
            let given = match mapping.apply(example.document.as_bytes(), &mut Scratch::new(), &mut out) {
                Ok(_) => {
                    let model = String::from_utf8(out).unwrap();
                    Ok(model
                        .strip_prefix("{\"x\":")
                        .and_then(|rest| rest.strip_suffix('}'))
                        .unwrap()
                        .to_owned())
                }
                Err(Rejection::Unmappable(problems)) => Err(problems[0].message.clone()),
                Err(malformed) => panic!("{example:?}: {malformed}"),
            };
            let expected = example.gives.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(given, expected, "{} over {}", example.expression, example.document);
        }
    }
}

#[test]
fn functions_stand_in_the_order_of_their_names_and_each_signature_begins_with_its_own() {
    let names: Vec<&str> = functions::all().iter().map(|function| function.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    for function in functions::all() {
        assert!(function.signature.starts_with(&format!("{}(", function.name)), "{}", function.signature);
        assert!(function.doc.ends_with('.'), "{}", function.name);
    }
}

#[test]
fn the_manual_of_functions_is_generated_from_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("FUNCTIONS.md");
    let page = format!("# Functions of the mapping language\n\n{}", functions::reference());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap_or_default(),
        page,
        "run the tests with UPDATE=1 to rewrite it"
    );
}
