//! Kingdee as a ledger: it commits before an answer is lost, after it is lost, or not at all, and its answers say less
//! than they should. No network, no clock; what it does is decided by dice that a test is given.

use std::collections::BTreeSet;

use kingpost_connectors::{TIMED_OUT, kingdee::life::Seen};
use kingpost_kingdee::{DocumentStatus, Entity, FieldError, SaveAnswer};
use kingpost_model::{Failure, FailureKind};

/// How long a write takes to show at most, from when it was sent.
pub(crate) const SETTLE_MS: u64 = 240_000;

/// Decisions from a script; when it is used up, everything goes well.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    script: std::vec::IntoIter<u8>,
}

impl Dice {
    pub(crate) fn new(script: Vec<u8>) -> Self {
        Dice { script: script.into_iter() }
    }

    /// 0, the usual, or one of `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.script.next().map_or(0, |face| u64::from(face) % sides)
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.roll(one_in) == one_in - 1
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) status: &'static str,
    /// Which version of the source document it holds; what a person typed is none of them.
    pub(crate) version: u32,
    pub(crate) written_ms: u64,
}

/// A document as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) number: String,
    pub(crate) version: u32,
    /// The document that it is to overwrite.
    pub(crate) id: Option<String>,
}

/// The version of what a person typed.
pub(crate) const TYPED: u32 = 1_000;

/// What Kingdee is like throughout a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nature {
    /// It refuses a number that is in use.
    pub(crate) unique: bool,
    /// It refuses a whole call for one document, without saying which.
    pub(crate) all_or_nothing: bool,
    /// Numbers of documents that it never saves.
    pub(crate) unsavable: BTreeSet<String>,
    /// Numbers of documents that it never audits.
    pub(crate) unauditable: BTreeSet<String>,
    /// Numbers of documents whose audit it always breaks off.
    pub(crate) stuck: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) nature: Nature,
    pub(crate) now_ms: u64,
    pub(crate) documents: Vec<Document>,
    /// Saves that are still running on the server: when they commit, and what.
    pub(crate) running: Vec<(u64, Sent)>,
    /// Numbers of which an answer has said, without a doubt, that they are refused for their data.
    pub(crate) told: BTreeSet<String>,
}

/// What a write came to: an answer, or why there is none.
pub(crate) type Answer = Result<SaveAnswer, Failure>;

/// Statuses of documents that are drafts still.
pub(crate) const DRAFTS: [&str; 3] = ["Z", "A", "D"];

const LOCKED: &str = "使用业务单据：“采购订单”冲突，请稍候再使用";
pub(crate) const INVALID: &str = "第2行分录，批号不能为空";

fn error(index: Option<usize>, message: String) -> FieldError {
    FieldError { field: None, message, index: index.and_then(|at| i64::try_from(at).ok()) }
}

pub(crate) fn whole(msg_code: i64, message: &str) -> SaveAnswer {
    SaveAnswer {
        errors: vec![error(None, message.to_owned())],
        msg_code: Some(msg_code),
        ..SaveAnswer::default()
    }
}

fn silence(dice: &mut Dice) -> Answer {
    let failure = Failure::new(FailureKind::Unclear, "no answer").leaving_a_write_in_flight();
    Err(if dice.chance(2) { failure.with_code(TIMED_OUT) } else { failure })
}

impl Ledger {
    /// Lets time pass, and what is due commit.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        let (now, running) = (self.now_ms, std::mem::take(&mut self.running));
        let (due, later): (Vec<_>, Vec<_>) = running.into_iter().partition(|(at, _)| *at <= now);
        self.running = later;
        due.into_iter().for_each(|(_, sent)| drop(self.commit(&sent)));
    }

    pub(crate) fn of(&self, number: &str) -> Vec<&Document> {
        self.documents.iter().filter(|document| document.number == number).collect()
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Document> {
        self.documents.iter_mut().find(|document| document.id == id)
    }

    /// What a look-up of a number shows to whoever has this version of it.
    pub(crate) fn seen(&self, number: &str, version: u32) -> Vec<Seen> {
        let seen = |document: &&Document| Seen {
            id: document.id.clone(),
            status: DocumentStatus::from(document.status),
            cancelled: false,
            written_s: i64::try_from(document.written_ms / 1_000).ok(),
            difference: (document.version != version).then(|| format!("version {} there", document.version)),
        };
        self.of(number).iter().map(seen).collect()
    }

    /// Makes a document durable, or says why not: its number is taken, or it is no draft.
    pub(crate) fn commit(&mut self, sent: &Sent) -> Result<String, &'static str> {
        let written_ms = self.now_ms;
        if let Some(id) = &sent.id {
            let document = self.find(id).ok_or("数据不存在")?;
            if !DRAFTS.contains(&document.status) {
                return Err("单据当前状态不允许修改");
            }
            (document.version, document.written_ms) = (sent.version, written_ms);
            return Ok(id.clone());
        }
        if self.nature.unique && !self.of(&sent.number).is_empty() {
            return Err("违反字段唯一性要求：编码唯一。在当前系统中已经被使用。");
        }
        let id = (100_001 + self.documents.len()).to_string();
        let (number, version) = (sent.number.clone(), sent.version);
        self.documents.push(Document { id: id.clone(), number, status: "A", version, written_ms });
        Ok(id)
    }

    /// A person edits one of the drafts of which no write is running, or submits it.
    pub(crate) fn meddle(&mut self, dice: &mut Dice) {
        let now_ms = self.now_ms;
        let running: Vec<String> = self.running.iter().map(|(_, sent)| sent.number.clone()).collect();
        let is_free = |document: &&mut Document| {
            DRAFTS.contains(&document.status) && !running.contains(&document.number)
        };
        let mut drafts: Vec<&mut Document> = self.documents.iter_mut().filter(is_free).collect();
        let count = u64::try_from(drafts.len()).unwrap_or_default().max(1);
        let chosen = usize::try_from(dice.roll(count)).unwrap_or_default();
        let Some(draft) = drafts.get_mut(chosen) else { return };
        if dice.chance(2) {
            draft.status = "B";
        } else {
            (draft.version, draft.written_ms) = (TYPED, now_ms);
        }
    }

    fn is_bad(&self, number: &str) -> bool {
        self.nature.unsavable.contains(number)
    }

    /// A save without evidence: committed, committed later, or never.
    fn leave_open(&mut self, sent: &Sent, dice: &mut Dice) {
        let taken = sent.id.is_none() && self.nature.unique && !self.of(&sent.number).is_empty();
        let refused = self.is_bad(&sent.number) || taken;
        match dice.roll(3) {
            1 if !refused => drop(self.commit(sent)),
            2 if !refused => {
                let late = dice.roll(SETTLE_MS / 1_000) * 1_000;
                self.running.push((self.now_ms + late, sent.clone()));
            }
            _ => {}
        }
    }

    pub(crate) fn save(&mut self, all: &[Sent], dice: &mut Dice) -> Answer {
        let numbers: Vec<&String> = all.iter().map(|sent| &sent.number).collect();
        let kind = dice.roll(16);
        match kind {
            9 | 10 => {
                all.iter().for_each(|sent| self.leave_open(sent, dice));
                return silence(dice);
            }
            11 => return Ok(whole(13, LOCKED)),
            12 => return Ok(whole(14, "接口调用次数达到上限")),
            13 => return Err(Failure::new(FailureKind::Transient, "session lost")),
            14 => return Err(Failure::new(FailureKind::Unavailable, "not sent")),
            _ => {}
        }
        if self.nature.all_or_nothing && numbers.iter().any(|number| self.is_bad(number)) {
            self.told.extend(numbers.iter().filter(|_| numbers.len() == 1).map(|number| (*number).clone()));
            return Ok(whole(11, INVALID));
        }
        Ok(self.answer(all, kind, dice))
    }

    /// Each document by itself; of kinds 4 to 8 the answer says less than it should, or puts rows of lines where the
    /// positions of documents belong.
    fn answer(&mut self, all: &[Sent], kind: u64, dice: &mut Dice) -> SaveAnswer {
        let mut answer = SaveAnswer { msg_code: Some(11), ..SaveAnswer::default() };
        for (at, sent) in all.iter().enumerate() {
            let number = &sent.number;
            if kind == 5 && dice.chance(2) {
                self.leave_open(sent, dice);
                answer.errors.push(error(Some(at), format!("{number}：事务已中止")));
            } else if self.is_bad(number) {
                let row = usize::try_from(dice.roll(9)).unwrap_or_default();
                match kind {
                    4 if dice.chance(2) => answer.errors.push(error(Some(row), INVALID.to_owned())),
                    6 if dice.chance(2) => {}
                    _ => {
                        let index = if kind == 4 { row } else { at };
                        answer.errors.push(error(Some(index), format!("{number}：{INVALID}")));
                        self.told.insert(number.clone());
                    }
                }
            } else {
                let index = i64::try_from(at).ok();
                match (self.commit(sent), kind) {
                    (Err(why), _) => answer.errors.push(error(Some(at), format!("[{number}]{why}"))),
                    (Ok(_), 6) if dice.chance(2) => {}
                    (Ok(_), 7) => {
                        answer.successes.push(Entity { id: String::new(), number: number.clone(), index });
                    }
                    (Ok(id), 8) => answer.successes.push(Entity { number: id.clone(), id, index }),
                    (Ok(id), _) => answer.successes.push(Entity { id, number: number.clone(), index }),
                }
            }
        }
        answer.is_success = answer.errors.is_empty() && answer.successes.len() == all.len();
        answer
    }

    pub(crate) fn step(
        &mut self,
        ids: &[String],
        from: &[&str],
        to: &'static str,
        dice: &mut Dice,
    ) -> Answer {
        let kind = dice.roll(16);
        let mut answer = SaveAnswer { msg_code: Some(11), ..SaveAnswer::default() };
        match kind {
            11 => return Ok(whole(13, LOCKED)),
            12 => return Ok(whole(14, "接口调用次数达到上限")),
            13 => return Ok(whole(12, "单据已进入工作流审批")),
            14 => return Ok(whole(4, "事务已中止")),
            _ => {}
        }
        let lost = matches!(kind, 9 | 10);
        for (at, id) in ids.iter().enumerate() {
            let bad = |number: &str| to == "C" && self.nature.unauditable.contains(number);
            let Some(document) = self.documents.iter().find(|document| document.id == *id) else { continue };
            let number = document.number.clone();
            if bad(&number) {
                answer.errors.push(error(Some(at), format!("{number}：更新库存时出现负库存")));
            } else if to == "C" && self.nature.stuck.contains(&number) {
                answer.errors.push(error(Some(at), format!("{number}：事务已中止")));
            } else if !from.contains(&document.status) {
                answer.errors.push(error(Some(at), format!("单据{number}：当前状态不允许提交")));
            } else if !(lost && dice.chance(2)) {
                if let Some(document) = self.find(id) {
                    document.status = to;
                }
                if !(kind == 6 && dice.chance(2)) {
                    answer.successes.push(Entity { id: id.clone(), number, index: i64::try_from(at).ok() });
                }
            }
        }
        if lost {
            return silence(dice);
        }
        answer.is_success = answer.errors.is_empty() && answer.successes.len() == ids.len();
        Ok(answer)
    }
}
