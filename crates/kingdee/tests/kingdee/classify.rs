use kingpost_kingdee::classify::{DocumentOutcome, Doubt, names, per_document, per_document_with};
use kingpost_kingdee::{Catalogue, Class, Entity, FieldError, SaveAnswer};

const TAKEN: &str = "违反字段唯一性要求：编码唯一。[B]在当前系统中已经被使用。";

fn entity(id: &str, number: &str, index: i64) -> Entity {
    Entity { id: id.to_owned(), number: number.to_owned(), index: Some(index) }
}

fn error(index: Option<i64>, message: &str) -> FieldError {
    FieldError { field: None, message: message.to_owned(), index }
}

fn answer(is_success: bool, successes: Vec<Entity>, errors: Vec<FieldError>) -> SaveAnswer {
    SaveAnswer { is_success, successes, errors, msg_code: Some(if is_success { 0 } else { 11 }) }
}

/// One word for each outcome.
fn words(numbers: &[&str], answer: &SaveAnswer) -> Vec<String> {
    let word = |outcome: DocumentOutcome| match outcome {
        DocumentOutcome::Saved { id } => format!("saved {id}"),
        DocumentOutcome::Failed { ruling, errors } => format!("failed {:?} {}", ruling.class, errors.len()),
        DocumentOutcome::Verify { why: Doubt::OtherNumber { number }, .. } => format!("verify {number}"),
        DocumentOutcome::Verify { why, .. } => format!("verify {why:?}"),
    };
    per_document(numbers, answer).into_iter().map(word).collect()
}

#[test]
fn a_document_among_the_successes_is_saved_in_any_order() {
    let all = answer(true, vec![entity("2", "B", 0), entity("1", "A", 1)], vec![]);
    assert_eq!(words(&["A", "B"], &all), ["saved 1", "saved 2"]);
}

#[test]
fn part_of_a_batch_is_saved_although_the_call_is_no_success() {
    let part = answer(
        false,
        vec![entity("1", "A", 0)],
        vec![error(Some(1), TAKEN), error(Some(2), "字段“仓库”是必填项")],
    );
    assert_eq!(words(&["A", "B", "C"], &part), ["saved 1", "verify Duplicate", "failed Data 1"]);
}

#[test]
fn a_success_under_another_number_is_verified() {
    let renumbered = answer(true, vec![entity("1", "CGRK0001", 0)], vec![]);
    assert_eq!(words(&["A"], &renumbered), ["verify CGRK0001"]);
    let id_as_number = answer(true, vec![entity("7", "7", 0)], vec![]);
    assert_eq!(words(&["A"], &id_as_number), ["verify 7"]);
}

#[test]
fn a_success_without_an_id_is_verified() {
    for id in ["", "0"] {
        assert_eq!(words(&["A"], &answer(true, vec![entity(id, "A", 0)], vec![])), ["verify NoId"]);
    }
}

#[test]
fn a_document_that_is_mentioned_nowhere_is_verified() {
    assert_eq!(
        words(&["A", "B"], &answer(true, vec![entity("1", "A", 0)], vec![])),
        ["saved 1", "verify NotMentioned"]
    );
    assert_eq!(words(&["A"], &answer(true, vec![], vec![])), ["verify NotMentioned"]);
    assert_eq!(words(&["A"], &answer(false, vec![], vec![])), ["verify NotMentioned"]);
    let whole = answer(false, vec![], vec![error(None, "字段“仓库”是必填项")]);
    assert_eq!(words(&["A", "B"], &whole), ["verify NotMentioned", "verify NotMentioned"]);
}

#[test]
fn all_errors_of_a_document_are_its_own() {
    let failed = answer(
        false,
        vec![],
        vec![
            error(Some(0), "字段“仓库”是必填项"),
            error(Some(1), "含税单价为0"),
            error(Some(0), "批号不能为空"),
        ],
    );
    let outcomes = per_document(&["A", "B"], &failed);
    let DocumentOutcome::Failed { errors, ruling } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(
        errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>(),
        ["字段“仓库”是必填项", "批号不能为空"]
    );
    assert_eq!((ruling.class, ruling.base_data), (Class::Data, true));
}

#[test]
fn a_number_in_the_text_serves_where_there_is_no_index() {
    let named = answer(false, vec![], vec![error(None, "单据RK-2：物料X不存在")]);
    assert_eq!(
        words(&["RK-1", "RK-2", "RK-20"], &named),
        ["verify NotMentioned", "failed Data 1", "verify NotMentioned"]
    );
}

#[test]
fn an_index_does_not_outweigh_the_number_in_the_text() {
    let crossed = answer(false, vec![], vec![error(Some(0), TAKEN)]);
    assert_eq!(words(&["A", "B"], &crossed), ["verify NotMentioned", "verify Duplicate"]);
}

#[test]
fn an_index_that_may_be_an_entry_row_decides_nothing() {
    let unset = "字段“仓库”是必填项";
    let of = |successes, errors| words(&["A", "B", "C"], &answer(false, successes, errors));
    let open = "verify NotMentioned";
    // One document with errors in its rows 0 and 1: the third is mentioned nowhere, so these are no positions.
    assert_eq!(of(vec![], vec![error(Some(0), unset), error(Some(1), unset)]), [open; 3]);
    // Row 1 of C, while B is saved.
    let saved = || vec![entity("1", "A", 0), entity("2", "B", 1)];
    assert_eq!(of(saved(), vec![error(Some(1), unset)]), ["saved 1", "saved 2", open]);
    // Beyond the batch, negative, or without an index beside one with.
    assert_eq!(of(saved(), vec![error(Some(7), unset)])[2], open);
    assert_eq!(of(saved(), vec![error(Some(2), unset), error(None, "x")])[2], open);
    assert_eq!(of(saved(), vec![error(Some(2), unset), error(Some(-1), "x")])[2], open);
    // A success that is nobody's of this call.
    let renumbered = vec![entity("1", "A", 0), entity("2", "CGRK1", 1)];
    assert_eq!(of(renumbered, vec![error(Some(2), unset)])[2], open);
    // The sum is right: a position for each document.
    assert_eq!(of(saved(), vec![error(Some(2), unset)])[2], "failed Data 1");
}

#[test]
fn an_answer_whose_text_and_index_disagree_is_judged_by_its_texts_alone() {
    let crossed = answer(false, vec![], vec![error(Some(0), TAKEN), error(Some(1), "批号不能为空")]);
    assert_eq!(words(&["A", "B"], &crossed), ["verify NotMentioned", "verify Duplicate"]);
    let both = answer(false, vec![], vec![error(None, "A 与 B 冲突，请稍候再使用")]);
    assert_eq!(words(&["A", "B"], &both), ["verify NotMentioned", "verify NotMentioned"]);
}

#[test]
fn a_number_is_named_as_a_whole_word() {
    assert!(names("单据[RK1]不存在", "RK1") && names("RK1：已审核", "RK1") && names("审核RK10和RK1", "RK1"));
    for longer in ["RK10", "XRK1", "RK1-2", "RK1_2", "RK1/2", "RK1#2"] {
        assert!(!names(&format!("单据{longer}：已审核"), "RK1"), "{longer}");
    }
    assert!(!names("单据", ""));
}

#[test]
fn a_single_document_owns_every_error() {
    let row_index =
        answer(false, vec![], vec![error(Some(4), "字段“仓库”是必填项"), error(Some(-1), "含税单价为0")]);
    assert_eq!(words(&["A"], &row_index), ["failed Data 2"]);
}

#[test]
fn an_unclear_text_is_verified_and_a_conflict_fails_as_passing() {
    let mut conflict =
        answer(false, vec![], vec![error(Some(0), "冲突，请稍候再使用"), error(Some(1), "事务已中止")]);
    conflict.msg_code = Some(13);
    assert_eq!(words(&["A", "B"], &conflict), ["failed Transient 1", "verify Unclear"]);
}

#[test]
fn an_unknown_text_of_a_refusal_is_data() {
    let mut odd = answer(false, vec![], vec![error(Some(0), "没有见过的说法")]);
    odd.msg_code = None;
    assert_eq!(words(&["A"], &odd), ["failed Data 1"]);
}

#[test]
fn a_table_of_ones_own_is_used() {
    let rows =
        serde_json::from_str(r#"[{"texts": ["没有见过"], "class": "config", "advice": "x"}]"#).unwrap();
    let own = Catalogue::extended(rows).unwrap();
    let odd = answer(false, vec![], vec![error(Some(0), "没有见过的说法")]);
    let outcomes = per_document_with(&own, &["A"], &odd);
    assert!(matches!(&outcomes[0], DocumentOutcome::Failed { ruling, .. } if ruling.class == Class::Config));
}
