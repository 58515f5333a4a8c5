use std::net::TcpListener;

use super::{holds, kingpost};

/// An address that nobody listens on, just given up.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

const BROKER_COMMANDS: [&[&str]; 4] = [
    &["dead", "list"],
    &["dead", "replay", "RK1", "--reason", "an example", "--yes"],
    &["dead", "show", "RK1"],
    &["topology", "show"],
];

#[test]
fn a_broker_that_is_away_is_told_at_once_with_a_remedy() {
    for command in BROKER_COMMANDS {
        let address = nobody();
        let url = format!("amqp://demo:marker-7f3a@{address}/%2f");
        let run = kingpost(command, &[("AMQP_URL", &url)]);
        assert_eq!((run.exit, run.out.as_str()), (Some(1), ""), "{command:?}: {}", run.notes);
        holds(
            &run.notes,
            &[&format!("kingpost: RabbitMQ at {address} can't be reached"), "remedy: start RabbitMQ"],
        );
        assert!(!run.notes.contains("marker-7f3a"), "{}", run.notes);
    }
}

#[test]
fn an_export_that_reads_nothing_leaves_no_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    let url = format!("amqp://{}/%2f", nobody());
    let run = kingpost(&["dead", "export", "--out", path.to_str().unwrap()], &[("AMQP_URL", &url)]);
    assert_eq!(run.exit, Some(1), "{}", run.notes);
    assert!(!path.exists(), "a file without letters would be taken for an export of none");
}

#[test]
fn a_file_that_is_no_export_is_refused_before_anything_is_asked() {
    let run =
        kingpost(&["dead", "import", "Cargo.toml", "--reason", "x"], &[("AMQP_URL", "amqp://nowhere/%zz")]);
    assert_eq!(run.exit, Some(1), "{}", run.notes);
    holds(&run.notes, &["Cargo.toml:1: no whole JSON object"]);
}

#[test]
fn wrong_schemes_leave_the_dead_letters_of_one_scheme_in_reach() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("amqp://{}/%2f", nobody());
    let variables = [("SCHEMES_DIR", folder.path().to_str().unwrap()), ("AMQP_URL", &url)];
    let run = kingpost(&["dead", "list"], &variables);
    assert_eq!(run.exit, Some(64));
    holds(&run.notes, &["holds no scheme", "add --scheme NAME"]);
    let run = kingpost(&["dead", "list", "--scheme", "purchase-stockin"], &variables);
    assert_eq!(run.exit, Some(1), "the file isn't needed, the broker is: {}", run.notes);
    holds(&run.notes, &["can't be reached"]);
}

#[test]
fn wrong_schemes_and_wrong_settings_are_told_together() {
    let variables = [("SCHEMES_DIR", "no-such-folder"), ("AMQP_URL", "http://example")];
    for command in BROKER_COMMANDS {
        let run = kingpost(command, &variables);
        assert_eq!(run.exit, Some(64));
        holds(&run.notes, &["no-such-folder", "AMQP_URL"]);
    }
}
