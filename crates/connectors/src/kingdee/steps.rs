//! Submit and audit: resumable steps, driven by the status that the document has.

use kingpost_kingdee::{
    Catalogue, Class, DocumentStatus, FieldError, KingdeeError, SaveAnswer,
    classify::{Sent, errors_per_document},
};
use kingpost_model::{Failure, FailureKind, Lease};

use super::{
    failures,
    target::{Finish, Job, KingdeeTarget, OneByOne, Progress},
};

/// Status is re-read and steps are tried this often before a refusal is final.
const ROUNDS_MAX: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Submit,
    Audit,
}

fn next_step(finish: Finish, status: &DocumentStatus) -> Option<Step> {
    match (finish, status) {
        (Finish::Save, _) | (_, DocumentStatus::Approved) | (Finish::Submit, DocumentStatus::Submitted) => {
            None
        }
        (Finish::Audit, DocumentStatus::Submitted) => Some(Step::Audit),
        (
            _,
            DocumentStatus::Draft
            | DocumentStatus::Created
            | DocumentStatus::Reopened
            | DocumentStatus::Other(_),
        ) => Some(Step::Submit),
    }
}

/// What a step said about one document.
enum Said {
    Yes,
    /// Its status is not what was thought.
    OtherState,
    No(Failure),
}

impl KingdeeTarget {
    /// Takes every existing document as far as the scheme asks.
    pub(super) async fn finish(&self, jobs: &mut [Job<'_>], lease: &Lease) {
        let mut alone = OneByOne::begin();
        for round in 0..ROUNDS_MAX {
            let mut moved = false;
            for step in [Step::Submit, Step::Audit] {
                let mut due: Vec<&mut Job<'_>> = jobs
                    .iter_mut()
                    .filter(|job| match &job.progress {
                        Progress::There(there) => next_step(self.spec.finish, &there.status) == Some(step),
                        _ => false,
                    })
                    .collect();
                moved |= !due.is_empty();
                if round == 0 {
                    self.step(step, &mut due, lease, false).await;
                    continue;
                }
                // What an answer about several left open gets an answer of its own.
                for job in due {
                    match alone.ended() {
                        Some(failure) => job.fail(failure),
                        None => {
                            self.step(step, &mut [&mut *job], lease, round + 1 == ROUNDS_MAX).await;
                            alone.learn(job);
                        }
                    }
                }
            }
            if !moved {
                break;
            }
        }
        for job in jobs {
            if let Progress::There(there) = &job.progress
                && !self.is_finished(&there.status)
            {
                let text = format!("the document (id {}) stays at status {}", there.id, there.status);
                job.fail(Failure::new(FailureKind::Transient, text));
            }
        }
    }

    async fn step(&self, step: Step, jobs: &mut [&mut Job<'_>], lease: &Lease, last: bool) {
        if jobs.is_empty() {
            return;
        }
        let ids: Vec<String> = jobs.iter().map(|job| id_of(job).to_owned()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let form = self.spec.form.as_str();
        let ready = match self.ready(lease).await {
            Ok(ready) => ready,
            Err(failure) => {
                jobs.iter_mut().for_each(|job| job.fail(failure.clone()));
                return;
            }
        };
        let answer = match step {
            Step::Submit => self.timed("submit", ready.submit(form, &ids)).await,
            Step::Audit => self.timed("audit", ready.audit(form, &ids)).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                jobs.iter_mut().for_each(|job| job.fail(step_failed(&error)));
                return;
            }
        };
        let sent: Vec<Sent<'_>> =
            jobs.iter().zip(&ids).map(|(job, id)| Sent { number: &job.load.number, id }).collect();
        let errors = errors_per_document(&sent, &answer);
        let mut unsure = Vec::new();
        for ((job, sent), errors) in jobs.iter_mut().zip(sent).zip(errors) {
            match said(&answer, sent, &errors) {
                Said::Yes => set_status(job, reached(step)),
                Said::OtherState if last => job.fail(failures::refused_whole(&answer)),
                Said::OtherState => unsure.push(&mut **job),
                Said::No(failure) => job.fail(failure),
            }
        }
        self.read_status(&mut unsure).await;
    }

    /// Reads the status again; the next round goes on from what it is.
    async fn read_status(&self, jobs: &mut [&mut Job<'_>]) {
        if jobs.is_empty() {
            return;
        }
        let numbers: Vec<&str> = jobs.iter().map(|job| job.load.number.as_str()).collect();
        match self.look_up(&numbers).await {
            Ok(found) => {
                for job in jobs {
                    let id = id_of(job).to_owned();
                    let documents = found.get(&job.load.number).map_or(&[][..], Vec::as_slice);
                    match documents.iter().find(|document| document.id == id) {
                        Some(document) => set_status(job, document.status.clone()),
                        None => job.fail(Failure::new(
                            FailureKind::Transient,
                            format!("the document (id {id}) was there and is not found any more"),
                        )),
                    }
                }
            }
            Err(error) => jobs.iter_mut().for_each(|job| job.fail(failures::reading(&error))),
        }
    }
}

fn reached(step: Step) -> DocumentStatus {
    match step {
        Step::Submit => DocumentStatus::Submitted,
        Step::Audit => DocumentStatus::Approved,
    }
}

fn id_of<'a>(job: &'a Job<'_>) -> &'a str {
    match &job.progress {
        Progress::There(there) => &there.id,
        Progress::Absent | Progress::Failed(_) => "",
    }
}

fn set_status(job: &mut Job<'_>, status: DocumentStatus) {
    if let Progress::There(there) = &mut job.progress {
        there.status = status;
    }
}

/// A step has no outcome of its own to lose: the status says it, and the next try reads it.
fn step_failed(error: &KingdeeError) -> Failure {
    let mut failure = failures::writing(error);
    if failure.kind == FailureKind::Unclear {
        failure.kind = FailureKind::Transient;
    }
    failure
}

fn said(answer: &SaveAnswer, document: Sent<'_>, errors: &[FieldError]) -> Said {
    if answer.successes.iter().any(|entity| document.is(entity)) {
        return Said::Yes;
    }
    if errors.is_empty() {
        // Steps answer by document, but not every text names its document: the status decides.
        return Said::OtherState;
    }
    let ruling = Catalogue::builtin().rule(answer.msg_code, errors);
    match ruling.class {
        Class::State | Class::Unclear | Class::Duplicate => Said::OtherState,
        _ => Said::No(failures::refused(&ruling, errors, answer.msg_code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_the_status_and_stop_where_the_scheme_says() {
        let status = DocumentStatus::from;
        assert_eq!(next_step(Finish::Audit, &status("A")), Some(Step::Submit));
        assert_eq!(next_step(Finish::Audit, &status("Z")), Some(Step::Submit));
        assert_eq!(next_step(Finish::Audit, &status("D")), Some(Step::Submit));
        assert_eq!(next_step(Finish::Audit, &status("B")), Some(Step::Audit));
        assert_eq!(next_step(Finish::Audit, &status("C")), None);
        assert_eq!(next_step(Finish::Submit, &status("B")), None);
        assert_eq!(next_step(Finish::Submit, &status("C")), None);
        assert_eq!(next_step(Finish::Save, &status("Z")), None);
    }
}
