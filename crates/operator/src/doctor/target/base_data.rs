//! The base data that a scheme's tables name.

use std::collections::{BTreeMap, BTreeSet};

use kingpost_connectors::{BaseData, Standing, TargetProbe};
use kingpost_scheme::{ModelField, Scheme, TableAnswer};

use crate::{
    doctor::{Judgement, Sheet},
    terminal::counted,
};

const CHECK: &str = "base data";

/// Codes by kind, each with the rows of tables that name it.
type Codes = BTreeMap<BaseData, BTreeMap<String, BTreeSet<String>>>;

/// Looks up every code that a table of the scheme can put into a field that refers to base data.
pub(super) async fn examine(sheet: &mut Sheet, scheme: &Scheme, probe: &TargetProbe) {
    let codes = codes(&scheme.fields);
    if codes.is_empty() {
        let why = "no table of the scheme names a stock, an organisation, a supplier or a department";
        return sheet.put(CHECK, &scheme.name, Judgement::skipped(why));
    }
    for (base, codes) in codes {
        let subject = format!("{}, {}", scheme.name, base.noun());
        let numbers: Vec<String> = codes.keys().cloned().collect();
        let judgement = match sheet.within(probe.base_data(base, &numbers)).await {
            Err(late) => late,
            Ok(Ok(found)) => judge(&codes, &found),
            Ok(Err(failure)) => Judgement::warning(
                format!("can't be asked: {}", failure.text),
                format!("let the integration user view the {}", base.noun()),
            ),
        };
        sheet.put(CHECK, &subject, judgement);
    }
}

fn codes(fields: &[ModelField]) -> Codes {
    let mut codes = Codes::new();
    for field in fields {
        let is_number = |key: &&String| key.eq_ignore_ascii_case("FNumber");
        let key = match field.path.last().filter(is_number) {
            Some(_) => field.path.iter().rev().nth(1),
            None => field.path.last(),
        };
        let Some(base) = key.and_then(|key| BaseData::of_field(key)) else { continue };
        for answer in &field.answers {
            codes.entry(base).or_default().entry(answer.value.clone()).or_default().insert(row(answer));
        }
    }
    codes
}

fn row(answer: &TableAnswer) -> String {
    format!("table {}, row {}, column {}", answer.table, answer.key, answer.column)
}

fn judge(codes: &BTreeMap<String, BTreeSet<String>>, found: &BTreeMap<String, Standing>) -> Judgement {
    // Kingdee's database compares without regard to case.
    let standing =
        |code: &str| found.iter().find(|(number, _)| number.eq_ignore_ascii_case(code)).map(|(_, s)| *s);
    let mut wrong = Vec::new();
    for (code, rows) in codes {
        let what = match standing(code) {
            Some(Standing::Usable) => continue,
            Some(Standing::Unapproved) => "isn't approved (未审核)",
            Some(Standing::Forbidden) => "is forbidden (禁用)",
            None => "doesn't exist, or this user may not see it",
        };
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        wrong.push(format!("{code} {what} ({})", rows.join("; ")));
    }
    if wrong.is_empty() {
        return Judgement::ok(format!("{} named by tables, all usable", counted(codes.len(), "code")));
    }
    let remedy = "correct the row of the table, or create, approve or enable it in Kingdee; else every document of that row is a dead letter";
    Judgement::failed(wrong.join("; "), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn answer(key: &str, column: &str, value: &str) -> TableAnswer {
        let [table, key, column, value] = ["stock", key, column, value].map(str::to_owned);
        TableAnswer { table, key, column, value }
    }

    fn field(path: &[&str], answers: Vec<TableAnswer>) -> ModelField {
        ModelField { path: path.iter().map(|key| (*key).to_owned()).collect(), line: 1, answers }
    }

    #[test]
    fn codes_are_gathered_by_what_their_field_refers_to() {
        let fields = [
            field(&["FStockOrgId", "FNumber"], vec![answer("*", "org", "100")]),
            field(
                &["FInStockFin", "FPayOrgId", "FNumber"],
                vec![answer("*", "org", "100"), answer("SH01", "org", "101")],
            ),
            field(&["FInStockEntry", "FStockId", "FNumber"], vec![answer("SH01", "stock", "CK001")]),
            field(&["FNote"], vec![answer("SH01", "note", "x")]),
        ];
        let codes = codes(&fields);
        assert_eq!(codes[&BaseData::Organisation].keys().collect::<Vec<_>>(), ["100", "101"]);
        assert_eq!(codes[&BaseData::Organisation]["100"].len(), 1, "one row of one table");
        assert_eq!(codes[&BaseData::Stock].len(), 1);
    }

    #[test]
    fn what_can_t_be_used_is_named_with_its_row() {
        let fields = [field(
            &["FStockId"],
            vec![answer("A", "stock", "CK1"), answer("B", "stock", "CK2"), answer("C", "stock", "CK3")],
        )];
        let codes = codes(&fields).remove(&BaseData::Stock).unwrap();
        let found =
            BTreeMap::from([("ck1".to_owned(), Standing::Usable), ("CK2".to_owned(), Standing::Forbidden)]);
        let judgement = judge(&codes, &found);
        assert_eq!(judgement.verdict, Verdict::Failed);
        assert!(
            judgement.seen.contains("CK2 is forbidden (禁用) (table stock, row B, column stock)"),
            "{judgement:?}"
        );
        assert!(
            judgement.seen.contains("CK3 doesn't exist") && !judgement.seen.contains("CK1"),
            "{judgement:?}"
        );
        let all = ["CK1", "CK2", "CK3"].map(|code| (code.to_owned(), Standing::Usable)).into();
        assert_eq!(judge(&codes, &all).verdict, Verdict::Ok);
    }
}
