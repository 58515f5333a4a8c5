//! What is done for a document, by what is known about it and what is found.

use kingpost_connectors::kingdee::Finish;
use kingpost_kingdee::Auth;
use kingpost_model::{FailureKind, Load, LoadedHow, Standing};

use crate::fake::{Fake, failure, fresh, load};

const QUERY: &str = "ExecuteBillQuery RK1";

#[tokio::test]
async fn a_fresh_document_is_looked_up_saved_submitted_and_audited() {
    let kingdee = Fake::start().await;
    let outcomes = kingdee.load(&[fresh("RK1"), fresh("RK2")]).await;
    let posted: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().how).collect();
    assert_eq!(posted, [LoadedHow::Posted; 2]);
    assert_eq!(outcomes[1].as_ref().unwrap().id, "100002");
    assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C"), ("RK2".to_owned(), "C")]);
    let calls =
        ["ExecuteBillQuery RK1,RK2", "BatchSave RK1,RK2", "Submit 100001,100002", "Audit 100001,100002"];
    assert_eq!(kingdee.calls(), calls);
}

#[tokio::test]
async fn a_document_is_taken_no_further_than_the_scheme_says() {
    for (finish, status, calls) in [(Finish::Save, "A", 2), (Finish::Submit, "B", 3), (Finish::Audit, "C", 4)]
    {
        let kingdee = Fake::start().await;
        kingdee.load_as(finish, Auth::SignHeaders, &[fresh("RK1")]).await[0].as_ref().unwrap();
        assert_eq!(kingdee.documents(), [("RK1".to_owned(), status)]);
        assert_eq!(kingdee.calls().len(), calls);
    }
}

#[tokio::test]
async fn a_document_that_is_there_and_complete_is_left_alone() {
    for standing in [Standing::Verify, Standing::Unproven, Standing::Settled] {
        let kingdee = Fake::start().await;
        kingdee.has("RK1", "C");
        let outcomes = kingdee.load(&[load("RK1", standing)]).await;
        let loaded = outcomes[0].as_ref().unwrap();
        assert_eq!((loaded.how, loaded.id.as_str()), (LoadedHow::AlreadyThere, "100001"));
        assert_eq!(kingdee.calls(), [QUERY]);
    }
}

#[tokio::test]
async fn a_document_that_is_there_half_way_is_finished() {
    for (status, calls) in [
        ("Z", &[QUERY, "Submit 100001", "Audit 100001"][..]),
        ("A", &[QUERY, "Submit 100001", "Audit 100001"]),
        ("D", &[QUERY, "Submit 100001", "Audit 100001"]),
        ("B", &[QUERY, "Audit 100001"]),
    ] {
        let kingdee = Fake::start().await;
        kingdee.has("RK1", status);
        let outcomes = kingdee.load(&[load("RK1", Standing::Unproven)]).await;
        assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Resumed);
        assert_eq!(kingdee.calls(), calls, "{status}");
        assert_eq!(kingdee.documents(), [("RK1".to_owned(), "C")]);
    }
}

#[tokio::test]
async fn what_a_look_up_does_not_find_is_posted_unless_somebody_may_be_posting_it() {
    for standing in [Standing::Verify, Standing::Settled] {
        let kingdee = Fake::start().await;
        let outcomes = kingdee.load(&[load("RK1", standing)]).await;
        assert_eq!(outcomes[0].as_ref().unwrap().how, LoadedHow::Posted);
        assert_eq!(kingdee.calls()[..2], [QUERY, "BatchSave RK1"]);
    }
    let kingdee = Fake::start().await;
    let outcomes = kingdee.load(&[load("RK1", Standing::Unproven)]).await;
    let unclear = failure(&outcomes[0]);
    assert_eq!((unclear.kind, unclear.in_flight), (FailureKind::Unclear, false), "this try sent nothing");
    assert_eq!(kingdee.calls(), [QUERY]);
}

#[tokio::test]
async fn another_document_of_the_number_is_a_conflict_and_nothing_is_written() {
    let differing = Fake::start().await;
    differing.fill(|books| {
        books.add("RK1", "A");
        books.documents[0].quantity = "3".into();
    });
    let cancelled = Fake::start().await;
    cancelled.fill(|books| {
        books.add("RK1", "A");
        books.documents[0].cancelled = true;
    });
    let twice = Fake::start().await;
    twice.fill(|books| {
        books.add("RK1", "C");
        books.add("RK1", "A");
    });
    for (kingdee, said) in
        [(differing, "total quantity 3 there, 2 here"), (cancelled, "作废"), (twice, "ids 100001, 100002")]
    {
        let outcomes = kingdee.load(&[load("RK1", Standing::Verify)]).await;
        let conflict = failure(&outcomes[0]);
        assert_eq!(conflict.kind, FailureKind::Conflict);
        assert!(conflict.text.contains(said), "{conflict}");
        assert_eq!(kingdee.calls(), [QUERY]);
    }
}

#[tokio::test]
async fn a_look_up_that_fails_proves_nothing_and_nothing_is_posted() {
    let kingdee = Fake::with(|call, _| {
        (call.method == "ExecuteBillQuery").then(|| (503, "<html>maintenance</html>".to_owned()))
    })
    .await;
    let outcomes = kingdee.load(&[load("RK1", Standing::Verify)]).await;
    assert_eq!(failure(&outcomes[0]).kind, FailureKind::Unavailable);
    assert_eq!(kingdee.calls(), [QUERY]);
}

#[tokio::test]
async fn a_model_that_is_not_what_it_is_looked_up_as_is_never_sent() {
    let kingdee = Fake::start().await;
    let with = |model: &'static str| Load { model: model.into(), ..fresh("RK1") };
    for model in [
        r#"{"FBillNo":"RK2"}"#,
        r#"{"FTakeDeliveryBill":"RK1"}"#,
        r#"{"FID":100001,"FBillNo":"RK1"}"#,
        r#"{"FBillNo":"RK1","fid":"7"}"#,
        r#"{"FBillNo":"RK1"},{"FBillNo":"RK9"}"#,
    ] {
        for standing in [Standing::Verify, Standing::Settled] {
            let outcomes = kingdee.load(&[Load { standing, ..with(model) }]).await;
            assert_eq!(failure(&outcomes[0]).kind, FailureKind::Refused, "{model}");
        }
    }
    assert_eq!(kingdee.calls(), Vec::<String>::new());
    let outcomes = kingdee.load(&[with(r#"{"FBillNo":"RK2"}"#), fresh("RK3")]).await;
    assert!(outcomes[0].is_err() && outcomes[1].is_ok(), "one holds no other back");
    assert_eq!(kingdee.documents(), [("RK3".to_owned(), "C")]);
}
