//! `/admin`: the truth about both systems, the faults, the clock. No authentication: it is for the loopback.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::faults::Rule;
use crate::http::{Reply, Request};
use crate::json::Json;
use crate::kingdee::Base;
use crate::orders::{Edit, Live, Rates};
use crate::server::{Shared, locked};

const INDEX: &str = "\
kingpost-sandbox: a fake WDT and a fake Kingdee

WDT through Qimen    POST /router/qm
WDT directly         POST /openapi
Kingdee              POST /k3cloud/Kingdee.BOS.WebApi.ServicesStub.DynamicFormService.<Operation>.common.kdsvc

GET    /admin/health
GET    /admin/wdt/orders            ?summary=1  ?number=RK…  ?pending=1: completed and not audited in Kingdee, or never read
POST   /admin/wdt/orders            add or change: one order or an array of them
POST   /admin/wdt/orders/RK…/cancel
DELETE /admin/wdt/orders/RK…
GET    /admin/wdt/live              how the source lives, and what it has done
POST   /admin/wdt/live              {\"modify\":0.05,\"cancel\":0,\"add\":0,\"complete\":0,\"content\":0,\"seed\":1}: shares a minute
DELETE /admin/wdt/live              it stands still
GET    /admin/kingdee/documents     ?number=RK…
POST   /admin/kingdee/documents     put a document there unchecked, as if a person had typed it
POST   /admin/kingdee/documents/RK…/submit   as a person would; also audit, unaudit, cancelassign, delete
DELETE /admin/kingdee/documents/RK… delete every document of that number
GET    /admin/kingdee/ledger        every commit; ?number=RK…
GET    /admin/kingdee/summary       by status, duplicates
GET    /admin/kingdee/base          ?kind=material|supplier|stock|organisation
POST   /admin/kingdee/base          {\"kind\":\"material\",\"number\":\"…\",\"name\":\"…\",\"disabled\":false,\"audited\":true,\"removed\":false}
POST   /admin/kingdee/fields        {\"name\":\"FTakeDeliveryBill\",\"removed\":true}: take a field away from the form
DELETE /admin/kingdee/sessions      end every session
GET    /admin/requests              ?summary=1  ?since=ID  ?system=wdt|kingdee  ?operation=…
GET    /admin/faults
POST   /admin/faults                one rule or an array of them
DELETE /admin/faults                all; /admin/faults/ID one
GET    /admin/clock
POST   /admin/clock                 {\"skew_seconds\":300}, {\"kingdee_skew_seconds\":-300}
";

/// Answers a request that is for neither system.
pub(crate) fn answer(shared: &Shared, request: &Request) -> Reply {
    match route(shared, request) {
        Ok(reply) => reply,
        Err((status, message)) => {
            let mut reply = Reply::json(Json::object([("error", message.as_str().into())]));
            reply.status = status;
            reply
        }
    }
}

type Routed = Result<Reply, (u16, String)>;

fn route(shared: &Shared, request: &Request) -> Routed {
    let number = request.query_value("number");
    let number = number.as_deref();
    let parts: Vec<&str> = request.path().split('/').filter(|part| !part.is_empty()).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", [] | ["admin"]) => Ok(Reply::text(200, INDEX)),
        ("GET", ["admin", "health"]) => Ok(Reply::json(r#"{"status":"ok"}"#)),
        (_, ["admin", "wdt", "orders", rest @ ..]) => orders(shared, request, rest),
        (_, ["admin", "wdt", "live"]) => live(shared, request),
        ("GET", ["admin", "kingdee", "documents"]) => {
            Ok(Reply::json(locked(&shared.kingdee).describe(number)))
        }
        ("POST", ["admin", "kingdee", "documents"]) => type_in(shared, request),
        ("POST", ["admin", "kingdee", "documents", number, step]) => {
            crate::kingdee::by_hand(shared, number, step).map_err(|reason| (400, reason))?;
            Ok(Reply::json(Json::object([("FBillNo", Json::from(*number))])))
        }
        ("DELETE", ["admin", "kingdee", "documents", number]) => delete(shared, number),
        ("GET", ["admin", "kingdee", "ledger"]) => Ok(Reply::json(locked(&shared.ledger).commits(number))),
        ("GET", ["admin", "kingdee", "summary"]) => Ok(Reply::json(locked(&shared.kingdee).summary())),
        ("GET", ["admin", "kingdee", "base"]) => base_list(shared, request),
        ("POST", ["admin", "kingdee", "base"]) => base_change(shared, request),
        ("POST", ["admin", "kingdee", "fields"]) => field_change(shared, request),
        ("DELETE", ["admin", "kingdee", "sessions"]) => {
            let ended = locked(&shared.sessions).end_all();
            Ok(Reply::json(Json::object([("ended", ended.into())])))
        }
        ("GET", ["admin", "requests"]) => requests(shared, request),
        (_, ["admin", "faults", rest @ ..]) => faults(shared, request, rest),
        (_, ["admin", "clock"]) => clock(shared, request),
        (method, _) => Err((404, format!("nothing answers {method} {}; see GET /admin", request.path()))),
    }
}

fn orders(shared: &Shared, request: &Request, rest: &[&str]) -> Routed {
    let now = shared.now();
    let mut book = locked(&shared.book);
    match (request.method.as_str(), rest) {
        ("GET", []) if request.query_value("pending").is_some() => {
            let audited = locked(&shared.kingdee).audited();
            Ok(Reply::json(book.truth().pending(|number| audited.contains(number))))
        }
        ("GET", []) if request.query_value("summary").is_some() => Ok(Reply::json(book.truth().summary())),
        ("GET", []) => Ok(Reply::json(book.truth().orders(request.query_value("number").as_deref()))),
        ("POST", []) => {
            let given = body(request)?;
            let given = if given.items().is_empty() { vec![given] } else { given.items().to_vec() };
            let mut numbers = Vec::new();
            for order in &given {
                numbers.push(Json::from(book.put(order, now).map_err(|reason| (400, reason))?));
            }
            Ok(Reply::json(Json::object([("order_no", Json::Array(numbers))])))
        }
        ("POST", [number, "cancel"]) if book.holds(number) => {
            book.edit_number(number, Edit::Cancel, now);
            Ok(Reply::json(Json::object([("cancelled", (*number).into())])))
        }
        ("DELETE", [number]) if book.delete(number) => {
            Ok(Reply::json(Json::object([("deleted", (*number).into())])))
        }
        (method, rest) => Err((404, format!("no order for {method} {}", rest.join("/")))),
    }
}

fn live(shared: &Shared, request: &Request) -> Routed {
    let mut live = locked(&shared.live);
    match request.method.as_str() {
        "GET" => {}
        "POST" => {
            let wrong = |reason: String| (400, format!("no life of a source: {reason}"));
            let rates: Rates = serde_json::from_slice(&request.body).map_err(|e| wrong(e.to_string()))?;
            *live = Some(Live::new(rates.checked().map_err(wrong)?));
        }
        "DELETE" => {
            let ended = live.take().map_or(Json::Null, |live| live.describe());
            return Ok(Reply::json(Json::object([("ended", ended)])));
        }
        method => return Err((405, format!("live takes GET, POST and DELETE, not {method}"))),
    }
    Ok(Reply::json(live.as_ref().map_or_else(|| Json::Object(Vec::new()), Live::describe)))
}

fn type_in(shared: &Shared, request: &Request) -> Routed {
    let model = body(request)?;
    let (fid, number) =
        locked(&shared.kingdee).type_in(&model, shared.written()).map_err(|reason| (400, reason))?;
    locked(&shared.ledger).commit(&number, fid, "typed", 0);
    Ok(Reply::json(Json::object([("FID", Json::from(fid)), ("FBillNo", number.into())])))
}

fn delete(shared: &Shared, number: &str) -> Routed {
    let gone = locked(&shared.kingdee).delete_number(number);
    for fid in &gone {
        locked(&shared.ledger).commit(number, *fid, "deleted", 0);
    }
    match gone.len() {
        0 => Err((404, format!("no document {number}"))),
        count => Ok(Reply::json(Json::object([("deleted", count.into())]))),
    }
}

fn kind_of(name: &str) -> Result<Base, (u16, String)> {
    Base::of(name)
        .ok_or_else(|| (400, format!("kind {name:?} is none of material, supplier, stock, organisation")))
}

fn base_list(shared: &Shared, request: &Request) -> Routed {
    let kind = kind_of(&request.query_value("kind").unwrap_or_default())?;
    let store = locked(&shared.kingdee);
    let describe = |(number, item): (&str, &crate::kingdee::Item)| {
        Json::object([
            ("number", number.into()),
            ("name", item.name.as_str().into()),
            ("id", item.id.into()),
            ("disabled", item.disabled.into()),
            ("audited", item.audited.into()),
        ])
    };
    Ok(Reply::json(Json::Array(store.items(kind).map(describe).collect())))
}

fn base_change(shared: &Shared, request: &Request) -> Routed {
    let given = body(request)?;
    let given = if given.items().is_empty() { vec![given] } else { given.items().to_vec() };
    for item in &given {
        let kind = kind_of(&item.text_of("kind").unwrap_or_default())?;
        let number = item.text_of("number").filter(|number| !number.is_empty());
        let number = number.ok_or((400, "number is missing".to_owned()))?;
        let flag = |name: &str| item.get(name).and_then(Json::flag);
        let mut store = locked(&shared.kingdee);
        if flag("removed") == Some(true) {
            store.remove_item(kind, &number);
        } else {
            store.put_item(kind, &number, item.text_of("name").as_deref(), flag("disabled"), flag("audited"));
        }
    }
    Ok(Reply::json(Json::object([("changed", given.len().into())])))
}

fn field_change(shared: &Shared, request: &Request) -> Routed {
    let given = body(request)?;
    let name = given.text_of("name").filter(|name| !name.is_empty());
    let name = name.ok_or((400, "name is missing".to_owned()))?;
    let removed = given.get("removed").and_then(Json::flag);
    let removed = removed.ok_or((400, "removed is missing: true or false".to_owned()))?;
    locked(&shared.kingdee).set_field(&name, removed);
    Ok(Reply::json(Json::object([("name", name.as_str().into()), ("removed", removed.into())])))
}

fn requests(shared: &Shared, request: &Request) -> Routed {
    let ledger = locked(&shared.ledger);
    if request.query_value("summary").is_some() {
        return Ok(Reply::json(ledger.summary()));
    }
    let since = request.query_value("since").and_then(|text| text.parse().ok()).unwrap_or(0);
    let (system, operation) = (request.query_value("system"), request.query_value("operation"));
    Ok(Reply::json(ledger.requests(since, system.as_deref(), operation.as_deref())))
}

fn faults(shared: &Shared, request: &Request, rest: &[&str]) -> Routed {
    let mut faults = locked(&shared.faults);
    match (request.method.as_str(), rest) {
        ("GET", []) => serialized(faults.list()),
        ("POST", []) => {
            let text =
                std::str::from_utf8(&request.body).map_err(|_| (400, "body is no UTF-8".to_owned()))?;
            let wrong = |e: serde_json::Error| (400, format!("no fault rule: {e}"));
            let rules: Vec<Rule> = match text.trim_start().starts_with('[') {
                true => serde_json::from_str(text).map_err(wrong)?,
                false => vec![serde_json::from_str(text).map_err(wrong)?],
            };
            let ids = rules.into_iter().map(|rule| faults.arm(rule)).collect::<Result<Vec<_>, _>>();
            let ids = ids.map_err(|reason| (400, reason))?.into_iter().map(Json::from).collect();
            Ok(Reply::json(Json::object([("ids", Json::Array(ids))])))
        }
        ("DELETE", [] | [_]) => {
            let id = rest.first().map(|id| id.parse::<u64>().unwrap_or(0));
            let cleared = faults.clear(id);
            shared.cleared.notify_waiters();
            match id {
                Some(id) if cleared == 0 => Err((404, format!("no fault {id}"))),
                _ => Ok(Reply::json(Json::object([("cleared", cleared.into())]))),
            }
        }
        (method, _) => Err((405, format!("faults take GET, POST and DELETE, not {method}"))),
    }
}

fn clock(shared: &Shared, request: &Request) -> Routed {
    if request.method == "POST" {
        let given = body(request)?;
        let seconds = |name: &str| given.get(name).and_then(Json::integer);
        let (both, kingdee) = (seconds("skew_seconds"), seconds("kingdee_skew_seconds"));
        if both.is_none() && kingdee.is_none() {
            let text = "skew_seconds, or kingdee_skew_seconds, is missing or no whole number";
            return Err((400, text.to_owned()));
        }
        if let Some(skew) = both {
            shared.skew.store(skew, Ordering::Relaxed);
        }
        if let Some(skew) = kingdee {
            shared.kingdee_skew.store(skew, Ordering::Relaxed);
        }
    }
    let now = crate::beijing::text(shared.now());
    let skew = shared.skew.load(Ordering::Relaxed);
    Ok(Reply::json(Json::object([("skew_seconds", Json::from(skew)), ("now", now.into())])))
}

fn body(request: &Request) -> Result<Json, (u16, String)> {
    let text = std::str::from_utf8(&request.body).map_err(|_| (400, "body is no UTF-8".to_owned()))?;
    Json::parse(text).map_err(|reason| (400, format!("body is no JSON: {reason}")))
}

fn serialized(value: &(impl Serialize + ?Sized)) -> Routed {
    serde_json::to_string(value).map(Reply::json).map_err(|e| (500, e.to_string()))
}
