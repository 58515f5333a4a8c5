//! Scheme files as their authors write them: the shipped one, right ones, wrong ones, and every limit.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod cases;
mod limits;
mod manual;
mod problems;
mod reading;

use std::fs;
use std::path::Path;

use kingpost_scheme::{Problems, Scheme, load_dir};

/// Loads one scheme called `demo` from a folder of its own.
fn load(text: &str) -> Result<Scheme, Problems> {
    load_with(text, &[])
}

/// The same with files beside it.
fn load_with(text: &str, files: &[(&str, &[u8])]) -> Result<Scheme, Problems> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("demo.yaml"), text).expect("the scheme");
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("a file beside it");
    }
    load_dir(folder.path()).map(|schemes| schemes.into_iter().next().expect("one scheme"))
}

/// Whether golden files are to be written anew instead of compared.
fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Compares a text with a golden file, byte by byte; `None` stands for no file.
fn golden(file: &Path, found: Option<&str>) -> Result<(), String> {
    if update() {
        match found {
            Some(found) => fs::write(file, found).expect("the golden file"),
            None if file.exists() => fs::remove_file(file).expect("the golden file"),
            None => {}
        }
    }
    let wanted = fs::read_to_string(file).ok();
    if wanted.as_deref() == found {
        return Ok(());
    }
    let shown = |text: Option<&str>| text.unwrap_or("(no file)").to_owned();
    Err(format!(
        "{} differs (UPDATE=1 writes it anew)\n--- wanted\n{}\n--- found\n{}",
        file.display(),
        shown(wanted.as_deref()),
        shown(found)
    ))
}

/// A scheme that is right, as small as one can be.
const SMALL: &str = r#"scheme: demo
title: a small scheme
source:
  system: wdt
  method: wdt.wms.stockin.purchase.querywithdetail
  params: { status: "80" }
  key: order_no
  page_size: 50
  window: { start: 2026-01-01T00:00:00+08:00, width: 1h, lag: 5m, overlap: 1m, every: 1m }
target:
  system: kingdee
  form: STK_InStock
  finish: audit
  options: { IsVerifyBaseDataField: true }
  batch: { rows: 20, wait: 500ms, concurrency: 2 }
  settle: 4m
  key: FBillNo
  write_key: purchase_no
  shards: 1
model:
  FBillNo: "{{ order_no }}"
"#;

/// The small scheme with one piece replaced.
fn changed(piece: &str, replacement: &str) -> String {
    assert!(SMALL.contains(piece), "{piece:?} is no piece of the small scheme");
    SMALL.replace(piece, replacement)
}
