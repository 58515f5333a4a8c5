use std::{fs, path::Path};

use tempfile::TempDir;

use super::{holds, kingpost, root};

/// The shipped scheme and its tables in a folder of their own, changed.
fn schemes(change: impl Fn(&str) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shipped = root().join("schemes");
    fs::create_dir(folder.path().join("tables")).unwrap();
    for table in ["stock.csv", "supplier.csv"] {
        fs::copy(shipped.join("tables").join(table), folder.path().join("tables").join(table)).unwrap();
    }
    let scheme = fs::read_to_string(shipped.join("purchase-stockin.yaml")).unwrap();
    fs::write(folder.path().join("purchase-stockin.yaml"), change(&scheme)).unwrap();
    folder
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

const KINGDEE: [(&str, &str); 5] = [
    ("KINGDEE_NORTH_URL", "https://erp.example/k3cloud/"),
    ("KINGDEE_NORTH_ACCT_ID", "60a1b2c3d4e5f6"),
    ("KINGDEE_NORTH_USERNAME", "demo-user"),
    ("KINGDEE_NORTH_APP_ID", "123456_demo"),
    ("KINGDEE_NORTH_APP_SECRET", "marker-7f3a"),
];

#[test]
fn the_shipped_scheme_is_right_and_tells_what_it_moves() {
    let run = kingpost(&["check"], &[]);
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    holds(
        &run.out,
        &[
            "purchase-stockin  采购入库 → 采购入库单\n",
            "wdt wdt.wms.stockin.purchase.querywithdetail → kingdee STK_InStock (saved, submitted and audited)",
            "queues: extract.purchase-stockin, transform.purchase-stockin, load.purchase-stockin\n",
            "1 scheme is right\n",
        ],
    );
}

#[test]
fn shards_account_and_notes_of_a_scheme_are_told() {
    let folder = schemes(|scheme| {
        let scheme = scheme.replace("# account: north ", "account: north #");
        let scheme = scheme.replace("  finish: audit  ", "  finish: save\n  shards: 2 #");
        scheme.replace("IsDeleteEntry: false", "IsDeleteEntry: true")
    });
    let run = kingpost(&["check", "--schemes", path(folder.path())], &[]);
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    holds(
        &run.out,
        &["STK_InStock (saved), account north\n", "load.purchase-stockin.0, load.purchase-stockin.1"],
    );
}

#[test]
fn every_problem_of_every_scheme_is_told_with_its_line_and_remedy() {
    let folder = schemes(|scheme| scheme.replace("  key: order_no\n", "  key: order_number\n"));
    fs::write(folder.path().join("second.yaml"), "scheme: another\n").unwrap();
    let run = kingpost(&["check"], &[("SCHEMES_DIR", path(folder.path()))]);
    assert_eq!((run.exit, run.out.as_str()), (Some(64), ""));
    holds(&run.notes, &["purchase-stockin.yaml:", "order_number", "second.yaml:1:9", "\nremedy: "]);
}

#[test]
fn a_folder_without_schemes_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let run = kingpost(&["check", "--schemes", path(folder.path())], &[]);
    assert_eq!(run.exit, Some(64));
    holds(&run.notes, &["SCHEMES_DIR"]);
}

#[test]
fn settings_are_read_for_the_accounts_that_the_schemes_name() {
    let folder = schemes(|scheme| scheme.replace("# account: north ", "account: north #"));
    let arguments =
        ["check", "--schemes", path(folder.path()), "--settings", "loader", "--settings", "extractor"];
    let run = kingpost(&arguments, &[KINGDEE.as_slice(), &[("KINGDEE_SOUTH_URL", "x")]].concat());
    assert_eq!(run.exit, Some(64));
    let warning = "warning: KINGDEE_SOUTH_URL: nothing reads it";
    holds(&run.notes, &["WDT_NORTH_URL: not set", "QIMEN_NORTH_APP_SECRET: not set", warning]);
    assert!(!run.notes.contains("\n  KINGDEE_"), "Kingdee's are right: {}", run.notes);

    let run = kingpost(&arguments[..5], &[KINGDEE.as_slice(), &[("KINGDEE_SOUTH_URL", "x")]].concat());
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    holds(&run.out, &["the settings of loader are right\n"]);
    holds(&run.notes, &[warning]);
}

#[test]
fn wrong_schemes_and_wrong_settings_are_told_in_one_go() {
    let folder = schemes(|scheme| scheme.replace("finish: audit", "finish: post"));
    let arguments = ["check", "--schemes", path(folder.path()), "--settings", "transformer"];
    let run = kingpost(&arguments, &[("DRAIN_SECONDS", "soon")]);
    assert_eq!(run.exit, Some(64));
    holds(&run.notes, &["purchase-stockin.yaml:", "DRAIN_SECONDS: holds \"soon\""]);
}

#[test]
fn no_secret_is_ever_printed() {
    let secrets = [
        ("AMQP_URL", "amqp://user:marker-7f3a@127.0.0.1:1/%zz"),
        ("KINGDEE_APP_SECRET", "marker-7f3a"),
        ("WDT_APP_SECRET", "marker-7f3a"),
        ("QIMEN_APP_SECRET", "marker-7f3a"),
        ("KINGDEE_APP_SECRIT", "marker-7f3a"),
    ];
    let every =
        ["extractor", "transformer", "loader", "operator"].map(|program| ["--settings", program]).concat();
    for arguments in [&[&["check"], every.as_slice()].concat()[..], &["dead", "list"], &["topology", "show"]]
    {
        let run = kingpost(arguments, &secrets);
        assert_eq!(run.exit, Some(64), "{arguments:?}: {}", run.notes);
        holds(&run.notes, &["AMQP_URL"]);
        assert!(!run.notes.contains("marker-7f3a") && !run.out.contains("marker-7f3a"), "{}", run.notes);
    }
}
