use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::KingdeeError;
use crate::filter::checked_field;

/// IIS and ASP.NET accept 4 MB unless raised; bodies should stay well below.
const LARGE_BODY: usize = 2 * 1024 * 1024;

/// Name and JSON value of a save option, a sibling of `Model`.
pub type SaveOption = (String, Box<RawValue>);

/// The options of the manual for creating documents, set so that nothing is silently dropped:
/// `IsVerifyBaseDataField`, `ValidateFlag` and `NumberSearch` on, `IsDeleteEntry` off.
#[must_use]
pub fn safe_save_options() -> Vec<SaveOption> {
    [
        ("NeedUpDateFields", "[]"),
        ("NeedReturnFields", r#"["FBillNo"]"#),
        ("IsDeleteEntry", "false"),
        ("SubSystemId", r#""""#),
        ("IsVerifyBaseDataField", "true"),
        ("IsEntryBatchFill", "true"),
        ("ValidateFlag", "true"),
        ("NumberSearch", "true"),
        ("IsAutoAdjustField", "true"),
        ("InterationFlags", r#""""#),
        ("IgnoreInterationFlag", "true"),
        ("IsControlPrecision", "false"),
        ("ValidateRepeatJson", "false"),
        ("BatchCount", "0"),
    ]
    .into_iter()
    .filter_map(|(name, json)| Some((name.to_owned(), RawValue::from_string(json.to_owned()).ok()?)))
    .collect()
}

/// How long a write of `documents` documents may take: 30 s and 5 s for each, at most 180 s.
#[must_use]
pub fn call_timeout(documents: usize) -> Duration {
    let documents = u64::try_from(documents).unwrap_or(u64::MAX);
    Duration::from_secs(documents.saturating_mul(5).saturating_add(30).min(180))
}

/// An `ExecuteBillQuery`. `Default` is empty with the server's own page of 2000 rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillQuery {
    /// Form id, as in `STK_InStock`.
    pub form: String,
    /// Field keys; an entry field makes one row for each entry.
    pub fields: Vec<String>,
    /// SQL-like condition, built with [`filter`](crate::filter); empty for all rows.
    pub filter: String,
    /// As in `FID ASC`; always give it when paging.
    pub order: String,
    /// Rows to leave out at the beginning.
    pub start_row: u32,
    /// Rows at most, 1 to 10000.
    pub limit: u32,
}

impl Default for BillQuery {
    fn default() -> Self {
        Self {
            form: String::new(),
            fields: Vec::new(),
            filter: String::new(),
            order: String::new(),
            start_row: 0,
            limit: 2000,
        }
    }
}

impl BillQuery {
    pub(crate) fn body(&self) -> Result<Bytes, KingdeeError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Query<'a> {
            form_id: &'a str,
            field_keys: String,
            filter_string: &'a str,
            order_string: &'a str,
            top_row_count: u32,
            start_row: u32,
            limit: u32,
        }
        if self.fields.is_empty() || !(1..=10_000).contains(&self.limit) {
            let text = format!(
                "a query of {} for {} fields and {} rows: ask for at least one field and 1 to 10000 rows",
                self.form,
                self.fields.len(),
                self.limit
            );
            return Err(KingdeeError::Invalid { text });
        }
        for field in &self.fields {
            checked_field(field).map_err(invalid)?;
        }
        let query = Query {
            form_id: checked_form(&self.form)?,
            field_keys: self.fields.join(","),
            filter_string: &self.filter,
            order_string: &self.order,
            top_row_count: 0,
            start_row: self.start_row,
            limit: self.limit,
        };
        data(None, &query)
    }
}

/// Body of a `BatchSave` by concatenation, so that key order and digits of the models stay to the byte.
pub(crate) fn batch_save(
    form: &str,
    options: &[SaveOption],
    models: &[Bytes],
) -> Result<Bytes, KingdeeError> {
    if models.is_empty() {
        return Err(KingdeeError::Invalid { text: "a batch without models: give at least one".to_owned() });
    }
    let mut body = format!("{{\"formid\":{},\"data\":{{", json(checked_form(form)?)?).into_bytes();
    for (at, (name, value)) in options.iter().enumerate() {
        let repeated = options[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        if repeated || name.eq_ignore_ascii_case("Model") {
            let text = format!("save option {name:?} is given twice or is the model itself: remove it");
            return Err(KingdeeError::Invalid { text });
        }
        body.extend_from_slice(json(name)?.as_bytes());
        body.push(b':');
        body.extend_from_slice(value.get().as_bytes());
        body.push(b',');
    }
    body.extend_from_slice(b"\"Model\":[");
    for (at, model) in models.iter().enumerate() {
        let whole: Option<&RawValue> = serde_json::from_slice(model).ok();
        // Anything else would change the meaning of the text around it.
        let Some(object) = whole.filter(|value| value.get().starts_with('{')) else {
            let text =
                format!("model {at} of {form}: no JSON object: give the document's model as UTF-8 JSON");
            return Err(KingdeeError::Invalid { text });
        };
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(object.get().as_bytes());
    }
    body.extend_from_slice(b"]}}");
    if body.len() > LARGE_BODY {
        tracing::warn!(
            form,
            documents = models.len(),
            bytes = body.len(),
            "large request: use smaller batches"
        );
    }
    Ok(body.into())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Submit {
    create_org_id: u8,
    numbers: [&'static str; 0],
    ids: String,
    selected_post_id: u8,
    use_org_id: u8,
    network_ctrl: bool,
    ignore_interation_flag: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Audit {
    #[serde(flatten)]
    submit: Submit,
    interation_flags: &'static str,
    is_verify_proc_inst: bool,
    use_bat_control_times: bool,
}

pub(crate) fn submit(form: &str, ids: &[&str]) -> Result<Bytes, KingdeeError> {
    data(Some(checked_form(form)?), &submit_data(ids)?)
}

pub(crate) fn audit(form: &str, ids: &[&str]) -> Result<Bytes, KingdeeError> {
    let audit = Audit {
        submit: submit_data(ids)?,
        interation_flags: "",
        // A document inside a workflow is its approvers' business: let the server refuse.
        is_verify_proc_inst: true,
        use_bat_control_times: false,
    };
    data(Some(checked_form(form)?), &audit)
}

fn submit_data(ids: &[&str]) -> Result<Submit, KingdeeError> {
    if ids.is_empty() || ids.iter().any(|id| id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit())) {
        let text = format!("document ids {ids:?}: give one or more FIDs, digits only");
        return Err(KingdeeError::Invalid { text });
    }
    Ok(Submit {
        create_org_id: 0,
        numbers: [],
        ids: ids.join(","),
        selected_post_id: 0,
        use_org_id: 0,
        network_ctrl: false,
        ignore_interation_flag: true,
    })
}

pub(crate) fn view(form: &str, number: &str) -> Result<Bytes, KingdeeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct View<'a> {
        create_org_id: u8,
        number: &'a str,
        id: &'static str,
        is_sort_by_seq: bool,
    }
    data(Some(checked_form(form)?), &View { create_org_id: 0, number, id: "", is_sort_by_seq: false })
}

pub(crate) fn business_info(form: &str) -> Result<Bytes, KingdeeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info<'a> {
        form_id: &'a str,
    }
    data(None, &Info { form_id: checked_form(form)? })
}

pub(crate) fn switch_org(number: &str) -> Result<Bytes, KingdeeError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Org<'a> {
        org_number: &'a str,
    }
    data(None, &Org { org_number: number })
}

pub(crate) fn invalid(error: impl std::fmt::Display) -> KingdeeError {
    KingdeeError::Invalid { text: error.to_string() }
}

fn data(form: Option<&str>, data: &impl Serialize) -> Result<Bytes, KingdeeError> {
    let data = serde_json::to_string(data).map_err(invalid)?;
    Ok(match form {
        Some(form) => format!("{{\"formid\":{},\"data\":{data}}}", json(form)?),
        None => format!("{{\"data\":{data}}}"),
    }
    .into())
}

fn json(text: &str) -> Result<String, KingdeeError> {
    serde_json::to_string(text).map_err(invalid)
}

fn checked_form(form: &str) -> Result<&str, KingdeeError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !form.is_empty() && form.chars().all(safe) {
        Ok(form)
    } else {
        Err(KingdeeError::Invalid {
            text: format!("form id {form:?}: use letters, digits and `_`, as in STK_InStock"),
        })
    }
}
