//! The fields of a model against those of the form.

use std::collections::BTreeSet;

use kingpost_connectors::FormPart;
use kingpost_scheme::ModelField;

use crate::{doctor::Judgement, terminal::counted};

/// Keys by which documents and lines are told apart, which a description doesn't list.
const IDS: [&str; 3] = ["FID", "FEntryID", "FDetailID"];

/// Judges whether the form has every field that the model writes.
pub(super) fn judge(fields: &[ModelField], parts: &[FormPart], form: &str) -> Judgement {
    let part = |key: &str| parts.iter().find(|part| part.key.eq_ignore_ascii_case(key));
    let holds =
        |part: &FormPart, key: &str| part.fields.iter().any(|field| field.key.eq_ignore_ascii_case(key));
    let (mut missing, mut misplaced, mut written) = (Vec::new(), Vec::new(), BTreeSet::new());
    for field in fields {
        let within = field.path.first().and_then(|first| part(first));
        let at = usize::from(within.is_some() && field.path.len() > 1);
        let Some(key) = field.path.get(at) else { continue };
        // Rows that link to another document, which some descriptions leave out.
        let linked = field.path.iter().any(|key| key.to_ascii_lowercase().ends_with("_link"));
        if linked || IDS.iter().any(|id| id.eq_ignore_ascii_case(key)) || !written.insert(key.to_lowercase())
        {
            continue;
        }
        let place = format!("{key} (line {})", field.line);
        let elsewhere = parts.iter().find(|part| holds(part, key));
        match (within.filter(|_| at == 1), elsewhere) {
            (_, None) => missing.push(place),
            (Some(within), Some(found)) if !holds(within, key) => {
                misplaced.push(format!("{place} stands in {} and belongs to {}", within.key, found.key));
            }
            _ => {}
        }
    }
    if !missing.is_empty() {
        return Judgement::failed(
            format!("{form} has no field {}", missing.join(", ")),
            "this account set was customised, or the name is wrong: correct the model, or switch the field off; an unknown field \
             inside a line may be dropped without a word",
        );
    }
    if !misplaced.is_empty() {
        let remedy = "move the field to the part of the model that it belongs to";
        return Judgement::warning(misplaced.join("; "), remedy);
    }
    let all = parts.iter().flat_map(|part| &part.fields);
    let left: Vec<&str> = all
        .filter(|field| field.must && !written.contains(&field.key.to_lowercase()))
        .map(|field| field.key.as_str())
        .collect();
    let left = match left.is_empty() {
        true => String::new(),
        false => format!("; must be filled in, and are left to Kingdee's defaults: {}", left.join(", ")),
    };
    Judgement::ok(format!("{form} has all {} of the model{left}", counted(written.len(), "field")))
}

#[cfg(test)]
mod tests {
    use kingpost_connectors::FormField;

    use super::*;
    use crate::doctor::Verdict;

    fn model(paths: &[&str]) -> Vec<ModelField> {
        let field = |path: &&str| ModelField {
            path: path.split('/').map(str::to_owned).collect(),
            line: 7,
            answers: Vec::new(),
        };
        paths.iter().map(field).collect()
    }

    fn form() -> Vec<FormPart> {
        let part = |key: &str, fields: &[(&str, bool)]| FormPart {
            key: key.to_owned(),
            fields: fields
                .iter()
                .map(|(key, must)| FormField { key: (*key).to_owned(), must: *must })
                .collect(),
        };
        vec![
            part("FBillHead", &[("FBillNo", false), ("FSupplierId", true), ("FDate", true)]),
            part("FInStockFin", &[("FSettleOrgId", false)]),
            part("FInStockEntry", &[("FMaterialId", true), ("FStockLocId", false)]),
        ]
    }

    #[test]
    fn a_model_whose_fields_are_all_there_passes_whatever_their_case_and_depth() {
        let model = model(&[
            "FID",
            "FBillNo",
            "FSUPPLIERID/FNumber",
            "FInStockFin/FSettleOrgId/FNumber",
            "FInStockEntry/FMaterialId/FNumber",
            "FInStockEntry/FStockLocId/FSTOCKLOCID__FF100001/FNumber",
            "FInStockEntry/FInStockEntry_Link/FInStockEntry_Link_FRuleId",
        ]);
        let judgement = judge(&model, &form(), "STK_InStock");
        assert_eq!(judgement.verdict, Verdict::Ok, "{judgement:?}");
        assert!(
            judgement.seen.contains("all 5 fields") && judgement.seen.ends_with("defaults: FDate"),
            "{judgement:?}"
        );
    }

    #[test]
    fn what_the_form_lacks_and_what_stands_in_the_wrong_part_is_named_with_its_line() {
        let lacks =
            judge(&model(&["FBillNo", "FTakeDeliveryBill", "FInStockEntry/FNote"]), &form(), "STK_InStock");
        assert_eq!(lacks.verdict, Verdict::Failed);
        assert!(lacks.seen.contains("FTakeDeliveryBill (line 7), FNote (line 7)"), "{lacks:?}");
        let wrong = judge(&model(&["FInStockEntry/FSettleOrgId/FNumber"]), &form(), "STK_InStock");
        assert_eq!(wrong.verdict, Verdict::Warning);
        assert!(wrong.seen.contains("stands in FInStockEntry and belongs to FInStockFin"), "{wrong:?}");
        let part = judge(&model(&["FNoSuchPart/FBillNo"]), &form(), "STK_InStock");
        assert!(part.seen.contains("FNoSuchPart"), "{part:?}");
    }
}
