//! What may be seen of a dead letter without its body.

use anyhow::{Context, Result};
use e2e::{
    lab::{Sandbox, SandboxOptions, shared_broker},
    pipeline::{Pipeline, Schemes, Tempo},
};
use kingpost_model::StageName;
use serde_json::json;

use super::{SOON, letters};

const FROM: &str = "2026-08-01T00:00:00+08:00";
const SECRETS: [&str; 4] = ["KINGDEE_APP_SECRET", "WDT_APP_SECRET", "QIMEN_APP_SECRET", "WDT_APP_KEY"];
/// Names and a telephone number, plainly made up, in fields that people fill in.
const PERSONAL: [&str; 3] = ["王示例-7781", "138-0000-0000", "示例路 99 号"];

#[tokio::test]
async fn headers_explain_a_failure_and_hold_no_secret_and_nothing_personal() -> Result<()> {
    let options = SandboxOptions {
        orders: 24,
        unpostable: 12,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("2h".into()),
        args: vec!["--repeated-numbers".to_owned()],
    };
    let sandbox = Sandbox::start(options).await?;
    let orders = sandbox.orders().await?;
    let refused = |order: &&serde_json::Value| order.get("fate").is_some_and(|fate| fate == "refused");
    let order = orders.as_array().into_iter().flatten().find(refused).context("no refused order")?;
    // A phone number where a quantity belongs: what can't be read is quoted to people, and not in a header.
    let unreadable = json!({"order_no": "RK-PHONE", "status": 80, "warehouse_no": "SH01", "provider_no": "GYS0001",
        "provider_name": PERSONAL[0], "remark": PERSONAL[2], "check_time": "2026-08-01 00:00:00",
        "details_list": [{"spec_no": "SP-1001", "num": PERSONAL[1], "tax_price": "1", "tax": "0.13", "defect": false,
            "remark": PERSONAL[2]}]});
    let named = json!({"order_no": order["order_no"], "provider_name": PERSONAL[0], "remark": PERSONAL[2]});
    sandbox.post("wdt/orders", &json!([unreadable, named])).await?;
    let url = shared_broker().await?.vhost("dl-headers").await?;
    let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: "2s".into() };
    let pipeline = Pipeline::new(url.as_str(), Schemes::at(&tempo)?, &sandbox)?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    pipeline.wait_done(&sandbox, 12, 13, SOON).await?;

    let mut secrets: Vec<&str> =
        SECRETS.iter().map(|name| sandbox.setting(name)).collect::<Result<_, _>>()?;
    // A secret of two halves is not told by half either.
    let halves: Vec<&str> = secrets.iter().flat_map(|secret| secret.split(':')).collect();
    secrets.extend(halves);
    secrets.extend(PERSONAL);
    let mut seen = 0;
    for stage in [StageName::Transform, StageName::Load] {
        for letter in letters(&url, stage).await? {
            let message = letter.to_json();
            let properties = message["properties"].to_string();
            let leaked: Vec<_> = secrets.iter().filter(|secret| properties.contains(**secret)).collect();
            assert!(
                leaked.is_empty(),
                "{leaked:?} in the headers of {}: {properties}",
                letter.work.key.number
            );
            let work = &letter.work;
            let (first, last) = (work.first_failure.as_deref(), work.last_failure.as_deref());
            for record in [first, last] {
                let record = record.context("a letter without its failures")?;
                assert_eq!((record.stage.as_str(), record.attempt), (stage.as_str(), 1));
                assert!(
                    record.at_ms > 0 && record.worker.contains("/0.") && !record.problems.is_empty(),
                    "{record:?}"
                );
            }
            if stage == StageName::Load {
                assert!(letter.failure.code.as_deref().is_some_and(|code| code.starts_with("MsgCode")));
                assert!(letter.failure.text.contains("不存在") || letter.failure.text.contains("已禁用"));
            }
            for header in ["kingpost-scheme", "kingpost-key", "kingpost-stage", "kingpost-document"] {
                assert!(message["properties"]["headers"].get(header).is_some(), "{header}: {properties}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
    Ok(())
}
