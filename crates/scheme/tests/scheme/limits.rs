//! Both sides of every limit.

use std::time::Duration;

use crate::{changed, load};

/// A piece of the small scheme, what still is right in its place, and what no longer is, with its problem.
type Limit = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const LIMITS: &[Limit] = &[
    (
        "page_size: 50",
        &["page_size: 1", "page_size: 200"],
        &[
            ("page_size: 0", "`source.page_size` is 0, outside 1 to 200"),
            ("page_size: 201", "`source.page_size` is 201, outside 1 to 200"),
            ("page_size: 5.5", "`source.page_size` is 5.5, outside 1 to 200"),
            ("page_size: '50'", "`source.page_size` is a text, not a number"),
        ],
    ),
    (
        "width: 1h, lag: 5m, overlap: 1m",
        &[
            "width: 2s, lag: 1s, overlap: 1s",
            "width: 30d, lag: 1d, overlap: 0s",
            "width: 29d, lag: 5m, overlap: 1d",
        ],
        &[
            ("width: 31d, lag: 5m, overlap: 1m", "`source.window.width` is 31d, outside 1s to 30d"),
            ("width: 30d, lag: 5m, overlap: 1m", "width 30d and overlap 1m together exceed 30d"),
            ("width: 1m, lag: 5m, overlap: 1m", "the overlap 1m is not shorter than the width 1m"),
            ("width: 1h, lag: 0s, overlap: 1m", "`source.window.lag` is 0s, outside 1s to 1d"),
            ("width: 1h, lag: 25h, overlap: 1m", "`source.window.lag` is 25h, outside 1s to 1d"),
            (
                "width: 1500ms, lag: 5m, overlap: 1s",
                "`source.window.width` is 1500ms, and the source counts in seconds",
            ),
            (
                "width: 1 h, lag: 5m, overlap: 1m",
                "`source.window.width` is `1 h`, which is no length of time",
            ),
            ("width: 60, lag: 5m, overlap: 1m", "`source.window.width` is `60`, which is no length of time"),
        ],
    ),
    (
        "every: 1m",
        &["every: 1s", "every: 1d"],
        &[("every: 2d", "`source.window.every` is 2d, outside 1s to 1d")],
    ),
    (
        "rows: 20",
        &["rows: 1", "rows: 50"],
        &[("rows: 0", "outside 1 to 50"), ("rows: 51", "`target.batch.rows` is 51, outside 1 to 50")],
    ),
    (
        "wait: 500ms",
        &["wait: 0s", "wait: 1m"],
        &[("wait: 61s", "`target.batch.wait` is 61s, outside 0s to 1m")],
    ),
    (
        "concurrency: 2",
        &["concurrency: 1", "concurrency: 10"],
        &[
            ("concurrency: 0", "outside 1 to 10"),
            ("concurrency: 11", "`target.batch.concurrency` is 11, outside 1 to 10"),
        ],
    ),
    (
        "settle: 4m",
        &["settle: 1s", "settle: 20m"],
        &[("settle: 21m", "`target.settle` is 21m, outside 1s to 20m")],
    ),
    (
        "key: FBillNo",
        &["key: FBillNo"],
        &[("key: FDeliveryBill", "documents are looked up in Kingdee by `FBillNo` alone")],
    ),
    (
        "finish: audit",
        &["finish: save\n  on_change: ignore", "finish: audit\n  on_change: update-draft"],
        &[("finish: audit\n  on_change: update", "`target.on_change` is `update`")],
    ),
    (
        "key: order_no",
        &["cancelled: '10'\n  key: order_no", "cancelled: '10,20'\n  key: order_no"],
        &[
            ("cancelled: '11'\n  key: order_no", "`11` is no status of this document"),
            ("cancelled: '10, 20'\n  key: order_no", "` 20` is no status of this document"),
            ("cancelled: ''\n  key: order_no", "`source.cancelled` is empty, not a text"),
            ("cancelled: '10,80'\n  key: order_no", "`80` is a status of documents that are posted"),
        ],
    ),
    (
        "shards: 1",
        &["shards: 1", "shards: 64"],
        &[("shards: 0", "outside 1 to 64"), ("shards: 65", "`target.shards` is 65, outside 1 to 64")],
    ),
    (
        "IsVerifyBaseDataField: true",
        &["BatchCount: 0", "BatchCount: 10", "FormId: STK_InStock, Operation: BatchSave, SubSystemId: ''"],
        &[("BatchCount: 11", "`target.options.BatchCount` can't be a number")],
    ),
];

#[test]
fn every_limit_holds_on_both_sides() {
    for (piece, good, bad) in LIMITS {
        for value in *good {
            load(&changed(piece, value)).unwrap_or_else(|problems| panic!("{value}:\n{problems}"));
        }
        for (value, problem) in *bad {
            let problems = load(&changed(piece, value)).expect_err(value);
            assert_eq!(problems.len(), 1, "{value}:\n{problems}");
            assert!(problems.to_string().contains(problem), "{value}:\n{problems}");
        }
    }
}

#[test]
fn sales_outbound_is_read_by_the_hour_overlap_included() {
    let sales = |window: &str| {
        let text =
            changed("stockin.purchase", "stockout.sales").replace("width: 1h, lag: 5m, overlap: 1m", window);
        load(&text.replace(r#"params: { status: "80" }"#, "params: { status_type: 3, status: '110' }"))
    };
    let scheme = sales("width: 59m, overlap: 1m").expect("an hour in all");
    assert_eq!(scheme.source.window.width + scheme.source.window.overlap, Duration::from_secs(3600));
    let problems = sales("width: 1h, overlap: 1m").expect_err("more than an hour");
    assert!(problems.to_string().contains("remedy: write a `width` of at most 59m"), "{problems}");
    sales("overlap: 5m").expect("the width that is taken when none is given fits into the hour");
}

#[test]
fn a_name_has_forty_characters_at_most() {
    for (length, good) in [(40, true), (41, false)] {
        let name = "a".repeat(length);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&file, changed("scheme: demo", &format!("scheme: {name}"))).expect("the scheme");
        assert_eq!(kingpost_scheme::load_file(&file).is_ok(), good, "{length}");
    }
}
