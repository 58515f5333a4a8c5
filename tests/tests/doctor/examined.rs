//! `kingpost doctor`: all is well with a healthy installation, and each planted defect fails its own check.

use anyhow::{Context, Result, ensure};
use e2e::{
    lab::{BrokerOptions, PrivateBroker, Sandbox, SandboxOptions, shared_broker, wait_for},
    pipeline::{SCHEME, Schemes, Tempo},
};
use kingpost_broker::UserRights;
use kingpost_model::StageName;
use lapin::{Connection, ConnectionProperties, options, types::FieldTable};
use serde_json::{Value, json};

use crate::{SOON, kingpost};

/// An installation whose queues are declared and whose workers don't run.
struct House {
    url: String,
    sandbox: Sandbox,
    schemes: Schemes,
}

impl House {
    /// On a virtual host of the shared node.
    async fn shared(name: &str) -> Result<Self> {
        Self::at(shared_broker().await?.vhost(name).await?).await
    }

    async fn at(url: String) -> Result<Self> {
        let sandbox =
            Sandbox::start(SandboxOptions { orders: 5, seed: 3, ..SandboxOptions::default() }).await?;
        let house = House { url, sandbox, schemes: Schemes::at(&Tempo::default())? };
        let (code, output) = kingpost(&["topology", "apply"], &house.settings(&[])).await?;
        ensure!(code == Some(0), "{output}");
        Ok(house)
    }

    /// The settings of all stages, and further ones that go before them.
    fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let sandbox = self.sandbox.settings().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = [
            ("AMQP_URL", self.url.as_str()),
            ("SCHEMES_DIR", self.schemes.path().to_str().unwrap_or_default()),
        ];
        sandbox.chain(own).chain(more.iter().copied()).collect()
    }

    /// Every check with its stage, and the exit code.
    async fn doctor(&self, args: &[&str], more: &[(&str, &str)]) -> Result<Checks> {
        let (code, output) = kingpost(&[&["doctor", "--json"], args].concat(), &self.settings(more)).await?;
        ensure!(!output.contains("marker-7f3a"), "a secret is shown: {output}");
        let checks = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Checks { code, checks, output })
    }

    async fn channel(&self) -> Result<(Connection, lapin::Channel)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

struct Checks {
    code: Option<i32>,
    checks: Vec<Value>,
    output: String,
}

impl Checks {
    fn text<'a>(check: &'a Value, name: &str) -> &'a str {
        check.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Stage and name of every check with a result.
    fn with(&self, result: &str) -> Vec<(&str, &str)> {
        let checks = self.checks.iter().filter(|check| Self::text(check, "result") == result);
        checks.map(|check| (Self::text(check, "stage"), Self::text(check, "check"))).collect()
    }

    fn one(&self, stage: &str, name: &str) -> Result<&Value> {
        let mut found = self
            .checks
            .iter()
            .filter(|check| Self::text(check, "stage") == stage && Self::text(check, "check") == name);
        found.next().with_context(|| format!("no check {name} of {stage} in {}", self.output))
    }

    /// These checks have failed and no others, and the first says what was seen and what to do in these words.
    fn only(&self, failed: &[(&str, &str)], seen: &str, remedy: &str) -> Result<()> {
        ensure!(
            self.code == Some(1) && self.with("failed") == failed,
            "{:?}\n{}",
            self.with("failed"),
            self.output
        );
        let (stage, name) = failed.first().copied().unwrap_or_default();
        let check = self.one(stage, name)?;
        ensure!(Self::text(check, "seen").contains(seen), "{seen:?} isn't seen: {check}");
        ensure!(Self::text(check, "remedy").contains(remedy), "{remedy:?} isn't the remedy: {check}");
        Ok(())
    }
}

#[tokio::test]
async fn a_healthy_installation_passes_and_what_the_management_api_shows_is_judged() -> Result<()> {
    let broker = PrivateBroker::start(BrokerOptions { management: true, ..BrokerOptions::default() }).await?;
    let house = House::at(broker.amqp_url()).await?;
    let management = broker.management_url().context("no management")?;
    let api = [("MANAGEMENT_URL", management.as_str())];
    let healthy = house.doctor(&[], &api).await?;
    ensure!(healthy.code == Some(0), "{}", healthy.output);
    ensure!(healthy.with("ok").len() == healthy.checks.len(), "{}", healthy.output);
    for (stage, name) in [
        ("extractor", "reachable"),
        ("extractor", "version"),
        ("extractor", "policies"),
        ("extractor", "alarms"),
        ("extractor", "signature"),
        ("extractor", "clock"),
        ("transformer", "permissions"),
        ("loader", "login"),
        ("loader", "form"),
        ("loader", "metadata"),
        ("loader", "base data"),
        ("loader", "numbers"),
    ] {
        healthy.one(stage, name)?;
    }
    let (code, output) = kingpost(&["doctor"], &house.settings(&api)).await?;
    ensure!(code == Some(0) && output.contains(" 0 failed, 0 skipped"), "{output}");
    // What one user may not compare by AMQP, the API shows.
    let transformer = UserRights::of(StageName::Transform);
    broker.ctl(&["add_user", "mapper", "marker-7f3a"]).await?;
    broker
        .ctl(&["set_permissions", "mapper", transformer.configure, transformer.write, transformer.read])
        .await?;
    let url = house.url.replace("guest:guest", "mapper:marker-7f3a");
    let management = management.replace("://", "://guest:guest@");
    let theirs = [("AMQP_URL", url.as_str()), ("MANAGEMENT_URL", management.as_str())];
    let only = house.doctor(&["--stage", "transformer"], &theirs).await?;
    ensure!(
        only.code == Some(0) && only.one("transformer", "arguments")?["result"] == "ok",
        "{}",
        only.output
    );
    let blind = house.doctor(&["--stage", "transformer"], &theirs[..1]).await?;
    let skipped = [
        ("transformer", "arguments"),
        ("transformer", "policies"),
        ("transformer", "limits"),
        ("transformer", "alarms"),
    ];
    ensure!(blind.code == Some(0) && blind.with("skipped") == skipped, "{}", blind.output);

    let definition = r#"{"max-length":100}"#;
    broker.ctl(&["set_policy", "--apply-to", "queues", "short", r"\.dead$", definition]).await?;
    broker.ctl(&["set_vhost_limits", "-p", "/", r#"{"max-queues":3}"#]).await?;
    // The API shows a policy some seconds after it was set, at one queue sooner than at another.
    let seen = "`max-length: 100` on extract.purchase-stockin.dead (policy short)";
    let touched = wait_for(SOON, "the policy in the management API", async || {
        let checks = house.doctor(&["--stage", "transformer"], &api).await.ok()?;
        let shows = Checks::text(checks.one("transformer", "policies").ok()?, "seen").contains(seen);
        (shows && checks.with("failed").len() == 2).then_some(checks)
    });
    let failed = [("transformer", "policies"), ("transformer", "limits")];
    touched.await?.only(&failed, seen, "narrow the pattern")?;
    Ok(())
}

#[tokio::test]
async fn a_user_without_a_right_is_told_the_command_that_gives_it() -> Result<()> {
    let house = House::shared("doctor-rights").await?;
    let node = shared_broker().await?;
    let (_, vhost) = house.url.rsplit_once('/').context("no virtual host")?;
    let user = format!("doctor-{}", std::process::id());
    node.ctl(&["add_user", &user, "marker-7f3a"]).await?;
    let url = house.url.replace("guest:guest", &format!("{user}:marker-7f3a"));
    let loader = UserRights::of(StageName::Load);
    for (write, read, seen) in [
        (r"^(journal|kingpost\.(work|replies)|wait\..+)$", loader.read, "write kingpost.dead"),
        (loader.write, r"^transform\..+$", "read load.purchase-stockin"),
    ] {
        node.ctl(&["set_permissions", "-p", vhost, &user, "^$", write, read]).await?;
        let checks = house.doctor(&["--stage", "loader"], &[("AMQP_URL", &url)]).await?;
        let remedy = format!("set_permissions -p '{vhost}' '{user}' '^$' '{}'", loader.write);
        checks.only(&[("loader", "permissions")], seen, &remedy)?;
    }
    for stage in StageName::ALL {
        let rights = UserRights::of(stage);
        node.ctl(&["set_permissions", "-p", vhost, &user, rights.configure, rights.write, rights.read])
            .await?;
        let word = rights.name.trim_start_matches("kingpost-");
        let checks = house.doctor(&["--stage", word], &[("AMQP_URL", &url)]).await?;
        ensure!(checks.code == Some(0), "{}", checks.output);
        ensure!(checks.one(word, "permissions")?["result"] == "ok", "{}", checks.output);
    }
    // What was tried left nothing behind.
    let queues = node.ctl(&["list_queues", "-p", vhost, "name", "messages", "--no-table-headers"]).await?;
    ensure!(!queues.contains("doctor"), "{queues}");
    ensure!(queues.lines().all(|line| line.ends_with("\t0")), "something was published: {queues}");
    let wrong = house.url.replace("guest:guest", &format!("{user}:marker-7f3a-wrong"));
    let checks = house.doctor(&["--stage", "loader"], &[("AMQP_URL", &wrong)]).await?;
    checks.only(&[("loader", "reachable")], "ACCESS_REFUSED", "correct the user, password")?;
    ensure!(checks.with("skipped").len() == 9, "{}", checks.output);
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_and_one_with_other_arguments_are_named() -> Result<()> {
    let house = House::shared("doctor-queues").await?;
    let (_connection, channel) = house.channel().await?;
    let queue = format!("load.{SCHEME}");
    channel.queue_delete(queue.as_str().into(), options::QueueDeleteOptions::default()).await?;
    let checks = house.doctor(&[], &[]).await?;
    checks.only(
        &[("extractor", "topology")],
        "1 missing: queue load.purchase-stockin",
        "kingpost topology apply",
    )?;

    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
    let durable = options::QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, arguments).await?;
    let checks = house.doctor(&[], &[]).await?;
    checks.only(&[("extractor", "arguments")], "queue load.purchase-stockin: `x-", "delete it")?;
    Ok(())
}

#[tokio::test]
async fn wrong_secrets_fail_at_the_system_that_refuses_them_and_nothing_else() -> Result<()> {
    let house = House::shared("doctor-secrets").await?;
    let wdt = [("WDT_APP_SECRET", "marker-7f3a:marker-7f3a-salt")];
    let checks = house.doctor(&[], &wdt).await?;
    checks.only(&[("extractor", "signature")], "wdt", "WDT_APP_SECRET")?;
    for auth in ["sign-headers", "login-by-sign"] {
        let kingdee = [("KINGDEE_APP_SECRET", "marker-7f3a"), ("KINGDEE_AUTH", auth)];
        let checks = house.doctor(&[], &kingdee).await?;
        checks.only(&[("loader", "login")], "", "KINGDEE_APP_SECRET")?;
        let rest =
            [("loader", "form"), ("loader", "metadata"), ("loader", "base data"), ("loader", "numbers")];
        ensure!(checks.with("skipped").ends_with(&rest), "{}", checks.output);
        ensure!(checks.one("loader", "form")?["seen"] == "`login` failed", "{}", checks.output);
    }
    let healthy = house.doctor(&[], &[("KINGDEE_AUTH", "login-by-sign")]).await?;
    ensure!(healthy.code == Some(0), "{}", healthy.output);
    // A setting that isn't there is told before anything is asked.
    let checks = house.doctor(&["--stage", "loader"], &[("KINGDEE_APP_SECRET", "")]).await?;
    ensure!(
        checks.code == Some(64) && checks.output.contains("KINGDEE_APP_SECRET: not set"),
        "{}",
        checks.output
    );
    Ok(())
}

#[tokio::test]
async fn what_kingdee_lacks_is_named_field_by_field_and_row_by_row() -> Result<()> {
    let house = House::shared("doctor-kingdee").await?;
    let field = |removed: bool| json!({"name": "FTakeDeliveryBill", "removed": removed});
    house.sandbox.post("kingdee/fields", &field(true)).await?;
    let checks = house.doctor(&["--stage", "loader"], &[]).await?;
    checks.only(
        &[("loader", "metadata")],
        "STK_InStock has no field FTakeDeliveryBill (line ",
        "customised",
    )?;
    house.sandbox.post("kingdee/fields", &field(false)).await?;

    let table = house.schemes.path().join("tables/stock.csv");
    std::fs::write(&table, "warehouse_no,org,stock,department\nSH01,101,CK999,\nHZ02,102,CK002,\n*,100,,\n")?;
    let checks = house.doctor(&["--stage", "loader"], &[]).await?;
    let seen = "CK999 doesn't exist, or this user may not see it (table stock, row SH01, column stock)";
    checks.only(&[("loader", "base data")], "", "correct the row of the table").or_else(|_| {
        // Organisations come first, and are all there.
        let wrong = checks.checks.iter().find(|check| check["result"] == "failed");
        ensure!(wrong.is_some_and(|wrong| wrong.to_string().contains(seen)), "{}", checks.output);
        Ok(())
    })?;
    ensure!(checks.output.contains(seen), "{}", checks.output);
    let disabled = json!({"kind": "organisation", "number": "102", "disabled": true});
    house.sandbox.post("kingdee/base", &disabled).await?;
    let checks = house.doctor(&["--stage", "loader"], &[]).await?;
    ensure!(
        checks.output.contains("102 is forbidden (禁用) (table stock, row HZ02, column org)"),
        "{}",
        checks.output
    );

    let refusal = json!({"kind": "refuse", "msg_code": 2, "message": "没有查看权限"});
    let rule = json!({"system": "kingdee", "operation": "ExecuteBillQuery", "action": refusal});
    house.sandbox.fault(&rule).await?;
    std::fs::write(&table, "warehouse_no,org,stock,department\n*,100,,\n")?;
    let checks = house.doctor(&["--stage", "loader"], &[]).await?;
    checks.only(&[("loader", "form")], "没有查看权限", "view, create, submit and audit STK_InStock")?;
    Ok(())
}

#[tokio::test]
async fn clocks_that_differ_numbers_that_repeat_and_systems_that_hang_are_told() -> Result<()> {
    let house = House::shared("doctor-clock").await?;
    house.sandbox.post("clock", &json!({"skew_seconds": 300})).await?;
    let checks = house.doctor(&[], &[]).await?;
    checks
        .only(&[("extractor", "clock"), ("loader", "clock")], "300 s ahead of this machine's", "NTP")
        .or_else(|_| {
            // A second may have passed between.
            checks.only(
                &[("extractor", "clock"), ("loader", "clock")],
                "299 s ahead of this machine's",
                "NTP",
            )
        })?;
    house.sandbox.post("clock", &json!({"skew_seconds": 0})).await?;

    for number in ["RK1", "rk1", "RK2"] {
        house.sandbox.post("kingdee/documents", &document(number)).await?;
    }
    let checks = house.doctor(&["--stage", "loader"], &[]).await?;
    ensure!(checks.code == Some(0) && checks.with("warning") == [("loader", "numbers")], "{}", checks.output);
    ensure!(checks.output.contains("3 documents of the last 7 days has the number RK1"), "{}", checks.output);

    let rule =
        json!({"operation": "ExecuteBillQuery", "count": null, "action": {"kind": "hang", "when": "before"}});
    house.sandbox.fault(&rule).await?;
    let checks = house.doctor(&["--timeout", "2"], &[]).await?;
    checks.only(&[("loader", "login")], "no answer within 2 s", "--timeout")?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_away_stops_no_check_of_the_other_systems() -> Result<()> {
    let house = House::shared("doctor-away").await?;
    let port = e2e::lab::free_port()?;
    let url = format!("amqp://guest:marker-7f3a@127.0.0.1:{port}/%2f");
    let checks = house.doctor(&[], &[("AMQP_URL", &url)]).await?;
    let failed = [("extractor", "reachable"), ("transformer", "reachable"), ("loader", "reachable")];
    checks.only(&failed, "can't be reached", "start RabbitMQ")?;
    for (stage, name) in [("extractor", "signature"), ("loader", "numbers")] {
        ensure!(checks.one(stage, name)?["result"] == "ok", "{}", checks.output);
    }
    // Without the settings of the systems only the transformer is left, and that is said.
    let only = [
        ("AMQP_URL", house.url.as_str()),
        ("SCHEMES_DIR", house.schemes.path().to_str().unwrap_or_default()),
    ];
    let (code, output) = kingpost(&["doctor", "--json"], &only).await?;
    ensure!(code == Some(0) && output.contains("the loader is not examined"), "{output}");
    ensure!(!output.contains(r#""stage":"extractor""#), "{output}");
    Ok(())
}

fn document(number: &str) -> Value {
    json!({
        "FBillTypeID": {"FNUMBER": "RKD01_SYS"}, "FBillNo": number, "FDate": "2026-08-01",
        "FStockOrgId": {"FNumber": "100"}, "FSupplierId": {"FNumber": "GYS0001"},
        "FInStockEntry": [{"FMaterialId": {"FNumber": "SP-1001"}, "FRealQty": "1", "FTaxPrice": "5",
            "FEntryTaxRate": 13, "FStockId": {"FNumber": "SH01"}}],
    })
}
