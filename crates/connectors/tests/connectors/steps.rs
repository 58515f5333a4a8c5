//! Submit and audit, and the lease before every write.

use std::sync::Arc;

use kingpost_connectors::{DUPLICATE, TIMED_OUT, kingdee::Finish};
use kingpost_kingdee::Auth;
use kingpost_model::{FailureKind, LoadedHow, Standing, Verdict, decide};

use crate::fake::{Fake, failure, fresh, load, refusal, status, taking};

#[tokio::test]
async fn a_lease_lost_between_save_and_submit_writes_nothing_more() {
    let lost = Arc::default();
    let taken = Arc::clone(&lost);
    let kingdee = Fake::with_lease(lost, move |call, _| {
        if call.method == "BatchSave" {
            taking(&taken);
        }
        None
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    assert!(
        failure(&outcomes[0]).text.contains("lost its connection, and posts nothing more"),
        "{outcomes:?}"
    );
    assert_eq!(kingdee.calls(), ["ExecuteBillQuery RK1", "BatchSave RK1"]);
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "A")]);
}

#[tokio::test]
async fn a_lease_lost_before_the_save_or_the_audit_writes_nothing_more() {
    for (method, calls) in [
        ("ExecuteBillQuery", &["ExecuteBillQuery RK1"][..]),
        ("Submit", &["ExecuteBillQuery RK1", "BatchSave RK1", "Submit 100001"]),
    ] {
        let lost = Arc::default();
        let taken = Arc::clone(&lost);
        let kingdee = Fake::with_lease(lost, move |call, _| {
            if call.method == method {
                taking(&taken);
            }
            None
        })
        .await;
        let outcomes = kingdee.load(&[load("RK1", Standing::Verify)]).await;
        assert!(outcomes[0].is_err());
        assert_eq!(kingdee.calls(), calls);
    }
}

#[tokio::test]
async fn a_lease_lost_during_the_login_that_a_write_needs_stops_the_write() {
    // The session ends under one document's write, and the next write, of another document, has to log in first.
    for (before, step, status) in [("BatchSave", "Submit", "A"), ("Submit", "Audit", "B")] {
        let lost = Arc::default();
        let taken = Arc::clone(&lost);
        let kingdee = Fake::with_lease(lost, move |call, _| match (call.method, call.before) {
            (method, 0) if method == before => refusal(1, "会话信息已丢失，请重新登录"),
            ("LoginBySign", 1) => {
                taking(&taken);
                None
            }
            _ => None,
        })
        .await;
        kingdee.has("RK1", status);
        if before == "Submit" {
            kingdee.has("RK2", "A");
        }
        let loads = ["RK1", "RK2"].map(|number| load(number, Standing::Verify));
        let outcomes = kingdee.load_as(Finish::Audit, Auth::LoginBySign, &loads).await;
        assert!(
            failure(&outcomes[0]).text.contains("lost its connection, and posts nothing more"),
            "{outcomes:?}"
        );
        let of = |method| kingdee.calls().iter().filter(|call| call.starts_with(method)).count();
        assert_eq!((of("LoginBySign"), of(step)), (2, 0), "{:?}", kingdee.calls());
    }
}

#[tokio::test]
async fn a_step_that_somebody_else_has_taken_is_gone_on_from() {
    let kingdee = Fake::with(|call, books| {
        (call.method == "Submit").then(|| {
            books.set(&call.about[0], "B");
            status(false, 12, &[], &[(Some(0), "单据已提交，不能重复提交")])
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Posted);
    let look_up = "ExecuteBillQuery RK1";
    assert_eq!(kingdee.calls(), [look_up, "BatchSave RK1", "Submit 100001", look_up, "Audit 100001"]);
}

#[tokio::test]
async fn a_step_that_is_refused_for_a_state_that_stays_fails_after_three_tries() {
    let kingdee = Fake::with(|call, _| {
        (call.method == "Audit").then(|| status(false, 12, &[], &[(Some(0), "单据已进入工作流审批")]))
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let refused = failure(&outcomes[0]);
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.text.contains("工作流"), "{refused}");
    assert_eq!(kingdee.calls().iter().filter(|call| call.starts_with("Audit")).count(), 3);
}

#[tokio::test]
async fn an_audit_that_is_refused_for_its_data_leaves_the_others_alone() {
    let kingdee = Fake::with(|call, books| {
        (call.method == "Audit").then(|| {
            books.set("100002", "C");
            status(false, 11, &[("100002", "RK2")], &[(Some(0), "更新库存时出现负库存")])
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    assert_eq!(failure(&outcomes[0]).kind, FailureKind::Refused);
    assert!(outcomes[1].is_ok());
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "B"), ("RK2".to_owned(), "C")]);
    assert_eq!(kingdee.calls().len(), 4, "the sum is right, so the answer decides");
}

#[tokio::test]
async fn an_error_that_names_a_longer_number_is_not_this_documents() {
    let kingdee = Fake::with(|call, _| match (call.method, call.about) {
        ("Submit", [_, _]) => Some(status(false, 11, &[], &[(Some(0), "单据RK10：批号不能为空")])),
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK10")]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(failure(&outcomes[1]).kind, FailureKind::Refused);
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C"), ("RK10".to_owned(), "A")]);
}

#[tokio::test]
async fn an_answer_that_blames_nobody_for_sure_makes_each_step_speak_for_itself() {
    let refusal = "审核时出现负库存";
    let kingdee = Fake::with(move |call, _| match (call.method, call.about) {
        ("Audit", [_, _]) => Some(status(false, 11, &[], &[(Some(5), refusal)])),
        ("Audit", [one]) if one == "100002" => Some(status(false, 11, &[], &[(Some(5), refusal)])),
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert!(failure(&outcomes[1]).text.contains("负库存"));
    let audits: Vec<_> = kingdee.calls().into_iter().filter(|call| call.starts_with("Audit")).collect();
    assert_eq!(audits, ["Audit 100001,100002", "Audit 100001", "Audit 100002"]);
}

#[tokio::test]
async fn a_step_that_times_out_is_read_by_the_next_try() {
    let kingdee = Fake::with(|call, books| {
        (call.method == "Submit" && call.before == 0).then(|| {
            books.set(&call.about[0], "B");
            (504, String::new())
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let failed = failure(&outcomes[0]);
    assert_eq!((failed.kind, failed.in_flight), (FailureKind::Transient, false));
    assert_eq!(failed.code.as_deref(), Some(TIMED_OUT), "the rounds after it would hang as well");
    assert!(failed.saved, "a look-up may not show it yet");
    let outcomes = kingdee.load(&[load("RK1", Standing::Verify)]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Resumed);
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C")]);
}

#[tokio::test]
async fn a_second_document_that_shows_up_stops_the_steps() {
    let kingdee = Fake::with(|call, books| {
        (call.method == "Submit").then(|| {
            books.add("RK1", "A");
            status(false, 12, &[], &[(Some(0), "当前状态不允许提交")])
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let conflict = failure(&outcomes[0]);
    assert_eq!((conflict.kind, conflict.code.as_deref()), (FailureKind::Conflict, Some(DUPLICATE)));
    assert!(conflict.text.contains("ids 100001, 100002"), "{conflict}");
    let look_up = "ExecuteBillQuery RK1";
    assert_eq!(kingdee.calls(), [look_up, "BatchSave RK1", "Submit 100001", look_up]);
}

#[tokio::test]
async fn a_step_that_is_always_broken_off_is_counted_and_not_for_ever() {
    let kingdee = Fake::with(|call, _| {
        (call.method == "Audit").then(|| status(false, 4, &[], &[(Some(0), "事务已中止")]))
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    for outcome in outcomes {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Transient, "{failure}");
        assert!(matches!(decide(failure.clone(), 1), Verdict::Retry { counted: true, .. }));
        assert!(matches!(decide(failure, 6), Verdict::Dead { .. }));
    }
}
