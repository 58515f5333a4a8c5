//! The fake Kingdee: WebAPI under `…/Kingdee.BOS.WebApi.ServicesStub.<service>.<operation>.common.kdsvc`.

pub(crate) mod answer;
mod call;
mod filter;
mod forms;
mod model;
mod query;
mod save;
mod sessions;
mod sign;
mod steps;
mod store;
mod view;

use std::time::Duration;

pub(crate) use call::{Call, read};
pub(crate) use forms::Base;
pub(crate) use sessions::Sessions;
pub(crate) use steps::by_hand;
pub(crate) use store::{Item, Store};

use crate::http::{Reply, Request};
use crate::server::{Shared, locked};
use answer::Problem;

/// How a fault bends a save.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bend {
    /// The pause between the uniqueness check and the insert.
    pub(crate) check_gap: Duration,
    /// Save all documents of a call or none.
    pub(crate) all_or_nothing: bool,
}

/// What a call came to: the answer, and a few words for the ledger.
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) note: String,
}

impl Outcome {
    pub(crate) fn ok(reply: Reply) -> Outcome {
        Outcome { reply, note: "ok".to_owned() }
    }
}

/// Authenticates and runs one call.
pub(crate) async fn run(shared: &Shared, request: &Request, call: &Call, id: u64, bend: Bend) -> Outcome {
    if call.service == "AuthService" {
        return locked(&shared.sessions).authenticate(&shared.options, request, call);
    }
    if let Err(reason) = locked(&shared.sessions).admit(&shared.options, request) {
        return refuse(call, &reason);
    }
    if let Some(reason) = &call.unreadable {
        let reply =
            Reply::html(500, &format!("<html><body><h1>服务器错误</h1><pre>{reason}</pre></body></html>"));
        return Outcome { reply, note: format!("unreadable body: {reason}") };
    }
    match call.operation.to_ascii_lowercase().as_str() {
        "save" => save::run(shared, call, id, bend, save::Shape::One).await,
        "draft" => save::run(shared, call, id, bend, save::Shape::Draft).await,
        "batchsave" => save::run(shared, call, id, bend, save::Shape::Many).await,
        "submit" | "audit" | "unaudit" | "cancelassign" | "delete" => steps::run(shared, call, id),
        "executebillquery" => query::run(&locked(&shared.kingdee), call, query::Rows::Arrays),
        "billquery" => query::run(&locked(&shared.kingdee), call, query::Rows::Objects),
        "view" => view::run(&locked(&shared.kingdee), call),
        "querybusinessinfo" => view::describe_form(&locked(&shared.kingdee), call),
        other => refuse(call, &Problem::whole(4, format!("接口 {other} 不存在"))),
    }
}

/// A refusal of the whole call in the shape of its operation.
pub(crate) fn refuse(call: &Call, problem: &Problem) -> Outcome {
    Outcome { reply: answer::refusal(&call.operation, problem), note: problem.note() }
}
