//! The broker, as the user of a stage meets it.

use std::collections::{BTreeMap, BTreeSet};

use kingpost_broker::{
    BrokerConfig, ConnectError, Examiner, JournalKeep, MissingRight, PartReport, PartState, Topology,
    UserRights, release,
};
use kingpost_model::StageName;
use kingpost_settings::ExposeSecret as _;

use super::{Judgement, Sheet, policies, releases, skew};
use crate::management::{Management, QueueInfo};

/// Names that are listed; more are counted.
const NAMED: usize = 6;
/// Connections that one worker of each stage, a standby loader and a person's command hold.
const CONNECTIONS: i64 = 20;

const SET: &str =
    "set MANAGEMENT_URL to RabbitMQ's management API, with a user that has the tag `monitoring`";

/// What is asked of a broker.
pub(crate) struct BrokerPlan<'a> {
    pub(crate) topology: &'a Topology,
    /// Nothing where no journal is wanted.
    pub(crate) journal: Option<JournalKeep>,
    pub(crate) management: Option<&'a Management>,
}

/// Places that were examined already: what isn't a matter of the user is asked once.
pub(crate) type Examined = BTreeSet<String>;

/// What isn't a matter of the user.
const COMMON: [&str; 8] =
    ["tls", "version", "topology", "arguments", "journal", "policies", "limits", "alarms"];

impl BrokerPlan<'_> {
    /// Asks the broker with the user of a stage.
    pub(crate) async fn examine(&self, sheet: &mut Sheet, config: &BrokerConfig, examined: &mut Examined) {
        let place = config.place().unwrap_or_else(|error| error.to_string());
        let common = !examined.contains(&place);
        let examiner = match sheet.within(Examiner::open(config)).await {
            Err(late) => Err(late),
            Ok(Err(error)) => Err(away(&error)),
            Ok(Ok(examiner)) => Ok(examiner),
        };
        let examiner = match examiner {
            Ok(examiner) => examiner,
            Err(judgement) => {
                sheet.put("reachable", &place, judgement);
                sheet.after("reachable", &["permissions"], &place);
                if common {
                    sheet.after("reachable", &COMMON, &place);
                }
                return;
            }
        };
        sheet.put("reachable", &place, Judgement::ok(format!("connected as {}", examiner.user())));
        self.permissions(sheet, &examiner, &place).await;
        if common {
            examined.insert(place.clone());
            sheet.put("tls", &place, tls(config));
            version(sheet, config, &place).await;
            self.declared(sheet, config, &examiner.vhost(), &place).await;
        }
        examiner.close().await;
    }

    async fn permissions(&self, sheet: &mut Sheet, examiner: &Examiner, place: &str) {
        let stage = sheet.stage;
        let judgement = match sheet.within(examiner.missing_rights(stage, self.topology)).await {
            Err(late) => late,
            Ok(Err(error)) => Judgement::failed(error.to_string(), "look into RabbitMQ's log, and try again"),
            Ok(Ok(missing)) => permitted(stage, &missing, &examiner.user(), &examiner.vhost()),
        };
        sheet.put("permissions", place, judgement);
    }

    /// What is declared, and what touches it.
    async fn declared(&self, sheet: &mut Sheet, config: &BrokerConfig, vhost: &str, place: &str) {
        let reports = match sheet.within(self.topology.apply(config, true)).await {
            Err(late) => Err(late),
            Ok(Err(error)) => Err(away(&error)),
            Ok(Ok(reports)) => Ok(reports),
        };
        let queues = match self.management {
            None => None,
            Some(management) => Some(match sheet.within(management.queues(vhost)).await {
                Ok(answer) => answer,
                Err(late) => Err(late.seen),
            }),
        };
        match reports {
            Err(judgement) => {
                sheet.put("topology", place, judgement);
                sheet.after("topology", &["arguments"], place);
            }
            Ok(reports) => {
                sheet.put("topology", place, there(&reports));
                sheet.put("arguments", place, self.arguments(&reports, queues.as_ref()));
            }
        }
        self.journal(sheet, config, place).await;
        self.managed(sheet, vhost, place, queues).await;
    }

    fn arguments(
        &self,
        reports: &[PartReport],
        queues: Option<&Result<BTreeMap<String, QueueInfo>, String>>,
    ) -> Judgement {
        let differs = |report: &PartReport| match &report.state {
            PartState::Differs(difference) => Some(format!("{} {}: {difference}", report.what, report.name)),
            _ => None,
        };
        let different: Vec<String> = reports.iter().filter_map(differs).collect();
        match queues {
            // It knows all differences, where AMQP tells the first one only.
            Some(Ok(queues)) if different.iter().all(|text| text.starts_with("queue ")) => {
                policies::arguments(&self.topology.queues(), queues)
            }
            _ if !different.is_empty() => Judgement::failed(different.join("; "), policies::DIFFERS),
            _ => {
                let compared = reports.iter().filter(|report| report.state == PartState::There).count();
                if compared > 0 {
                    return Judgement::ok(format!(
                        "{compared} queues and exchanges as this release declares them"
                    ));
                }
                Judgement::skipped(format!(
                    "AMQP compares arguments only for who may declare, which this user may not; {SET}"
                ))
            }
        }
    }

    async fn journal(&self, sheet: &mut Sheet, config: &BrokerConfig, place: &str) {
        let Some(keep) = &self.journal else { return };
        let remedy = "run `kingpost topology apply`, or say JOURNAL=off; `kingpost trace` knows less without it, and all else works";
        let judgement = match sheet.within(keep.apply(config, true)).await {
            Err(late) => Judgement::warning(late.seen, remedy),
            Ok(Err(error)) => Judgement::warning(format!("it isn't there: {error}"), remedy),
            Ok(Ok(reports)) if reports.iter().any(|report| report.state == PartState::Missing) => {
                Judgement::warning("it isn't there", remedy)
            }
            Ok(Ok(_)) => Judgement::ok("it is there"),
        };
        sheet.put("journal", place, judgement);
    }

    /// What only the management API tells.
    async fn managed(
        &self,
        sheet: &mut Sheet,
        vhost: &str,
        place: &str,
        queues: Option<Result<BTreeMap<String, QueueInfo>, String>>,
    ) {
        let (Some(management), Some(queues)) = (self.management, queues) else {
            for check in ["policies", "limits", "alarms"] {
                sheet.put(check, place, Judgement::skipped(format!("AMQP doesn't tell; {SET}")));
            }
            return;
        };
        let declared = self.topology.queues();
        match &queues {
            Err(why) => {
                sheet.put("policies", place, Judgement::failed(why.clone(), "correct MANAGEMENT_URL"))
            }
            Ok(queues) => sheet.put("policies", place, policies::policies(&declared, queues)),
        }
        let there = queues.as_ref().map_or(0, BTreeMap::len);
        let missing = queues
            .as_ref()
            .map_or(0, |queues| declared.iter().filter(|(name, _)| !queues.contains_key(name)).count());
        let limits = match sheet.within(management.limits(vhost)).await {
            Err(late) => late,
            Ok(Err(why)) => Judgement::warning(format!("can't be seen: {why}"), "correct MANAGEMENT_URL"),
            Ok(Ok(limits)) => limited(&limits, there, missing),
        };
        sheet.put("limits", place, limits);
        let alarms = match sheet.within(management.alarms()).await {
            Err(late) => late,
            Ok(Err(why)) => Judgement::warning(format!("can't be seen: {why}"), "correct MANAGEMENT_URL"),
            Ok(Ok(None)) => Judgement::ok("no memory or disk alarm is in force"),
            Ok(Ok(Some(alarm))) => {
                let remedy = "free memory or disk of RabbitMQ: until then nothing is published";
                Judgement::failed(alarm, remedy)
            }
        };
        sheet.put("alarms", place, alarms);
        if let Ok(Ok(overview)) = sheet.within(management.overview()).await {
            sheet.put("clock", place, skew::judge("RabbitMQ", overview.ahead_s, None));
        }
    }
}

fn away(error: &ConnectError) -> Judgement {
    let remedy = match error {
        ConnectError::Refused(_) => {
            "correct the user, password or virtual host in AMQP_URL; `kingpost topology users` makes users for each stage"
        }
        ConnectError::Absent(_) => {
            "start RabbitMQ, or correct host, port and certificates in AMQP_URL and AMQP_CA_FILE"
        }
    };
    Judgement::failed(error.to_string(), remedy)
}

fn permitted(stage: StageName, missing: &[MissingRight], user: &str, vhost: &str) -> Judgement {
    if missing.is_empty() {
        return Judgement::ok(format!("{user} may do all that this stage does"));
    }
    let list: Vec<String> = missing.iter().map(|right| format!("{} {}", right.right, right.name)).collect();
    let seen = format!("{user} may not {}", named(&list));
    let rights = UserRights::of(stage);
    let remedy = format!(
        "rabbitmqctl set_permissions -p '{vhost}' '{user}' '{}' '{}' '{}'",
        rights.configure, rights.write, rights.read
    );
    if missing.iter().all(|right| right.dispensable) {
        return Judgement::warning(format!("{seen}; the stage works without"), remedy);
    }
    Judgement::failed(seen, remedy)
}

fn tls(config: &BrokerConfig) -> Judgement {
    let Ok(url) = (config.url)() else { return Judgement::skipped("the URL can't be read") };
    let (scheme, rest) = url.expose_secret().split_once("://").unwrap_or_default();
    if scheme == "amqps" {
        return Judgement::ok("encrypted, and the broker's certificate is trusted");
    }
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split([':', '/', '?']).next().unwrap_or_default();
    if host == "localhost" || host.starts_with("127.") {
        return Judgement::ok("not encrypted, and doesn't leave this machine");
    }
    Judgement::warning(
        "not encrypted: the password and every document can be read on the way",
        "use amqps:// where the network isn't yours alone; AMQP_CA_FILE adds an authority of your own",
    )
}

async fn version(sheet: &mut Sheet, config: &BrokerConfig, place: &str) {
    let judgement = match sheet.within(release(config)).await {
        Err(late) => late,
        Ok(Ok(Some(version))) => releases::judge(&version),
        Ok(Ok(None)) => {
            Judgement::warning("the broker names no version", "see that it is RabbitMQ 3.10 or later")
        }
        Ok(Err(error)) => Judgement::warning(error.to_string(), "see that it is RabbitMQ 3.10 or later"),
    };
    sheet.put("version", place, judgement);
}

fn there(reports: &[PartReport]) -> Judgement {
    let of = |state: fn(&PartState) -> bool| -> Vec<String> {
        let found = reports.iter().filter(|report| report.what != "binding" && state(&report.state));
        found.map(|report| format!("{} {}", report.what, report.name)).collect()
    };
    let missing = of(|state| *state == PartState::Missing);
    if !missing.is_empty() {
        return Judgement::failed(
            format!("{} missing: {}", missing.len(), named(&missing)),
            "run `kingpost topology apply` as a user who may declare (kingpost-topology); workers that may declare do so at their start",
        );
    }
    let hidden = of(|state| matches!(state, PartState::Refused(_)));
    let all = reports.iter().filter(|report| report.what != "binding").count();
    let hidden = match hidden.len() {
        0 => String::new(),
        count => format!(", but for {count} that this user may not look for"),
    };
    Judgement::ok(format!("{all} queues and exchanges are there{hidden}; bindings can't be asked about"))
}

fn limited(limits: &BTreeMap<String, i64>, there: usize, missing: usize) -> Judgement {
    let unseen = "the consumer timeout (leave it at 30 minutes) and the largest message can't be seen";
    let mut tight = Vec::new();
    for (name, most) in limits {
        let needed = match name.as_str() {
            "max-queues" => i64::try_from(there + missing).unwrap_or(i64::MAX),
            "max-connections" => CONNECTIONS,
            _ => continue,
        };
        if *most >= 0 && *most < needed {
            tight.push(format!("{name} is {most}, and {needed} are needed"));
        }
    }
    if tight.is_empty() {
        let seen = if limits.is_empty() {
            "the virtual host has none"
        } else {
            "those of the virtual host are wide enough"
        };
        return Judgement::ok(format!("{seen}; {unseen}"));
    }
    Judgement::failed(
        tight.join("; "),
        "raise the limits of the virtual host: rabbitmqctl set_vhost_limits (locks are queues as well, one per scheme and account)",
    )
}

fn named(list: &[String]) -> String {
    let shown: Vec<&str> = list.iter().take(NAMED).map(String::as_str).collect();
    let rest = list.len().saturating_sub(shown.len());
    let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use kingpost_broker::Right;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn missing_rights_come_with_the_command_that_gives_them() {
        let right = |name: &str, dispensable| MissingRight {
            right: Right::Write,
            name: name.to_owned(),
            dispensable,
        };
        let permitted = |missing: &[MissingRight]| permitted(StageName::Load, missing, "kp", "/");
        assert_eq!(permitted(&[]).verdict, Verdict::Ok);
        assert_eq!(permitted(&[right("journal", true)]).verdict, Verdict::Warning);
        let judgement = permitted(&[right("journal", true), right("kingpost.dead", false)]);
        assert_eq!(judgement.verdict, Verdict::Failed);
        assert_eq!(judgement.seen, "kp may not write journal, write kingpost.dead");
        assert!(
            judgement.remedy.starts_with("rabbitmqctl set_permissions -p '/' 'kp' '^$' "),
            "{judgement:?}"
        );
    }

    #[test]
    fn a_password_on_an_open_network_is_worth_a_warning() {
        for (url, verdict) in [
            ("amqps://u:p@mq.example/%2f", Verdict::Ok),
            ("amqp://u:p@127.0.0.1:5672/%2f", Verdict::Ok),
            ("amqp://localhost/%2f", Verdict::Ok),
            ("amqp://u:p@mq.example/%2f", Verdict::Warning),
        ] {
            assert_eq!(tls(&BrokerConfig::for_url(url, "test")).verdict, verdict, "{url}");
        }
    }

    #[test]
    fn what_is_missing_is_named_and_a_binding_is_no_matter() {
        let part = |what, name: &str, state| PartReport { what, name: name.to_owned(), state };
        let mut parts = vec![
            part("queue", "load.s", PartState::ThereUnseen),
            part("binding", "x", PartState::Missing),
            part("queue", "extract.s", PartState::Refused("ACCESS_REFUSED".to_owned())),
        ];
        let judgement = there(&parts);
        assert_eq!(judgement.verdict, Verdict::Ok);
        assert!(judgement.seen.contains("2 queues and exchanges are there, but for 1"), "{judgement:?}");
        parts.extend((0..8).map(|n| part("queue", &format!("wait.{n}"), PartState::Missing)));
        let judgement = there(&parts);
        assert!(
            judgement.seen.contains("8 missing") && judgement.seen.ends_with("and 2 more"),
            "{judgement:?}"
        );
        assert!(judgement.remedy.contains("topology apply"));
    }

    #[test]
    fn tight_limits_fail() {
        let limits = |name: &str, most| BTreeMap::from([(name.to_owned(), most)]);
        assert_eq!(limited(&BTreeMap::new(), 20, 0).verdict, Verdict::Ok);
        assert_eq!(limited(&limits("max-queues", 30), 20, 10).verdict, Verdict::Ok);
        assert_eq!(limited(&limits("max-queues", 29), 20, 10).verdict, Verdict::Failed);
        assert_eq!(limited(&limits("max-connections", 5), 20, 0).verdict, Verdict::Failed);
        assert_eq!(limited(&limits("max-connections", -1), 20, 0).verdict, Verdict::Ok);
    }
}
