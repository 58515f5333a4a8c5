//! Saving a batch, and deciding document by document what became of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kingpost_kingdee::{
    DocumentStatus, Entity, SaveAnswer,
    classify::{DocumentOutcome, Doubt, per_document},
};
use kingpost_model::{Failure, FailureKind, Lease, LoadedHow};

use super::{
    failures,
    look_up::Found,
    target::{Job, KingdeeTarget, OneByOne, Progress},
};

impl KingdeeTarget {
    /// Saves every absent document: together first, then alone those that the answer about all doesn't decide.
    pub(super) async fn save(&self, jobs: &mut [Job<'_>], lease: &Lease) {
        let mut absent: Vec<&mut Job<'_>> =
            jobs.iter_mut().filter(|job| matches!(job.progress, Progress::Absent)).collect();
        if absent.is_empty() {
            return;
        }
        self.save_once(&mut absent, lease).await;
        if absent.len() > 1 {
            // What is still absent was not mentioned in an answer that spoke of others; alone, its answer is its own.
            let mut alone = OneByOne::begin();
            for job in absent.into_iter().filter(|job| matches!(job.progress, Progress::Absent)) {
                match alone.ended() {
                    Some(failure) => job.fail(failure),
                    None => {
                        self.save_once(&mut [&mut *job], lease).await;
                        alone.learn(job);
                    }
                }
            }
        }
        for job in jobs.iter_mut().filter(|job| matches!(job.progress, Progress::Absent)) {
            let text = "Kingdee answered, but neither with a success nor with a refusal of this document";
            job.fail(Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight());
        }
    }

    async fn save_once(&self, jobs: &mut [&mut Job<'_>], lease: &Lease) {
        let models: Vec<Bytes> = jobs.iter().map(|job| job.load.model.clone()).collect();
        let ready = match self.ready(lease).await {
            Ok(ready) => ready,
            Err(failure) => {
                jobs.iter_mut().for_each(|job| job.fail(failure.clone()));
                return;
            }
        };
        let call = ready.batch_save(&self.spec.form, &self.spec.options, &models);
        match self.timed("save", call).await {
            Ok(answer) => self.decide(jobs, &answer).await,
            Err(error) => jobs.iter_mut().for_each(|job| job.fail(failures::writing(&error))),
        }
    }

    async fn decide(&self, jobs: &mut [&mut Job<'_>], answer: &SaveAnswer) {
        let sent: Vec<&str> = jobs.iter().map(|job| job.load.number.as_str()).collect();
        let outcomes = per_document(&sent, answer);
        let mut doubts = Vec::new();
        for (job, outcome) in jobs.iter_mut().zip(outcomes) {
            match outcome {
                DocumentOutcome::Saved { id } => job.there(id, DocumentStatus::Created, LoadedHow::Posted),
                DocumentOutcome::Failed { ruling, errors } => {
                    job.fail(failures::refused(&ruling, &errors, answer.msg_code));
                }
                DocumentOutcome::Verify { why, errors } => doubts.push((&mut **job, why, errors)),
            }
        }
        if doubts.is_empty() {
            return;
        }
        let numbers: Vec<&str> = doubts.iter().map(|(job, ..)| job.load.number.as_str()).collect();
        match self.look_up(&numbers).await {
            Ok(found) => {
                let stray = stray(answer, &sent, &found);
                for (job, why, errors) in doubts {
                    let documents = found.get(&job.load.number).map_or(&[][..], Vec::as_slice);
                    let words = errors.first().map_or("", |e| e.message.as_str());
                    // Posted again, it would be there twice, each time under a number of Kingdee's own.
                    let why = match (why, stray) {
                        (Doubt::NotMentioned, Some(number)) => {
                            Doubt::OtherNumber { number: number.to_owned() }
                        }
                        (why, _) => why,
                    };
                    self.resolve(job, &why, words, documents);
                }
            }
            // The answer left it open and the look-up failed: the next try looks it up first.
            Err(error) => {
                for (job, ..) in doubts {
                    let text = format!("the outcome of the save is open, and the look-up failed: {error}");
                    job.fail(Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight());
                }
            }
        }
    }

    /// Settles one doubt by what the look-up found.
    fn resolve(&self, job: &mut Job<'_>, why: &Doubt, words: &str, documents: &[Found]) {
        match (documents, why) {
            ([one], _) => {
                self.adopt(job, one);
                // Only a document that this call was refused for was there before it.
                if let (Progress::There(there), false) = (&mut job.progress, *why == Doubt::Duplicate) {
                    there.how = LoadedHow::Posted;
                }
            }
            ([_, _, ..], _) => {
                let text =
                    format!("{} documents hold this number; delete all but the right one", documents.len());
                job.fail(Failure::new(FailureKind::Conflict, text).with_code("duplicate"));
            }
            ([], Doubt::NotMentioned) => job.progress = Progress::Absent,
            ([], Doubt::Duplicate) => {
                let text = format!(
                    "Kingdee says the number is taken, but the user can't see the document: {words}; \
                     look for it in other organisations and among deleted documents"
                );
                job.fail(Failure::new(FailureKind::Conflict, text).with_code("MsgCode 11"));
            }
            ([], Doubt::OtherNumber { number }) => {
                let text = format!(
                    "Kingdee saved a document of this call under its own number {number}: a code rule (编码规则) \
                     overrides FBillNo; allow manual numbers for this form, see whether {number} is this document, \
                     delete it if so, then replay"
                );
                job.fail(Failure::new(FailureKind::Conflict, text));
            }
            ([], Doubt::Unclear | Doubt::NoId) => {
                let text = if words.is_empty() { "the answer leaves it open" } else { words };
                job.fail(Failure::new(FailureKind::Unclear, text).leaving_a_write_in_flight());
            }
        }
    }
}

/// The number of a document that this call made and that is none of those sent, by number or by what was found.
fn stray<'a>(answer: &'a SaveAnswer, sent: &[&str], found: &BTreeMap<String, Vec<Found>>) -> Option<&'a str> {
    let is_known = |entity: &Entity| {
        sent.contains(&entity.number.as_str()) || found.values().flatten().any(|there| there.id == entity.id)
    };
    answer.successes.iter().find(|entity| !is_known(entity)).map(|entity| entity.number.as_str())
}
