use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use super::{finished, holds, kingpost, order, root};

#[test]
fn an_order_is_mapped_to_the_model_that_would_be_posted() {
    let run = kingpost(&["check", "--case", &order("qimen")], &[]);
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    let expected =
        fs::read_to_string(root().join("schemes/purchase-stockin/cases/qimen/expected.json")).unwrap();
    // Blanks aside it is the document of the case, every key in its place and every digit kept.
    let packed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert!(packed(&expected).contains(&packed(&run.out)), "{}", run.out);
    assert!(
        run.out.starts_with("{\n  \"FBillTypeID\": {\n    \"FNUMBER\": \"RKD01_SYS\"\n  },\n"),
        "{}",
        run.out
    );
    holds(&run.notes, &["purchase-stockin: FBillNo "]);
}

#[test]
fn an_order_can_come_from_standard_input() {
    let document = fs::read(root().join(order("qimen"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kingpost"));
    command.args(["check", "--case", "-", "--scheme", "purchase-stockin"]).env_clear().current_dir(root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&document).unwrap();
    let run = finished(child.wait_with_output());
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    assert_eq!(run.out, kingpost(&["check", "--case", &order("qimen")], &[]).out);
}

#[test]
fn every_field_without_a_value_is_told_with_rule_inputs_and_message() {
    let run = kingpost(&["check", "--case", &order("missing-header")], &[]);
    assert_eq!((run.exit, run.out.as_str()), (Some(1), ""));
    holds(
        &run.notes,
        &[
            "missing-header/input.json can't be mapped by purchase-stockin: 9 problems\n",
            "\nFDate\n  check_time is empty\n  rule:  {{ check_time | date }}\n  input: check_time = \"\"\n",
            "\nFInStockEntry[1].FOWNERID.FNumber\n",
            "input: provider_no = absent\n",
        ],
    );
}

#[test]
fn a_document_that_is_no_order_is_told_with_its_place() {
    let run = kingpost(&["check", "--case", &order("not-json")], &[]);
    assert_eq!(run.exit, Some(1));
    holds(&run.notes, &["input.json:1:1: the order is not a readable document"]);
    let run = kingpost(&["check", "--case", "no-such-file.json"], &[]);
    assert_eq!(run.exit, Some(1));
    holds(&run.notes, &["no-such-file.json can't be read"]);
}

#[test]
fn an_order_that_the_filter_leaves_out_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tables")).unwrap();
    for table in ["stock.csv", "supplier.csv"] {
        let name = format!("tables/{table}");
        fs::copy(root().join("schemes").join(&name), folder.path().join(&name)).unwrap();
    }
    let scheme = fs::read_to_string(root().join("schemes/purchase-stockin.yaml")).unwrap();
    let filtered = scheme.replace("# filter: \"= warehouse_no != 'TEST'\"", "filter: \"= status == '30'\"");
    assert_ne!(filtered, scheme);
    fs::write(folder.path().join("purchase-stockin.yaml"), filtered).unwrap();
    let run =
        kingpost(&["check", "--schemes", folder.path().to_str().unwrap(), "--case", &order("qimen")], &[]);
    assert_eq!((run.exit, run.out.as_str()), (Some(0), ""));
    holds(&run.notes, &["the filter leaves", "nothing would be posted"]);

    let twin = folder.path().join("twin.yaml");
    fs::write(twin, scheme.replace("scheme: purchase-stockin", "scheme: twin")).unwrap();
    let several =
        kingpost(&["check", "--schemes", folder.path().to_str().unwrap(), "--case", &order("qimen")], &[]);
    assert_eq!(several.exit, Some(2));
    holds(&several.notes, &["--scheme purchase-stockin | --scheme twin"]);
}

#[test]
fn a_scheme_that_is_not_there_is_a_wrong_command_line() {
    for name in ["no-such-scheme", "../schemes/purchase-stockin"] {
        let run = kingpost(&["check", "--case", &order("qimen"), "--scheme", name], &[]);
        assert_eq!(run.exit, Some(2), "{name}");
        holds(&run.notes, &[&format!("no scheme is called `{name}`")]);
    }
}
