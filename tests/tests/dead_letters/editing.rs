//! A document that a person changes.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use kingpost_broker::AuditPhase;
use kingpost_model::{Failure, FailureKind, StageName};
use serde_json::Value;

use super::{bury, dead, kingpost, letters, started, trail, without_material};

#[tokio::test]
async fn an_edited_letter_takes_the_place_of_its_original_which_the_trail_keeps() -> Result<()> {
    let (url, broker) = started("dl-edit").await?;
    let mut ticketed = without_material("RK1");
    ticketed.headers = vec![("ticket".into(), "T-1".into())];
    bury(&broker, [ticketed, without_material("RK2")]).await?;
    let before = letters(&url, StageName::Load).await?;
    let original = before.first().context("no letter")?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("editor.sh");
    std::fs::write(&script, "#!/bin/sh\nsed -i \"s/12.3400/$1/\" \"$2\"\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let run = async |editor: &str, more: &[&str]| {
        let editor = format!("{} {editor}", script.display());
        let arguments = [&["dead", "edit", "RK1", "--reason", "agreed", "--as", "tester"], more].concat();
        kingpost(&url, folder.path(), &arguments, &[("EDITOR", &editor)]).await
    };

    let none = [("EDITOR", "no-such-editor"), ("VISUAL", "")];
    let arguments = ["dead", "edit", "RK1", "--reason", "agreed"];
    let (code, output) = kingpost(&url, folder.path(), &arguments, &none).await?;
    assert!(code == Some(1) && output.contains("set EDITOR, or use --with FILE"), "{output}");
    let (code, output) = run("12.3400", &["--yes"]).await?;
    assert!(code == Some(0) && output.contains("nothing was changed"), "{output}");
    let (code, output) = run("'1,2'", &["--yes"]).await?;
    assert!(
        code == Some(1) && output.contains("no JSON document") && output.contains("is kept in"),
        "{output}"
    );
    let (code, output) = run("7.5", &[]).await?;
    assert!(code == Some(1) && output.contains("nothing was replaced"), "nobody could be asked: {output}");
    assert!(trail(&url).await?.is_empty());
    assert_eq!(letters(&url, StageName::Load).await?.len(), 2);

    let (code, output) = run("7.50", &["--yes"]).await?;
    assert!(code == Some(0) && output.contains("- 12.3400\n    + 7.50"), "{output}");
    let after = letters(&url, StageName::Load).await?;
    assert_eq!(after.len(), 2, "the original is gone");
    let edited = after.iter().find(|letter| letter.work.key.number == "RK1").context("it is lost")?;
    assert_eq!(edited.work.body, r#"{"FBillNo":"RK1","FRealQty":7.50}"#);
    assert!(edited.work.id.as_str().starts_with("purchase-stockin-RK1-edit-"), "{}", edited.work.id);
    assert_eq!(edited.header("kingpost-edited-from"), Some(original.work.id.as_str()));
    assert_eq!(edited.header("kingpost-edited-from-sha256"), Some(&*original.identity().sha256));
    assert_eq!(edited.header("ticket"), Some("T-1"));
    assert_eq!(edited.failure, original.failure);

    let events = trail(&url).await?;
    let phases: Vec<_> = events.iter().map(|event| event.phase).collect();
    assert_eq!(phases, [AuditPhase::Begun, AuditPhase::Ended]);
    assert_eq!(edited.header("kingpost-edit"), Some(&*events[0].action));
    let details = &events[0].details;
    let kept = kingpost_broker::Letter::from_json(&details["original"])?;
    assert_eq!(kept.identity(), original.identity(), "the original can be had back");
    let change = serde_json::json!([{"path": "FRealQty", "from": "12.3400", "to": "7.50"}]);
    assert_eq!(details["changes"], change);
    Ok(())
}

#[tokio::test]
async fn letters_of_one_id_and_body_are_edited_once_and_go_together() -> Result<()> {
    let (url, broker) = started("dl-twins").await?;
    bury(&broker, [without_material("RK1"), without_material("RK2"), without_material("RK1")]).await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("new.json"), r#"{"FBillNo":"RK1","FRealQty":7.50}"#)?;
    let arguments = ["dead", "edit", "RK1", "--with", "new.json", "--reason", "agreed"];
    let (code, output) = kingpost(&url, folder.path(), &arguments, &[]).await?;
    assert!(code == Some(0) && output.contains("1 further letter of the same id and body"), "{output}");
    let after = letters(&url, StageName::Load).await?;
    let mut numbers: Vec<_> = after.iter().map(|letter| letter.work.key.number.as_str()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["RK1", "RK2"], "the old document would be posted beside the new one");
    let events = trail(&url).await?;
    let named = events.first().map(|event| event.letters.len());
    assert_eq!((named, events[0].count), (Some(2), 2));
    assert!(events[0].details["twins"][0]["properties"].is_object(), "{}", events[0].details);
    Ok(())
}

#[tokio::test]
async fn an_order_is_edited_only_into_one_that_its_scheme_can_map() -> Result<()> {
    let (url, broker) = started("dl-order").await?;
    let case = |name: &str| {
        let path =
            e2e::pipeline::shipped_schemes().join("purchase-stockin/cases").join(name).join("input.json");
        std::fs::read_to_string(path)
    };
    let good = case("qimen")?;
    let number = serde_json::from_str::<Value>(&good)?;
    let number = number.get("order_no").and_then(Value::as_str).context("no number")?.to_owned();
    let failure = Failure::new(FailureKind::Unmappable, "one field can't be mapped");
    let broken = good.replacen("\"num\"", "\"nom\"", 1);
    bury(&broker, [dead(StageName::Transform, &number, broken.clone(), &failure)]).await?;
    let folder = tempfile::tempdir()?;
    let run = async |text: &str| {
        std::fs::write(folder.path().join("order.json"), text)?;
        let arguments = ["dead", "edit", &*number, "--with", "order.json", "--reason", "x"];
        kingpost(&url, folder.path(), &arguments, &[]).await
    };
    let (code, output) = run(&broken.replacen('{', "{\"more\":1,", 1)).await?;
    assert!(code == Some(1) && output.contains("can't be mapped: FInStockEntry[1].FRealQty"), "{output}");
    let (code, output) = run(&good.replace(&number, "RK-OTHER")).await?;
    assert!(code == Some(1) && output.contains("an edited order keeps its number"), "{output}");
    let (code, output) = run(&good).await?;
    assert!(code == Some(0) && output.contains("kingpost dead replay"), "{output}");
    let letters = letters(&url, StageName::Transform).await?;
    let edited: Value = serde_json::from_slice(&letters.first().context("no letter")?.work.body)?;
    assert_eq!((letters.len(), edited), (1, serde_json::from_str(&good)?));
    Ok(())
}
