//! The real loader, the sandbox, and a cause that is mended in between.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    account::Account,
    lab::{Sandbox, SandboxOptions, shared_broker},
    pipeline::{Pipeline, SCHEME, Schemes, Tempo},
};
use serde_json::json;

use crate::kingpost;

const FROM: &str = "2026-08-01T00:00:00+08:00";

#[tokio::test]
async fn what_base_data_cures_is_posted_once_and_the_rest_stays_explained() -> Result<()> {
    let options = SandboxOptions {
        orders: 60,
        unpostable: 12,
        seed: 7,
        from: Some(FROM.into()),
        spread: Some("2h".into()),
        args: vec!["--repeated-numbers".to_owned()],
    };
    let sandbox = Sandbox::start(options).await?;
    let url = shared_broker().await?.vhost("replay-pipeline").await?;
    let tempo = Tempo { start: FROM.into(), width: "29d".into(), settle: "2s".into() };
    let pipeline = Pipeline::new(url.as_str(), Schemes::at(&tempo)?, &sandbox)?;
    let _workers = [pipeline.start("extractor")?, pipeline.start("transformer")?, pipeline.start("loader")?];
    pipeline.wait_done(&sandbox, 48, 12, Duration::from_secs(150)).await?;
    // Somebody enables the supplier; materials and the other supplier are still missing.
    sandbox
        .post("kingdee/base", &json!([{"kind": "supplier", "number": "GYS0901", "disabled": false}]))
        .await?;
    let folder = tempfile::tempdir()?;
    let replay =
        ["dead", "replay", "--kind", "base-data", "--reason", "supplier enabled", "--yes", "--verbose"];
    let (code, output) = kingpost(&url, folder.path(), &[&replay[..], &["--wait", "60s"]].concat()).await?;
    assert_eq!(code, Some(1), "materials are still missing: {output}");
    assert!(output.contains("posted as RK"), "{output}");
    assert!(output.contains("failed again at load: base-data"), "{output}");
    pipeline.wait_done(&sandbox, 50, 10, Duration::from_secs(60)).await?;
    let account = Account::take(&sandbox, &url, SCHEME).await?;
    assert!(account.is_sound(), "{}\n{output}", account.report());
    assert_eq!((account.documents, account.dead_letters()), (50, 10), "{}", account.report());
    Ok(())
}
