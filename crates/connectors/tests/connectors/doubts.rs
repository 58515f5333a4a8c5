//! Saves whose answer is missing, or leaves something open.

use kingpost_connectors::{TIMED_OUT, kingdee};
use kingpost_model::{FailureKind, LoadedHow, Standing, Verdict, decide};

use crate::fake::{Fake, failure, fresh, load, refusal, status};

const LOCK: &str = "“integration”使用业务单据：“采购订单”冲突，请稍候再使用";
const LOT: &str = "第2行分录，批号不能为空";

fn saves(kingdee: &Fake) -> Vec<String> {
    kingdee.calls().into_iter().filter(|call| call.starts_with("BatchSave")).collect()
}

#[tokio::test]
async fn a_number_that_is_taken_by_the_document_itself_is_no_failure() {
    let kingdee = Fake::with(|call, books| match (call.method, call.before) {
        // Somebody else's save of RK1, between our look-up and our save.
        ("BatchSave", 0) => {
            books.add("RK1", "B");
            None
        }
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Resumed);
    assert_eq!(outcomes[1].as_ref().unwrap().how, LoadedHow::Posted);
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C"), ("RK2".to_owned(), "C")]);
}

#[tokio::test]
async fn a_number_that_is_taken_out_of_sight_is_a_conflict() {
    let kingdee = Fake::with(|call, _| {
        (call.method == "BatchSave").then(|| {
            status(
                false,
                11,
                &[],
                &[(Some(0), "违反字段唯一性要求：编码唯一。[RK1]在当前系统中已经被使用。")],
            )
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let conflict = failure(&outcomes[0]);
    assert_eq!((conflict.kind, conflict.code.as_deref()), (FailureKind::Conflict, Some("MsgCode 11")));
    assert_eq!(saves(&kingdee).len(), 1);
}

#[tokio::test]
async fn a_save_that_times_out_after_the_commit_is_found_and_never_repeated() {
    let kingdee = Fake::with(|call, books| {
        (call.method == "BatchSave").then(|| {
            books.add(&call.about[0], "A");
            (504, "<html>gateway time-out</html>".to_owned())
        })
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let unclear = failure(&outcomes[0]);
    assert_eq!((unclear.kind, unclear.in_flight), (FailureKind::Unclear, true));
    assert_eq!(unclear.code.as_deref(), Some(TIMED_OUT));
    let calls = ["ExecuteBillQuery RK1", "BatchSave RK1"];
    assert_eq!(kingdee.calls(), calls, "no look-up at once: it would prove nothing");
    let outcomes = kingdee.load(&[load("RK1", Standing::Unproven)]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Resumed);
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C")]);
    assert_eq!(saves(&kingdee).len(), 1);
}

#[tokio::test]
async fn what_was_not_sent_left_nothing_in_flight() {
    let kingdee = Fake::nowhere().await;
    let outcomes = kingdee.load(&[fresh("RK1"), load("RK2", Standing::Verify)]).await;
    for outcome in &outcomes {
        let failure = failure(outcome);
        assert_eq!((failure.kind, failure.in_flight), (FailureKind::Unavailable, false), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_leaves_the_outcome_open() {
    for (code, body) in [
        (200, "<html><body>maintenance</body></html>"),
        (200, ""),
        (200, r#"{"Result":{"Respon"#),
        (502, "<html>bad gateway</html>"),
        (200, r#"response_error:{"Message":"未将对象引用设置到对象的实例"}"#),
    ] {
        let kingdee =
            Fake::with(move |call, _| (call.method == "BatchSave").then(|| (code, body.to_owned()))).await;
        let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
        for outcome in &outcomes {
            let unclear = failure(outcome);
            assert_eq!((unclear.kind, unclear.in_flight), (FailureKind::Unclear, true), "{body}");
            assert_eq!(unclear.code, None, "{body}");
        }
        assert_eq!(kingdee.calls(), ["ExecuteBillQuery RK1,RK2", "BatchSave RK1,RK2"]);
    }
}

#[tokio::test]
async fn an_error_of_the_whole_batch_makes_each_document_speak_for_itself() {
    let kingdee = Fake::with(|call, _| match (call.method, call.about) {
        ("BatchSave", [_, _, ..]) => refusal(11, LOT),
        ("BatchSave", [one]) if one == "RK2" => refusal(11, LOT),
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2"), fresh("RK3")]).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(failure(&outcomes[1]).kind, FailureKind::Refused);
    let halves = ["BatchSave RK1", "BatchSave RK2,RK3", "BatchSave RK2", "BatchSave RK3"];
    assert_eq!(saves(&kingdee)[1..], halves);
    let looked_up = kingdee.calls().iter().rposition(|call| call == "ExecuteBillQuery RK1,RK2,RK3");
    assert_eq!(looked_up, Some(2), "before anything is posted again");
}

#[tokio::test]
async fn a_whole_call_that_was_broken_off_inside_the_server_is_not_sent_again_in_parts() {
    // The look-up doesn't show what the server is still writing.
    for text in
        ["时间已到。在操作完成之前超时时间已过或服务器未响应", "事务与另一个进程被死锁，请重新运行该事务"]
    {
        let kingdee =
            Fake::with(move |call, _| (call.method == "BatchSave").then(|| refusal(11, text)).flatten())
                .await;
        let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2"), fresh("RK3")]).await;
        for outcome in &outcomes {
            let unclear = failure(outcome);
            assert_eq!((unclear.kind, unclear.in_flight), (FailureKind::Unclear, true), "{text}: {unclear}");
        }
        assert_eq!(saves(&kingdee), ["BatchSave RK1,RK2,RK3"], "{text}");
    }
}

#[tokio::test]
async fn an_index_that_is_an_entry_row_blames_nobody() {
    let kingdee = Fake::with(|call, books| match (call.method, call.about) {
        ("BatchSave", [_, second]) => {
            let id = books.add(second, "A").to_string();
            Some(status(false, 11, &[(&id, second)], &[(Some(1), LOT)]))
        }
        ("BatchSave", [_]) => refusal(11, LOT),
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    assert_eq!(failure(&outcomes[0]).kind, FailureKind::Refused);
    assert_eq!(outcomes[1].as_ref().unwrap().how, LoadedHow::Posted);
    assert_eq!(saves(&kingdee), ["BatchSave RK1,RK2", "BatchSave RK1"]);
}

#[tokio::test]
async fn a_document_that_kingdee_numbered_itself_is_not_posted_again() {
    let whole = Fake::with(|call, books| {
        (call.method == "BatchSave").then(|| {
            let id = books.add("CGRK00001", "A").to_string();
            status(true, 0, &[(&id, "CGRK00001")], &[])
        })
    })
    .await;
    let outcomes = whole.load(&[fresh("RK1")]).await;
    assert!(failure(&outcomes[0]).text.contains("CGRK00001"), "{outcomes:?}");
    assert_eq!(saves(&whole).len(), 1);
    // One of two was renumbered and the other refused: which is which can't be told, so neither is sent again.
    let part = Fake::with(|call, books| {
        (call.method == "BatchSave").then(|| {
            let id = books.add("CGRK00001", "A").to_string();
            status(false, 11, &[(&id, "CGRK00001")], &[(None, LOT)])
        })
    })
    .await;
    let outcomes = part.load(&[fresh("RK1"), fresh("RK2")]).await;
    for outcome in &outcomes {
        assert_eq!(failure(outcome).kind, FailureKind::Conflict);
    }
    assert_eq!(saves(&part).len(), 1);
}

#[tokio::test]
async fn a_success_with_the_id_in_the_place_of_the_number_is_found() {
    let kingdee = Fake::with(|call, books| match (call.method, call.about) {
        ("BatchSave", [first, _]) => {
            let id = books.add(first, "A").to_string();
            Some(status(false, 11, &[(&id, &id)], &[(None, LOT)]))
        }
        ("BatchSave", [_]) => refusal(11, LOT),
        _ => None,
    })
    .await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Posted);
    assert_eq!(failure(&outcomes[1]).kind, FailureKind::Refused, "it was sent alone and got its own answer");
    assert_eq!(saves(&kingdee), ["BatchSave RK1,RK2", "BatchSave RK2"]);
}

#[tokio::test]
async fn what_has_to_be_tried_alone_is_not_tried_on_a_kingdee_that_does_not_work() {
    let limit = Fake::with(|call, _| match (call.method, call.before) {
        ("BatchSave", 0) => refusal(11, LOT),
        ("BatchSave", _) => refusal(14, "调用次数超过限制"),
        _ => None,
    })
    .await;
    let hanging = Fake::with(|call, _| match (call.method, call.before) {
        ("BatchSave", 0) => refusal(11, LOT),
        ("BatchSave", _) => Some((504, String::new())),
        _ => None,
    })
    .await;
    for (kingdee, first, rest) in [
        (limit, FailureKind::Throttled, FailureKind::Throttled),
        (hanging, FailureKind::Unclear, FailureKind::Unavailable),
    ] {
        let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2"), fresh("RK3")]).await;
        let kinds: Vec<_> = outcomes.iter().map(|outcome| failure(outcome).kind).collect();
        assert_eq!(kinds, [first, rest, rest]);
        assert!(!failure(&outcomes[1]).in_flight, "it was not sent");
        assert_eq!(saves(&kingdee), ["BatchSave RK1,RK2,RK3", "BatchSave RK1"]);
    }
}

#[tokio::test]
async fn a_lock_and_a_lost_session_pass() {
    let session = (1, "会话信息已丢失，请重新登录", FailureKind::Unavailable);
    for (code, text, kind) in [(13, LOCK, FailureKind::Transient), session] {
        let kingdee =
            Fake::with(move |call, _| if call.method == "BatchSave" { refusal(code, text) } else { None })
                .await;
        // The look-up shows that the session works, so that its loss is no matter of configuration.
        let outcomes = kingdee.load(&[load("RK1", Standing::Verify)]).await;
        let passing = failure(&outcomes[0]);
        assert_eq!((passing.kind, passing.in_flight), (kind, false), "{text}");
        assert_eq!(saves(&kingdee), ["BatchSave RK1"]);
    }
}

#[tokio::test]
async fn a_conflict_of_a_whole_batch_waits_and_is_tried_again() {
    let kingdee =
        Fake::with(|call, _| if call.method == "BatchSave" { refusal(13, LOCK) } else { None }).await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2"), fresh("RK3")]).await;
    for outcome in outcomes {
        let Verdict::Retry { after, counted, failure } = decide(outcome.unwrap_err(), 1) else {
            panic!("it must be tried again")
        };
        assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Transient, Some("MsgCode 13")));
        assert_eq!((after.as_secs(), counted), (5, true));
    }
    assert_eq!(
        saves(&kingdee)[1..],
        ["BatchSave RK1", "BatchSave RK2,RK3", "BatchSave RK2", "BatchSave RK3"]
    );
}

#[tokio::test]
async fn a_limit_of_calls_slows_down_without_another_call() {
    for text in ["接口调用次数达到上限", ""] {
        let kingdee = Fake::with(move |call, _| match (call.method, text) {
            ("BatchSave", "") => Some(status(false, 14, &[], &[])),
            ("BatchSave", text) => refusal(14, text),
            _ => None,
        })
        .await;
        let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2"), fresh("RK3")]).await;
        for outcome in outcomes {
            let verdict = decide(outcome.unwrap_err(), 7);
            let Verdict::Retry { counted: false, failure, .. } = verdict else { panic!("{verdict:?}") };
            assert_eq!((failure.kind, failure.in_flight), (FailureKind::Throttled, false));
        }
        let look_up = "ExecuteBillQuery RK1,RK2,RK3";
        assert_eq!(kingdee.calls(), [look_up, "BatchSave RK1,RK2,RK3", look_up]);
    }
}

#[tokio::test]
async fn what_a_proxy_answers_in_the_place_of_kingdee_leaves_a_write_in_flight_and_costs_no_attempt() {
    // It may have given the request to another server before, which goes on with it.
    for (code, page, kind) in [
        (429, "<html>too many</html>", FailureKind::Throttled),
        (401, "<html>denied</html>", FailureKind::Unavailable),
        (302, "", FailureKind::Unavailable),
        (200, "<html><input type=\"password\"></html>", FailureKind::Unavailable),
    ] {
        let kingdee = Fake::with(move |call, _| {
            (call.method == "BatchSave" && call.before == 0).then(|| (code, page.to_owned()))
        })
        .await;
        let outcomes = kingdee.load(&[fresh("RK1")]).await;
        let turned_away = failure(&outcomes[0]).clone();
        assert_eq!((turned_away.kind, turned_away.in_flight), (kind, true), "{code}: {turned_away}");
        assert!(matches!(decide(turned_away, 9), Verdict::Retry { counted: false, .. }));
        let outcomes = kingdee.load(&[load("RK1", Standing::Unproven)]).await;
        assert_eq!(failure(&outcomes[0]).kind, FailureKind::Unclear);
        let outcomes = kingdee.load(&[load("RK1", Standing::Settled)]).await;
        assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Posted);
        assert_eq!(saves(&kingdee), ["BatchSave RK1", "BatchSave RK1"]);
    }
}

#[tokio::test]
async fn a_step_that_a_proxy_turned_away_leaves_nothing_in_flight() {
    let kingdee =
        Fake::with(|call, _| (call.method == "Submit").then(|| (429, "<html>too many</html>".to_owned())))
            .await;
    let outcomes = kingdee.load(&[fresh("RK1")]).await;
    let turned_away = failure(&outcomes[0]);
    let told = (turned_away.kind, turned_away.in_flight, turned_away.saved);
    assert_eq!(told, (FailureKind::Throttled, false, true));
}

#[tokio::test]
async fn one_document_that_spoils_a_batch_of_twenty_dies_alone() {
    let kingdee = Fake::with(|call, _| {
        (call.method == "BatchSave" && call.about.iter().any(|number| number == "RK13"))
            .then(|| status(false, 11, &[], &[(None, LOT)]))
    })
    .await;
    let loads: Vec<_> = (1..=20).map(|n| fresh(&format!("RK{n}"))).collect();
    let outcomes = kingdee.load(&loads).await;
    for (load, outcome) in loads.iter().zip(outcomes) {
        match outcome {
            Ok(loaded) => assert_eq!(loaded.how, LoadedHow::Posted),
            Err(failure) => {
                assert_eq!(load.number, "RK13");
                assert!(matches!(decide(failure, 1), Verdict::Dead { .. }));
            }
        }
    }
    assert_eq!(kingdee.documents().len(), 19);
    assert!(kingdee.documents().iter().all(|(_, status)| *status == "C"));
    // 20, 10 + 10, 5 + 5, 2 + 3, 1 + 1 or 1 + 2, 1 + 1.
    assert!(saves(&kingdee).len() <= 11, "{:?}", saves(&kingdee));
    let steps = kingdee.calls().iter().filter(|call| call.starts_with(['S', 'A'])).count();
    assert_eq!(steps, 2, "what was saved in parts is submitted and audited together");
}

#[tokio::test]
async fn a_text_of_a_schemes_file_changes_the_verdict() {
    const NEWS: &str = "库存组织正在结账，请稍后";
    const SCHEME: &str = "scheme: demo\ntitle: texts\n\
        source:\n  system: wdt\n  method: wdt.wms.stockin.purchase.querywithdetail\n  key: order_no\n  \
        window: { start: 2026-01-01T00:00:00+08:00 }\n\
        target: { system: kingdee, form: STK_InStock, finish: audit, key: FBillNo, texts: texts.csv }\n\
        model:\n  FBillNo: \"{{ order_no }}\"\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("demo.yaml"), SCHEME).unwrap();
    for step in ["BatchSave", "Audit"] {
        for (rows, kind) in [
            ("", FailureKind::Refused),
            ("正在结账…稍后,,,transient,wait until the books are closed\n", FailureKind::Transient),
            (",,11,configuration,an example\n", FailureKind::Configuration),
            ("正在结账,,11,base-data,an example\n正在结账,,,throttled,x\n", FailureKind::BaseData),
        ] {
            let table = format!("text,field,code,kind,advice\n{rows}");
            std::fs::write(folder.path().join("texts.csv"), table).unwrap();
            let schemes = kingpost_scheme::load_dir(folder.path()).unwrap();
            let mut kingdee = Fake::with(move |call, _| {
                (call.method == step).then(|| status(false, 11, &[], &[(Some(0), NEWS)]))
            })
            .await;
            kingdee.texts = kingdee::catalogue(&schemes[0].target.texts).unwrap();
            let outcomes = kingdee.load(&[fresh("RK1")]).await;
            let failed = failure(&outcomes[0]);
            assert_eq!((failed.kind, failed.code.as_deref()), (kind, Some("MsgCode 11")), "{step}: {rows}");
            if kind == FailureKind::Transient {
                assert_eq!(failed.text, format!("{NEWS}: wait until the books are closed"));
            }
        }
    }
}
