//! A plan: which letters are to be sent again, frozen by identity, as a file that a person can read.

use kingpost_model::{FailureKind, Fault};
use serde::{Deserialize, Serialize};

use crate::sealed::Sealed;

/// The layout of the file; another one is refused.
const VERSION: u32 = 2;

/// What is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Its id, which every copy carries.
    pub(crate) plan: String,
    pub(crate) version: u32,
    /// When it was made, in RFC 3339 and in milliseconds since the epoch.
    pub(crate) created: String,
    pub(crate) created_ms: i64,
    pub(crate) created_by: String,
    /// Why, where it was said already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What was asked for, as it was typed.
    pub(crate) selected_by: String,
    /// Whether the orders are read from their source again instead of sending the letters as they are.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) from_source: bool,
    /// The queue that gathers what becomes of the letters.
    pub(crate) replies: String,
    /// Sizes of the canary steps of each cause; the rest follows.
    pub(crate) steps: Vec<usize>,
    /// Host, port and virtual host of the RabbitMQ whose letters are meant.
    pub(crate) broker: String,
    /// SHA-256 over the whole plan, with nothing in the place of this.
    pub(crate) digest: String,
    pub(crate) causes: Vec<Cause>,
    pub(crate) letters: Vec<Entry>,
}

/// Letters that one remedy mends, with a ladder of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cause {
    pub(crate) scheme: String,
    pub(crate) stage: String,
    /// The dead-letter queue they lie in.
    pub(crate) queue: String,
    pub(crate) kind: FailureKind,
    pub(crate) fault: Fault,
    /// What their failures have in common.
    pub(crate) cause: String,
    pub(crate) count: usize,
    /// Some of their numbers.
    pub(crate) samples: Vec<String>,
    /// The queues that they would go to.
    pub(crate) goes_to: Vec<String>,
    /// What has to be done before it makes sense to send them again.
    pub(crate) first: String,
}

/// One letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Index of its cause.
    pub(crate) cause: usize,
    /// Its number at its stage.
    pub(crate) number: String,
    /// Its number in the source, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_number: Option<String>,
    /// Its message id.
    pub(crate) id: String,
    /// SHA-256 of its body.
    pub(crate) sha256: String,
    /// The plan that had sent it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<String>,
    /// When it had failed, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed_ms: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Plan {
    /// A plan of what was selected; its id is that of its reply queue as well.
    pub(crate) fn new(
        id: String,
        created_ms: i64,
        created_by: String,
        selected_by: String,
        causes: Vec<Cause>,
        letters: Vec<Entry>,
    ) -> Self {
        Plan {
            replies: format!("replay.{id}"),
            plan: id,
            version: VERSION,
            created: crate::clock::rfc3339(created_ms).unwrap_or_default(),
            created_ms,
            created_by,
            reason: None,
            selected_by,
            from_source: false,
            steps: super::Rules::default().steps,
            broker: String::new(),
            digest: String::new(),
            causes,
            letters,
        }
    }

    /// The dead-letter queues it takes from, in order, each with scheme and stage.
    pub(crate) fn queues(&self) -> Vec<(String, String, String)> {
        let mut queues: Vec<(String, String, String)> = Vec::new();
        for cause in &self.causes {
            let queue = (cause.queue.clone(), cause.scheme.clone(), cause.stage.clone());
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        queues
    }

    /// The cause of a letter.
    pub(crate) fn cause(&self, entry: &Entry) -> Option<&Cause> {
        self.causes.get(entry.cause)
    }
}

impl Sealed for Plan {
    type Entry = Entry;
    const VERSION: u32 = VERSION;
    const WHAT: &'static str = "plan";

    fn version(&self) -> u32 {
        self.version
    }

    fn digest(&mut self) -> &mut String {
        &mut self.digest
    }

    fn entries(&mut self) -> &mut Vec<Entry> {
        &mut self.letters
    }

    fn check(&self) -> Result<(), String> {
        if self.replies != format!("replay.{}", self.plan) {
            return Err("its reply queue is not its own".to_owned());
        }
        for cause in &self.causes {
            let route = kingpost_model::StageName::parse(&cause.stage)
                .map(|stage| kingpost_model::Route::new(stage, &*cause.scheme).dead_queue());
            if route.as_deref() != Some(cause.queue.as_str()) {
                return Err(format!(
                    "`{}` is not the dead-letter queue of its stage and scheme",
                    cause.queue
                ));
            }
        }
        if self.letters.iter().any(|entry| entry.cause >= self.causes.len()) {
            return Err("a letter has no cause".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A plan with letters of some causes.
    pub(in super::super) fn sample(causes: &[usize]) -> Plan {
        let (mut found, mut letters) = (Vec::new(), Vec::new());
        for (index, count) in causes.iter().enumerate() {
            let numbers: Vec<String> = (0..*count).map(|n| format!("RK{index}{n:04}")).collect();
            found.push(Cause {
                scheme: "s".into(),
                stage: "load".into(),
                queue: "load.s.dead".into(),
                kind: FailureKind::BaseData,
                fault: Fault::Data,
                cause: format!("cause {index}"),
                count: *count,
                samples: numbers.iter().take(5).cloned().collect(),
                goes_to: vec!["load.s".into()],
                first: FailureKind::BaseData.advice().into(),
            });
            letters.extend(numbers.into_iter().map(|number| Entry {
                cause: index,
                id: format!("s-{number}"),
                sha256: hex::encode(Sha256::digest(&number)),
                number,
                source_number: None,
                replay: None,
                failed_ms: Some(1_767_200_000_000),
            }));
        }
        let mut plan = Plan::new(
            "20261123-010203-abcdef".into(),
            1_767_200_400_000,
            "ops@demo".into(),
            "--all".into(),
            found,
            letters,
        );
        plan.seal().unwrap();
        plan
    }

    #[test]
    fn a_plan_survives_its_file_and_has_a_line_per_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        let mut plan = sample(&[3, 2]);
        plan.write(&path).unwrap();
        assert_eq!(Plan::read(&path).unwrap(), plan);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("\"sha256\"")).count(), 5, "{text}");
        assert!(text.contains("\n  \"created_by\": \"ops@demo\",\n"), "{text}");
        assert!(plan.write(&path).is_err(), "a plan is never overwritten");
        assert_eq!(Plan::read(&path).unwrap().queues().len(), 1);
    }

    #[test]
    fn a_plan_that_was_changed_is_refused_with_the_reason() {
        let text = sample(&[3]).to_text().unwrap();
        for (old, new, reason) in [
            ("s-RK00001", "s-RK00009", "digest"),
            ("\"version\": 2", "\"version\": 1", "version"),
            ("\"created_by\": \"ops@demo\"", "\"created_by\": \"me\"", "digest"),
            ("\"cause 0\"", "\"cause 1\"", "digest"),
            ("1767200000000", "1767200000001", "digest"),
            ("\"load.s.dead\"", "\"load.t.dead\"", "digest"),
            ("replay.20261123", "replay.20261124", "digest"),
            ("\"cause\":0", "\"cause\":7", "digest"),
            ("{", "", "expected"),
        ] {
            let error = Plan::parse(&text.replacen(old, new, 1)).unwrap_err();
            assert!(error.contains(reason), "{old} -> {new}: {error}");
        }
    }
}
