//! Out to a file, and back.

use anyhow::{Context as _, Result};
use kingpost_broker::{AuditPhase, Letter};
use kingpost_model::{Failure, FailureKind, StageName};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldArray, FieldTable, LongString},
};
use serde_json::{Value, json};

use super::{bury, dead, dead_queue, kingpost, letters, started, trail, without_material};

/// Publishes a message into a dead-letter queue as any other tool might: odd bytes, headers of every kind.
async fn by_hand(url: &str, id: &str, body: &[u8]) -> Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut inner = FieldTable::default();
    inner.insert("n".into(), AMQPValue::ShortInt(-7));
    let mut headers = FieldTable::default();
    headers.insert("text".into(), AMQPValue::LongString(LongString::from("采购 \"1\"")));
    headers.insert("bytes".into(), AMQPValue::LongString(LongString::from(vec![0xff, 0x00])));
    headers.insert("double".into(), AMQPValue::Double(0.1));
    headers.insert("time".into(), AMQPValue::Timestamp(1_790_000_000));
    headers.insert("flag".into(), AMQPValue::Boolean(false));
    headers.insert("nothing".into(), AMQPValue::Void);
    headers.insert("table".into(), AMQPValue::FieldTable(inner));
    headers.insert("list".into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongUInt(3)])));
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_content_type("application/octet-stream".into())
        .with_priority(3)
        .with_delivery_mode(2)
        .with_timestamp(1_790_000_001)
        .with_headers(headers);
    let queue = dead_queue(StageName::Load);
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// A letter with everything that an application can see of it.
fn whole(letters: &[Letter]) -> Vec<String> {
    let mut whole: Vec<String> = letters.iter().map(|letter| letter.to_json().to_string()).collect();
    whole.sort();
    whole
}

/// The letters of both queues as the broker hands them out, read by no code of the product.
async fn raw(url: &str) -> Result<Vec<e2e::account::Letter>> {
    let mut raw = Vec::new();
    for stage in [StageName::Load, StageName::Transform] {
        raw.extend(e2e::account::letters(url, &dead_queue(stage), 100).await?);
    }
    raw.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(raw)
}

#[tokio::test]
async fn what_is_exported_discarded_and_imported_is_the_same_byte_for_byte() -> Result<()> {
    let (url, broker) = started("dl-files").await?;
    let mut ticketed = without_material("RK2");
    ticketed.headers = vec![("ticket".into(), "T-1".into())];
    let malformed = Failure::new(FailureKind::Malformed, "not a readable document");
    let odd = dead(StageName::Transform, "RK3", b"\xff{ \"n\" : 1.200\r\n".to_vec(), &malformed);
    bury(&broker, [without_material("RK1"), ticketed, odd]).await?;
    by_hand(&url, "by-hand", b"{ \"FBillNo\":\"RK4\" }\n\x00").await?;
    let (load, transform) =
        (letters(&url, StageName::Load).await?, letters(&url, StageName::Transform).await?);
    assert_eq!((load.len(), transform.len()), (3, 1));
    let before = raw(&url).await?;
    assert_eq!(before.len(), 4);

    let folder = tempfile::tempdir()?;
    let run = async |arguments: &[&str]| kingpost(&url, folder.path(), arguments, &[]).await;
    let (code, output) = run(&["dead", "export", "--out", "copy.ndjson"]).await?;
    assert!(code == Some(0) && output.contains("4 dead letters in copy.ndjson"), "{output}");
    assert_eq!(letters(&url, StageName::Load).await?.len(), 3, "an export takes nothing");
    let discard =
        ["dead", "discard", "--all", "--out", "gone.ndjson", "--reason", "a test", "--yes", "--as", "tester"];
    let (code, output) = run(&discard).await?;
    assert!(code == Some(0) && output.contains("4 dead letters discarded"), "{output}");
    assert!(letters(&url, StageName::Load).await?.is_empty());
    let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "back again"]).await?;
    assert!(code == Some(0) && output.contains("4 dead letters imported"), "{output}");

    assert_eq!(whole(&letters(&url, StageName::Load).await?), whole(&load));
    assert_eq!(whole(&letters(&url, StageName::Transform).await?), whole(&transform));
    assert_eq!(raw(&url).await?, before);
    // An import that broke off can be run again: what is there is left out.
    let (code, output) = run(&["dead", "import", "copy.ndjson", "--reason", "once more"]).await?;
    assert!(code == Some(0) && output.contains("nothing to import: 4 letters"), "{output}");
    assert_eq!(letters(&url, StageName::Load).await?.len(), 3);

    let events = trail(&url).await?;
    let told: Vec<_> = events.iter().map(|e| (e.command.as_str(), e.phase, e.count)).collect();
    let (exported, events) = events.split_at(2);
    assert!(exported.iter().all(|event| event.command == "dead export" && event.count == 4));
    let told = told.get(2..).unwrap_or_default();
    let expected = [
        ("dead discard", AuditPhase::Begun, 4),
        ("dead discard", AuditPhase::Ended, 4),
        ("dead import", AuditPhase::Begun, 4),
        ("dead import", AuditPhase::Ended, 4),
    ];
    assert_eq!(told, expected);
    assert_eq!((events[0].actor.as_str(), events[0].reason.as_str()), ("tester", "a test"));
    assert_eq!(events[0].letters.len(), 4);
    assert_eq!(
        events[0].digest, events[2].digest,
        "the file that was imported is the one that was discarded"
    );
    assert_eq!(events[1].outcomes.get("discarded"), Some(&4));
    Ok(())
}

#[tokio::test]
async fn a_script_is_told_what_was_done_as_an_object() -> Result<()> {
    let (url, broker) = started("dl-json").await?;
    bury(&broker, [without_material("RK1"), without_material("RK2")]).await?;
    let folder = tempfile::tempdir()?;
    let object = async |arguments: &[&str]| -> Result<Value> {
        let (code, output) = kingpost(&url, folder.path(), arguments, &[]).await?;
        assert_eq!(code, Some(0), "{output}");
        let line = output.lines().find(|line| line.starts_with('{')).context("no object")?;
        Ok(serde_json::from_str(line)?)
    };
    let exported = object(&["dead", "export", "--out", "copy.ndjson", "--json"]).await?;
    assert_eq!((&exported["exported"], &exported["file"]), (&json!(2), &json!("copy.ndjson")));
    let discard = ["dead", "discard", "RK1", "--out", "gone.ndjson", "--reason", "a test", "--yes", "--json"];
    let discarded = object(&discard).await?;
    assert_eq!((&discarded["discarded"], &discarded["not_found"]), (&json!(1), &json!(0)));
    let import = ["dead", "import", "gone.ndjson", "--reason", "back", "--json"];
    let (first, second) = (object(&import).await?, object(&import).await?);
    assert_eq!((&first["imported"], &first["there_already"]), (&json!(1), &json!(0)));
    assert_eq!((&second["imported"], &second["there_already"]), (&json!(0), &json!(1)));
    std::fs::write(folder.path().join("new.json"), r#"{"FBillNo":"RK1","FNote":"agreed"}"#)?;
    let edit = ["dead", "edit", "RK1", "--with", "new.json", "--reason", "agreed", "--json"];
    let edited = object(&edit).await?;
    assert_eq!((&edited["number"], edited["edited"].is_string()), (&json!("RK1"), true), "{edited}");
    drop(broker);
    Ok(())
}

#[tokio::test]
async fn only_what_is_meant_is_discarded_and_only_when_somebody_says_so() -> Result<()> {
    let (url, broker) = started("dl-discard").await?;
    let refused = dead(StageName::Load, "RK9", "{}", &Failure::new(FailureKind::Refused, "closed period"));
    bury(&broker, [without_material("RK1"), refused, without_material("RK2")]).await?;
    let folder = tempfile::tempdir()?;
    let run = async |arguments: &[&str]| kingpost(&url, folder.path(), arguments, &[]).await;
    for (arguments, expected) in [
        (&["dead", "discard", "--reason", "x", "--yes"][..], "say which letters are to go"),
        (&["dead", "discard", "RK9", "--reason", "x"], "nobody can be asked here; add --yes"),
        (&["dead", "discard", "RK9", "--reason", " ", "--yes"], "--reason: say why"),
        (&["dead", "discard", "RK9", "--yes"], "--reason"),
        // As an unset variable leaves it.
        (&["dead", "discard", "--cause", "", "--reason", "x", "--yes"], "it is empty"),
    ] {
        let (code, output) = run(arguments).await?;
        assert!(code == Some(2) && output.contains(expected), "{arguments:?}: {output}");
    }
    let (code, output) = run(&["dead", "discard", "RK8", "--reason", "x", "--yes"]).await?;
    assert!(code == Some(1) && output.contains("none of 3 dead letters is meant"), "{output}");
    let left = std::fs::read_dir(folder.path())?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("discarded")).collect();
    assert!(left.is_empty(), "no file is left of what wasn't done: {left:?}");
    assert!(trail(&url).await?.is_empty());

    let (code, output) = run(&["dead", "discard", "--kind", "refused", "--reason", "x", "--yes"]).await?;
    assert!(
        code == Some(0) && output.contains("1 × purchase-stockin load refused: closed period"),
        "{output}"
    );
    let left = letters(&url, StageName::Load).await?;
    let left: Vec<_> = left.iter().map(|letter| letter.work.key.number.as_str()).collect();
    assert_eq!(left, ["RK1", "RK2"], "the others keep their order");
    Ok(())
}

#[tokio::test]
async fn a_file_of_letters_that_were_discarded_earlier_survives_a_second_discard() -> Result<()> {
    let (url, broker) = started("dl-again").await?;
    bury(&broker, [without_material("RK1"), without_material("RK2")]).await?;
    let folder = tempfile::tempdir()?;
    let run = async |arguments: &[&str]| kingpost(&url, folder.path(), arguments, &[]).await;
    let discard = async |number: &str| {
        run(&["dead", "discard", number, "--out", "gone.ndjson", "--reason", "x", "--yes"]).await
    };
    let (code, output) = discard("RK1").await?;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = discard("RK2").await?;
    assert!(code == Some(1) && output.contains("not overwritten"), "{output}");
    let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "x"]).await?;
    assert_eq!(code, Some(0), "the only copy of RK1 is gone: {output}");
    assert_eq!(letters(&url, StageName::Load).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn letters_that_are_alike_come_back_as_often_as_they_were_there() -> Result<()> {
    let (url, broker) = started("dl-alike").await?;
    let mut later = without_material("RK1");
    later.headers = vec![("ticket".into(), "T-1".into())];
    bury(&broker, [without_material("RK1"), without_material("RK1"), later, without_material("RK2")]).await?;
    let folder = tempfile::tempdir()?;
    let run = async |arguments: &[&str]| kingpost(&url, folder.path(), arguments, &[]).await;
    let prints = async || -> Result<Vec<String>> {
        let mut prints: Vec<_> =
            letters(&url, StageName::Load).await?.iter().map(Letter::fingerprint).collect();
        prints.sort();
        Ok(prints)
    };
    let before = prints().await?;
    let discard = ["dead", "discard", "--key", "RK1", "--out", "gone.ndjson", "--reason", "x", "--yes"];
    let (code, output) = run(&discard).await?;
    assert!(code == Some(0) && output.contains("3 dead letters discarded"), "{output}");
    let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "x"]).await?;
    assert!(code == Some(0) && output.contains("3 dead letters imported"), "{output}");
    assert_eq!(prints().await?, before);
    let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "x"]).await?;
    assert!(code == Some(0) && output.contains("nothing to import: 3 letters"), "{output}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_not_whole_publishes_nothing() -> Result<()> {
    let (url, broker) = started("dl-cut").await?;
    bury(&broker, (0..40).map(|n| without_material(&format!("RK{n:02}")))).await?;
    let folder = tempfile::tempdir()?;
    let run = async |arguments: &[&str]| kingpost(&url, folder.path(), arguments, &[]).await;
    let (code, output) =
        run(&["dead", "discard", "--all", "--out", "gone.ndjson", "--reason", "x", "--yes"]).await?;
    assert!(code == Some(0) && output.contains("40 dead letters discarded"), "{output}");
    let path = folder.path().join("gone.ndjson");
    let file = std::fs::read_to_string(&path)?;
    let lines: Vec<&str> = file.lines().collect();
    let cut = lines[..30].join("\n") + "\n";
    for (text, expected) in
        [(cut, "it was cut off"), (file.replacen("12.3400", "99.0000", 1), "SHA-256 differs")]
    {
        std::fs::write(&path, text)?;
        let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "x"]).await?;
        assert!(code == Some(1) && output.contains(expected), "{output}");
        let published = letters(&url, StageName::Load).await?;
        assert!(published.is_empty(), "{expected}: {} letters, {output}", published.len());
    }
    std::fs::write(&path, &file)?;
    let (code, output) = run(&["dead", "import", "gone.ndjson", "--reason", "x"]).await?;
    assert!(code == Some(0) && output.contains("40 dead letters imported"), "{output}");
    let letter: Value = serde_json::from_str(lines[1])?;
    let searchable = ["number", "kind", "text", "code"].iter().all(|name| letter.get(name).is_some());
    assert!(searchable, "a line can be searched by a person: {letter}");
    Ok(())
}
