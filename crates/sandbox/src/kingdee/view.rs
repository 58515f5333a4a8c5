//! View of one stock-in, and the description of the form.

use super::answer::{self, Problem};
use super::call::Call;
use super::forms::{self, FIELDS, Place};
use super::model::Fields;
use super::store::Store;
use super::{Outcome, refuse};
use crate::http::Reply;
use crate::json::Json;

/// One document under `Result.Result`, where names lose their leading F.
pub(super) fn run(store: &Store, call: &Call) -> Outcome {
    if !call.form.eq_ignore_ascii_case(forms::STOCK_IN) {
        return refuse(call, &Problem::whole(5, format!("业务对象不存在：{}", call.form)));
    }
    let by_id = call.ids().first().and_then(|id| id.parse().ok());
    let by_number = || call.numbers().first().and_then(|number| store.ids_of(number).first().copied());
    let Some(document) = by_id.or_else(by_number).and_then(|fid: i64| store.documents.get(&fid)) else {
        return refuse(call, &Problem::whole(10, "数据不存在"));
    };
    let entries = document.entries.iter().enumerate().map(|(at, (id, fields))| {
        let mut pairs = vec![("Id".to_owned(), Json::from(*id)), ("Seq".to_owned(), (at + 1).into())];
        pairs.extend(members(fields));
        Json::Object(pairs)
    });
    let mut pairs = vec![
        ("Id".to_owned(), document.fid.into()),
        ("BillNo".to_owned(), document.number.as_str().into()),
        ("DocumentStatus".to_owned(), document.status.to_string().into()),
        ("CancelStatus".to_owned(), "A".into()),
    ];
    pairs.extend(members(&document.header));
    pairs.push(("InStockFin".to_owned(), Json::Array(vec![Json::Object(members(&document.finance))])));
    pairs.push(("InStockEntry".to_owned(), Json::Array(entries.collect())));
    let result = [("ResponseStatus", answer::plain_success()), ("Result", Json::Object(pairs))];
    Outcome::ok(Reply::json(Json::object([("Result", Json::object(result))])))
}

/// `QueryBusinessInfo`: the entries of the form and their fields.
pub(super) fn describe_form(store: &Store, call: &Call) -> Outcome {
    if !call.form.eq_ignore_ascii_case(forms::STOCK_IN) {
        return refuse(call, &Problem::whole(5, format!("业务对象不存在：{}", call.form)));
    }
    let name =
        |text: &str| Json::Array(vec![Json::object([("Key", 2052_i64.into()), ("Value", text.into())])]);
    let entry = |key: &str, title: &str, place: Place| {
        let mut fields: Vec<Json> = Vec::new();
        if place == Place::Header {
            let number = [("Key", "FBillNo".into()), ("Name", name("单据编号")), ("MustInput", 0_i64.into())];
            fields.push(Json::object(number));
        }
        fields.extend(FIELDS.iter().filter(|field| field.place == place && !store.lacks(field.name)).map(
            |field| {
                let must = i64::from(field.required);
                Json::object([
                    ("Key", field.name.into()),
                    ("Name", name(field.title)),
                    ("MustInput", must.into()),
                ])
            },
        ));
        Json::object([("Key", key.into()), ("Name", name(title)), ("Fields", Json::Array(fields))])
    };
    let entries = Json::Array(vec![
        entry("FBillHead", "单据头", Place::Header),
        entry("FInStockFin", "财务信息", Place::Finance),
        entry("FInStockEntry", "明细信息", Place::Entry),
    ]);
    let form =
        Json::object([("Id", forms::STOCK_IN.into()), ("Name", name("采购入库单")), ("Entrys", entries)]);
    let result = [("ResponseStatus", answer::plain_success()), ("NeedReturnData", form)];
    Outcome::ok(Reply::json(Json::object([("Result", Json::object(result))])))
}

fn members(fields: &Fields) -> Vec<(String, Json)> {
    let member = |(name, value): &(String, Json)| {
        let coded = forms::field(name).is_some_and(|field| matches!(field.kind, forms::Kind::Code(_)));
        let value = if coded { Json::object([("Number", value.clone())]) } else { value.clone() };
        (name.strip_prefix('F').unwrap_or(name).to_owned(), value)
    };
    fields.pairs().iter().map(member).collect()
}
