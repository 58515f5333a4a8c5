//! What became of a message, told to whoever asked for it.

use serde::{Deserialize, Serialize};

use crate::{FailureRecord, LoadedHow, Work};

/// The direct exchange that carries reports; routing key = the queue that the message names in `reply-to`. A report
/// that no queue takes is dropped: nobody waits for it any more.
pub const REPLY_EXCHANGE: &str = "kingpost.replies";

/// How a message ended, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The document is durably in the target, or has nothing to be there for.
    Loaded {
        /// Its number in the target.
        #[serde(rename = "target_number")]
        number: String,
        /// The target's internal id; empty where there is no document.
        id: String,
        /// How it came to be there.
        how: LoadedHow,
    },
    /// The scheme's filter leaves the document out.
    Filtered,
    /// A window was read to its end, or cut in halves that are read on their own.
    Read {
        /// Documents, or halves, that were handed on.
        handed_on: u64,
        /// It was cut.
        #[serde(default)]
        split: bool,
    },
    /// It failed and is tried again.
    Waiting {
        /// After at least this many milliseconds.
        after_ms: u64,
        /// Why.
        failure: FailureRecord,
    },
    /// It is a dead letter again.
    Dead {
        /// Why.
        failure: FailureRecord,
    },
}

impl Outcome {
    /// True when nothing more will be heard of the message.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Outcome::Waiting { .. })
    }
}

/// A report as it travels: a JSON body of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The id of the message that is reported on.
    pub work_id: String,
    /// Its stage.
    pub stage: String,
    /// Its scheme.
    pub scheme: String,
    /// Its document type and number.
    pub document: String,
    /// Its number at this stage.
    pub number: String,
    /// Its number in the source, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_number: Option<String>,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Program and version that reports.
    pub worker: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Report {
    /// The report of some work.
    pub fn of(work: &Work, outcome: Outcome, at_ms: i64, worker: &str) -> Self {
        Report {
            work_id: work.id.as_str().to_owned(),
            stage: work.stage.as_str().to_owned(),
            scheme: work.scheme.clone(),
            document: work.key.document.clone(),
            number: work.key.number.clone(),
            source_number: work.source_number.clone(),
            at_ms,
            worker: worker.to_owned(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, FailureKind, RecordKey, StageName, WorkId};

    #[test]
    fn a_report_survives_its_way() {
        let key = RecordKey::new("STK_InStock", "RK1");
        let work = Work::new(WorkId::new("w1"), StageName::Load, "s", key, "{}");
        let failure =
            FailureRecord::of(&Failure::new(FailureKind::BaseData, "物料[A]不存在"), &work, 5, "w/1");
        for (outcome, is_final) in [
            (Outcome::Loaded { number: "RK1".into(), id: "7".into(), how: LoadedHow::AlreadyThere }, true),
            (Outcome::Filtered, true),
            (Outcome::Read { handed_on: 3, split: false }, true),
            (Outcome::Waiting { after_ms: 5_000, failure: failure.clone() }, false),
            (Outcome::Dead { failure }, true),
        ] {
            let report = Report::of(&work, outcome, 9, "kingpost-loader/0");
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report, "{json}");
            assert_eq!(report.outcome.is_final(), is_final);
        }
    }
}
