//! Save, Draft and BatchSave: document by document, not atomic, unique by check and then insert.

use super::answer::{self, Problem};
use super::call::Call;
use super::model::{self, Candidate, Checks};
use super::store::Rows;
use super::{Bend, Outcome, forms, refuse, steps};
use crate::json::Json;
use crate::server::{Shared, locked};

/// Which of the three operations it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Draft,
    Many,
}

/// What became of one document: id and number, or the problems.
type Saved = Result<(i64, String), Vec<Problem>>;

/// Runs a save.
pub(super) async fn run(shared: &Shared, call: &Call, id: u64, bend: Bend, shape: Shape) -> Outcome {
    if !call.form.eq_ignore_ascii_case(forms::STOCK_IN) {
        return refuse(call, &Problem::whole(5, format!("业务对象不存在：{}", call.form)));
    }
    let models = call.models();
    let is_array = matches!(call.data.get_any_case("Model"), Some(Json::Array(_)));
    if models.is_empty() || is_array != (shape == Shape::Many) {
        return refuse(call, &Problem::whole(8, "参数 Model 缺失或形式错误"));
    }
    let results = save_all(shared, call, id, bend, shape).await;
    let wanted: Vec<&Json> = match call.data.get_any_case("NeedReturnFields") {
        Some(fields) => fields.items().iter().collect(),
        None => Vec::new(),
    };
    let returned = |result: &Saved| {
        let (fid, number) = result.as_ref().ok()?;
        let value = |name: &str| match name.to_ascii_lowercase().as_str() {
            "fbillno" => Some(Json::from(number.as_str())),
            "fid" => Some((*fid).into()),
            _ => None,
        };
        let pairs = wanted.iter().filter_map(|name| name.scalar());
        Some(Json::object(pairs.filter_map(|name| value(&name).map(|value| (name, value)))))
    };
    let returned = results.iter().map(|r| returned(r).unwrap_or(Json::Object(Vec::new()))).collect();
    let mut extra = vec![("NeedReturnData", Json::Array(returned))];
    if shape != Shape::Many
        && let Some(Ok((fid, number))) = results.first()
    {
        extra.splice(0..0, [("Id", Json::from(*fid)), ("Number", number.as_str().into())]);
    }
    let (reply, note) = answer::results(&results, extra);
    Outcome { reply, note }
}

async fn save_all(shared: &Shared, call: &Call, id: u64, bend: Bend, shape: Shape) -> Vec<Saved> {
    if bend.all_or_nothing {
        let checked: Vec<_> = call.models().iter().map(|model| check(shared, call, model, shape)).collect();
        if checked.iter().any(Result::is_err) {
            // The good ones are in neither list of the answer.
            return checked.into_iter().map(|checked| Err(checked.err().unwrap_or_default())).collect();
        }
    }
    let mut results = Vec::with_capacity(call.models().len());
    for model in call.models() {
        results.push(save_one(shared, call, model, id, bend, shape).await);
    }
    results
}

/// The document of a model, if nothing speaks against it.
fn check(shared: &Shared, call: &Call, model: &Json, shape: Shape) -> Result<Candidate, Vec<Problem>> {
    let validate = call.flag("ValidateFlag", true);
    let checks = Checks {
        base_data: call.flag("IsVerifyBaseDataField", false),
        required: validate && shape != Shape::Draft,
        any_order: call.flag("IsAutoAdjustField", false),
    };
    let store = locked(&shared.kingdee);
    let candidate = model::read(model, checks, &store)?;
    if candidate.fid != 0 {
        let Some(known) = store.documents.get(&candidate.fid) else {
            return Err(vec![Problem::whole(10, format!("内码为{}的数据不存在", candidate.fid))]);
        };
        if matches!(known.status, 'B' | 'C') {
            let state = if known.status == 'B' { "处于审核中状态" } else { "已审核" };
            return Err(vec![Problem::whole(12, format!("单据{state}，不允许修改[{}]", known.number))]);
        }
    }
    if let Some(number) = candidate.number.as_deref().filter(|_| validate && !shared.options.repeated_numbers)
        && store.ids_of(number).iter().any(|other| *other != candidate.fid)
    {
        let message = format!("违反字段唯一性要求：编码唯一。[{number}]在当前系统中已经被使用。");
        return Err(vec![Problem::field("FBillNo", message)]);
    }
    Ok(candidate)
}

async fn save_one(shared: &Shared, call: &Call, model: &Json, id: u64, bend: Bend, shape: Shape) -> Saved {
    let candidate = check(shared, call, model, shape)?;
    if !bend.check_gap.is_zero() {
        tokio::time::sleep(bend.check_gap).await;
    }
    let now = shared.written();
    let step = if candidate.fid == 0 { "saved" } else { "updated" };
    let rows = if call.flag("IsDeleteEntry", true) { Rows::DeleteUnlisted } else { Rows::KeepUnlisted };
    let (fid, number) = locked(&shared.kingdee).commit(candidate, rows, shape == Shape::Draft, now);
    locked(&shared.ledger).commit(&number, fid, step, id);
    if call.flag("IsAutoSubmitAndAudit", false) {
        for step in [steps::Step::Submit, steps::Step::Audit] {
            steps::apply(shared, step, fid, id).map_err(|problem| vec![problem])?;
        }
    }
    Ok((fid, number))
}
