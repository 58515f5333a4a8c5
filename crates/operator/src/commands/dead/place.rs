//! Where in a body the problems of a failure are.

use std::collections::{BTreeMap, BTreeSet};

use kingpost_model::{FieldProblem, StageName};

use crate::json;

/// Notes by path: which of the problems, counted from 1, concern a value of a body.
pub(crate) fn notes(stage: StageName, body: &str, problems: &[FieldProblem]) -> BTreeMap<String, String> {
    let Some(leaves) = json::leaves(body) else { return BTreeMap::new() };
    let mut paths = BTreeSet::new();
    for (path, _) in &leaves {
        paths.extend(upwards(path));
    }
    let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (n, problem) in (1..).zip(problems) {
        let found = match stage {
            // An order is judged by the fields that a rule reads, a model by the field that the target names.
            StageName::Transform => {
                problem.inputs.iter().filter_map(|input| nearest(&paths, input)).collect()
            }
            StageName::Load => in_model(&paths, &leaves, problem),
            StageName::Extract => Vec::new(),
        };
        for (path, missing) in found {
            notes.entry(path).or_default().push(format!("{n}{missing}"));
        }
    }
    notes.into_iter().map(|(path, notes)| (path, notes.join(", "))).collect()
}

/// A path and everything that it stands in, the innermost first.
fn upwards(path: &str) -> Vec<String> {
    let mut paths = vec![path.to_owned()];
    let mut rest = path;
    while let Some(at) = rest.rfind(['.', '[']) {
        rest = &rest[..at];
        paths.push(rest.to_owned());
    }
    // The document as a whole.
    paths.push(String::new());
    paths
}

/// The path itself, or what it would stand in, with the name of what is missing there.
fn nearest(paths: &BTreeSet<String>, path: &str) -> Option<(String, String)> {
    let found = upwards(path).into_iter().find(|candidate| paths.contains(candidate))?;
    let missing = path[found.len()..].trim_start_matches('.');
    let missing = if missing.is_empty() { String::new() } else { format!(": no {missing}") };
    Some((found, missing))
}

/// A target names a field with its line, or the field alone and the line or the value in words.
fn in_model(
    paths: &BTreeSet<String>,
    leaves: &[(String, String)],
    problem: &FieldProblem,
) -> Vec<(String, String)> {
    if problem.field.is_empty() {
        return Vec::new();
    }
    let here = |path: &String| (path.clone(), String::new());
    if paths.contains(&problem.field) {
        return vec![here(&problem.field)];
    }
    let named: Vec<&String> = paths
        .iter()
        .filter(|path| path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(&problem.field)))
        .collect();
    let line = line_of(&problem.message);
    let in_line = |path: &&&String| line.is_some_and(|n| path.contains(&format!("[{n}].")));
    let holds = |path: &&&String| {
        leaves.iter().any(|(leaf, raw)| {
            let value = raw.trim_matches('"');
            leaf.starts_with(path.as_str()) && value.chars().count() > 1 && problem.message.contains(value)
        })
    };
    let both: Vec<_> = named.iter().filter(in_line).filter(holds).map(|path| here(path)).collect();
    if !both.is_empty() {
        return both;
    }
    let by_line: Vec<_> = named.iter().filter(in_line).map(|path| here(path)).collect();
    let by_value: Vec<_> = named.iter().filter(holds).map(|path| here(path)).collect();
    match (by_line.is_empty(), by_value.is_empty(), named.as_slice()) {
        (_, false, _) => by_value,
        (false, true, _) => by_line,
        (true, true, [only]) => vec![here(only)],
        (true, true, _) => Vec::new(),
    }
}

/// The number in 第3行, which is how Kingdee names a line.
fn line_of(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once('第')?;
    let (number, _) = rest.split_once('行')?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = r#"{"FBillNo":"RK1","FSupplierId":{"FNumber":"GYS9"},"FInStockEntry":[
        {"FMaterialId":{"FNumber":"SP-1"},"FRealQty":1},{"FMaterialId":{"FNumber":"SP-9"},"FRealQty":2}]}"#;

    fn problem(field: &str, message: &str, inputs: &[&str]) -> FieldProblem {
        FieldProblem {
            field: field.into(),
            message: message.into(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            rule: String::new(),
        }
    }

    fn places(stage: StageName, body: &str, problem: FieldProblem) -> Vec<String> {
        notes(stage, body, &[problem]).into_iter().map(|(path, note)| format!("{path} {note}")).collect()
    }

    #[test]
    fn a_field_of_a_model_is_found_by_path_by_value_or_by_line() {
        for (field, message, expected) in [
            ("FInStockEntry[2].FRealQty", "too much", "FInStockEntry[2].FRealQty 1"),
            ("FMaterialId", "第2行分录，物料“SP-9”不存在", "FInStockEntry[2].FMaterialId 1"),
            ("FMaterialId", "物料“SP-9”不存在", "FInStockEntry[2].FMaterialId 1"),
            ("FMaterialId", "第1行分录有误", "FInStockEntry[1].FMaterialId 1"),
            ("FSUPPLIERID", "供应商已禁用", "FSupplierId 1"),
        ] {
            assert_eq!(places(StageName::Load, MODEL, problem(field, message, &[])), [expected], "{message}");
        }
        let vague = problem("FMaterialId", "物料不存在", &[]);
        assert!(places(StageName::Load, MODEL, vague).is_empty(), "a guess would mislead");
        assert!(places(StageName::Load, MODEL, problem("", "no words", &[])).is_empty());
    }

    #[test]
    fn a_field_that_an_order_lacks_is_noted_where_it_would_stand() {
        let order = r#"{"order_no":"RK1","details_list":[{"num":"1"}]}"#;
        let missing = problem("FTaxPrice", "absent", &["details_list[1].tax_price", "details_list[1].num"]);
        assert_eq!(
            places(StageName::Transform, order, missing),
            ["details_list[1] 1: no tax_price", "details_list[1].num 1"]
        );
        assert!(places(StageName::Transform, "<html>", problem("x", "y", &["order_no"])).is_empty());
    }
}
