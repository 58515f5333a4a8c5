//! What a scheme may ask of WDT, against what the client knows of it: two lists, one truth.

use std::{fs, path::Path, time::Duration};

use kingpost_scheme::{Problems, Scheme, load_dir};
use kingpost_wdt::Method;

/// A scheme that reads a method by windows of that many seconds, with an overlap of one minute.
fn scheme(method: &str, key: &str, width: Duration) -> Result<Scheme, Problems> {
    let text = format!(
        r#"scheme: demo
title: a small scheme
source:
  system: wdt
  method: {method}
  key: {key}
  window: {{ start: 2026-01-01T00:00:00+08:00, width: {}s, overlap: 1m }}
target:
  system: kingdee
  form: STK_InStock
  finish: audit
  key: FBillNo
model:
  FBillNo: "{{{{ {key} }}}}"
"#,
        width.as_secs()
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("demo.yaml"), text).unwrap();
    load_dir(Path::new(folder.path())).map(|mut schemes| schemes.remove(0))
}

#[test]
fn every_method_of_the_client_may_be_read_by_windows_as_wide_as_the_vendor_answers_and_no_wider() {
    let overlap = Duration::from_secs(60);
    for method in Method::all() {
        for name in [method.direct, method.qimen] {
            let widest = method.widest_window - overlap;
            let loaded = scheme(name, method.key, widest);
            assert!(loaded.is_ok(), "{name}: {}", loaded.unwrap_err());
            let wider = scheme(name, method.key, widest + Duration::from_secs(1)).unwrap_err().to_string();
            assert!(wider.contains("together exceed"), "{name}: {wider}");
        }
        let wrong = scheme(method.direct, "no_such_no", Duration::from_secs(600)).unwrap_err().to_string();
        assert!(wrong.contains(&format!("identified by `{}`", method.key)), "{}: {wrong}", method.direct);
    }
}

#[test]
fn every_method_that_a_scheme_may_name_is_one_that_the_client_knows() {
    // A name that is near to none is answered with all of them.
    let problem = scheme("x", "order_no", Duration::from_secs(600)).unwrap_err().to_string();
    let named = problem.split_once("known here: ").unwrap().1.trim();
    let mut named: Vec<&str> = named.split(", ").collect();
    let mut known: Vec<&str> = Method::all().iter().map(|method| method.direct).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
}
