//! Submit, Audit and the steps back, document by document.

use super::answer::{self, Problem, Results};
use super::call::Call;
use super::{Outcome, forms, refuse};
use crate::server::{Shared, locked};

/// One step of a document's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Submit,
    Audit,
    UnAudit,
    CancelAssign,
    Delete,
}

impl Step {
    /// The step of an operation's name, in any case.
    fn of(operation: &str) -> Option<Step> {
        Some(match operation.to_ascii_lowercase().as_str() {
            "submit" => Step::Submit,
            "audit" => Step::Audit,
            "unaudit" => Step::UnAudit,
            "cancelassign" => Step::CancelAssign,
            "delete" => Step::Delete,
            _ => return None,
        })
    }
}

/// Takes the documents of a number one step on as a person does, without a call.
pub(crate) fn by_hand(shared: &Shared, number: &str, operation: &str) -> Result<(), String> {
    let step = Step::of(operation).ok_or_else(|| format!("{operation} is no step"))?;
    let ids = locked(&shared.kingdee).ids_of(number).to_vec();
    if ids.is_empty() {
        return Err(format!("no document {number}"));
    }
    for fid in ids {
        apply(shared, step, fid, 0).map_err(|problem| problem.message)?;
    }
    Ok(())
}

/// Runs a step for every document that the call names by id or number.
pub(super) fn run(shared: &Shared, call: &Call, id: u64) -> Outcome {
    if !call.form.eq_ignore_ascii_case(forms::STOCK_IN) {
        return refuse(call, &Problem::whole(5, format!("业务对象不存在：{}", call.form)));
    }
    let Some(step) = Step::of(&call.operation) else {
        return refuse(call, &Problem::whole(4, format!("接口 {} 不存在", call.operation)));
    };
    let mut targets: Vec<Result<i64, Problem>> = Vec::new();
    for text in call.ids() {
        let known = text.parse().ok().filter(|fid| locked(&shared.kingdee).documents.contains_key(fid));
        targets.push(known.ok_or_else(|| Problem::whole(10, format!("内码为{text}的数据不存在"))));
    }
    if targets.is_empty() {
        for number in call.numbers() {
            match locked(&shared.kingdee).ids_of(&number) {
                [] => targets.push(Err(Problem::whole(10, format!("编码为{number}的数据不存在")))),
                ids => targets.extend(ids.iter().map(|fid| Ok(*fid))),
            }
        }
    }
    if targets.is_empty() {
        return refuse(call, &Problem::whole(8, "编码值或内码值必须传其一"));
    }
    let results: Results = targets
        .into_iter()
        .map(|target| target.and_then(|fid| apply(shared, step, fid, id)).map_err(|problem| vec![problem]))
        .collect();
    let (reply, note) = answer::results(&results, Vec::new());
    Outcome { reply, note }
}

/// Takes one document one step on, or says with Kingdee's words why its state forbids it.
pub(super) fn apply(shared: &Shared, step: Step, fid: i64, id: u64) -> Result<(i64, String), Problem> {
    let now = shared.written();
    let mut store = locked(&shared.kingdee);
    let Some(document) = store.documents.get_mut(&fid) else {
        return Err(Problem::whole(10, format!("内码为{fid}的数据不存在")));
    };
    let number = document.number.clone();
    let (next, done) = match (step, document.status) {
        (Step::Submit, 'Z' | 'A' | 'D') => ('B', "submitted"),
        (Step::Audit, 'B') => ('C', "audited"),
        (Step::UnAudit, 'C') => ('D', "unaudited"),
        (Step::CancelAssign, 'B') => ('A', "submit_cancelled"),
        (Step::Delete, 'Z' | 'A' | 'D') => ('-', "deleted"),
        (step, status) => return Err(Problem::whole(12, format!("[{number}]{}", forbidden(step, status)))),
    };
    document.status = next;
    document.modified = now;
    document.approved = (next == 'C').then_some(now);
    if step == Step::Delete {
        store.delete(fid);
    }
    drop(store);
    locked(&shared.ledger).commit(&number, fid, done, id);
    Ok((fid, number))
}

fn forbidden(step: Step, status: char) -> &'static str {
    match (step, status) {
        (Step::Submit, 'B') => "单据已提交，不能重复提交",
        (Step::Submit, _) => "只有暂存、创建和重新审核的数据才允许提交",
        (Step::Audit, 'C') => "单据已经审核",
        (Step::Audit, _) => "单据尚未提交，不能审核",
        (Step::UnAudit, _) => "单据尚未审核，不能反审核",
        (Step::CancelAssign, _) => "当前单据未提交，不能撤销",
        (Step::Delete, _) => "只有暂存、创建和重新审核的数据才允许删除",
    }
}
