//! Whether an installation would work: each stage's broker, source and target are asked, and nothing is written, taken or
//! left behind.

mod broker;
mod policies;
mod releases;
mod render;
mod skew;
mod source;
mod target;

use std::{collections::BTreeMap, time::Duration};

use kingpost_model::StageName;
use kingpost_scheme::Scheme;
use kingpost_settings::{KingdeeSettings, WdtSettings};

pub(crate) use self::{
    broker::{BrokerPlan, Examined},
    render::{lines, tables},
};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Ok,
    /// It works, and something should be known or done.
    Warning,
    Failed,
    /// It wasn't made, and why.
    Skipped,
}

impl Verdict {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    /// What was seen, or why nothing was looked at.
    pub(crate) seen: String,
    /// What to do; blank where there is nothing to be done.
    pub(crate) remedy: String,
}

impl Judgement {
    fn new(verdict: Verdict, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Judgement { verdict, seen: seen.into(), remedy: remedy.into() }
    }

    pub(crate) fn ok(seen: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, seen, "")
    }

    pub(crate) fn warning(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, seen, remedy)
    }

    pub(crate) fn failed(seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, seen, remedy)
    }

    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self::new(Verdict::Skipped, why, "")
    }

    /// Skipped, since another check has failed.
    pub(crate) fn after(failed: &str) -> Self {
        Self::skipped(format!("`{failed}` failed"))
    }
}

/// One check of one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) stage: StageName,
    /// A word or two, the same in every run.
    pub(crate) check: &'static str,
    /// What was checked: a place, a scheme.
    pub(crate) subject: String,
    pub(crate) judgement: Judgement,
}

/// The findings of one stage.
pub(crate) struct Sheet {
    stage: StageName,
    /// How long one check may take.
    patience: Duration,
    findings: Vec<Finding>,
}

impl Sheet {
    pub(crate) const fn new(stage: StageName, patience: Duration) -> Self {
        Sheet { stage, patience, findings: Vec::new() }
    }

    fn put(&mut self, check: &'static str, subject: &str, judgement: Judgement) {
        let subject = subject.to_owned();
        self.findings.push(Finding { stage: self.stage, check, subject, judgement });
    }

    /// Every one of some checks is skipped, since another has failed.
    fn after(&mut self, failed: &str, checks: &[&'static str], subject: &str) {
        for check in checks {
            self.put(check, subject, Judgement::after(failed));
        }
    }

    /// Makes a check within its deadline.
    async fn within<T>(&self, asking: impl Future<Output = T>) -> Result<T, Judgement> {
        tokio::time::timeout(self.patience, asking).await.map_err(|_| {
            let seen = format!("no answer within {} s", self.patience.as_secs());
            Judgement::failed(seen, "look whether it hangs, or what lies between; --timeout waits longer")
        })
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// The accounts of both systems.
pub(crate) struct Systems<'a> {
    pub(crate) schemes: &'a [Scheme],
    pub(crate) wdt: &'a BTreeMap<Option<String>, WdtSettings>,
    pub(crate) kingdee: &'a BTreeMap<Option<String>, KingdeeSettings>,
}

impl Systems<'_> {
    /// Asks what a stage calls besides the broker; the transformer calls nothing.
    pub(crate) async fn examine(&self, sheet: &mut Sheet) {
        for scheme in self.schemes {
            match sheet.stage {
                StageName::Extract => {
                    if let Some(settings) = self.wdt.get(&scheme.account) {
                        source::examine(sheet, scheme, settings).await;
                    }
                }
                StageName::Transform => {}
                StageName::Load => {
                    if let Some(settings) = self.kingdee.get(&scheme.account) {
                        target::examine(sheet, scheme, settings).await;
                    }
                }
            }
        }
    }
}
