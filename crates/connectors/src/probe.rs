//! Asking a scheme's systems whether they would work with us, without writing anything: for a person who sets up or looks for
//! what is wrong.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kingpost_kingdee::{BillQuery, Catalogue, Cell, Class, KingdeeClient, KingdeeError, LookUp, filter};
use kingpost_model::{Failure, FailureKind};
use kingpost_wdt::{Client, Query, WdtError, values::beijing_text};
use serde_json::{Value, value::RawValue};

use crate::{kingdee::failures, wdt};

/// A number that no document has; looking it up gives no row.
const NOBODY: &str = "KINGPOST-DOCTOR";
/// Numbers of one query.
const NUMBERS_MAX: usize = 50;
/// Documents of one query (`ExecuteBillQuery` answers so many at most).
const ROWS_MAX: u32 = 10_000;

/// A scheme's source.
pub struct SourceProbe {
    pub(crate) client: Client,
    pub(crate) method: String,
    pub(crate) params: Vec<(String, String)>,
}

/// Why a source refuses, or doesn't answer.
#[derive(Clone, Debug)]
pub struct SourceDenial {
    /// What happened.
    pub failure: Failure,
    /// What the source says about it, or we.
    pub advice: &'static str,
    /// It is about who we are, or about our clock: the same call of somebody else would pass.
    pub credentials: bool,
}

impl SourceProbe {
    /// Asks for one document of a range of time, as the extractor asks; returns how many there are.
    ///
    /// # Errors
    /// A [`SourceDenial`].
    pub async fn ask(&self, from: Timestamp, to: Timestamp) -> Result<Option<u64>, SourceDenial> {
        let time = |name: &str, at: Timestamp| (name.to_owned(), beijing_text(at));
        let mut params = vec![time("start_time", from), time("end_time", to)];
        params.extend(self.params.iter().cloned());
        let query = Query { method: self.method.clone(), params, page: 0, page_size: 1, want_total: true };
        let page = self.client.query(&query).await.map_err(|error| denied(&error))?;
        Ok(page.total)
    }

    /// Seconds by which the source's clock was ahead of ours at its last answer; nothing before that.
    pub fn ahead_s(&self) -> Option<i64> {
        self.client.server_ahead()
    }
}

fn denied(error: &WdtError) -> SourceDenial {
    let credentials = matches!(error.class, kingpost_wdt::Class::Configuration | kingpost_wdt::Class::Clock);
    SourceDenial { failure: wdt::failure(error), advice: error.advice, credentials }
}

/// A scheme's target.
pub struct TargetProbe {
    pub(crate) client: KingdeeClient,
    pub(crate) form: String,
    pub(crate) texts: Catalogue,
}

/// Why a target refuses.
#[derive(Clone, Debug)]
pub enum TargetDenial {
    /// It isn't reached, or doesn't answer.
    Absent(Failure),
    /// It doesn't let us in.
    Stranger(Failure),
    /// It lets us in, and refuses this form.
    Form(Failure),
}

/// Part of a form: its head, or one of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormPart {
    /// Its key, such as `FInStockEntry`.
    pub key: String,
    /// Its fields.
    pub fields: Vec<FormField>,
}

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormField {
    /// Its key, such as `FMaterialId`.
    pub key: String,
    /// It has to be filled in; the target may do so by itself.
    pub must: bool,
}

/// A kind of base data that a scheme's tables can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseData {
    /// 仓库.
    Stock,
    /// 组织机构.
    Organisation,
    /// 供应商.
    Supplier,
    /// 部门.
    Department,
}

impl BaseData {
    /// What a field of a document refers to, by the names that the forms share; nothing where that isn't known.
    pub fn of_field(key: &str) -> Option<BaseData> {
        let key = key.to_ascii_lowercase();
        match key.as_str() {
            "fstockid" | "fdeststockid" | "fsrcstockid" => Some(BaseData::Stock),
            "fsupplierid" | "fsupplyid" => Some(BaseData::Supplier),
            _ if key.ends_with("orgid") => Some(BaseData::Organisation),
            _ if key.ends_with("deptid") => Some(BaseData::Department),
            _ => None,
        }
    }

    /// In words.
    pub const fn noun(self) -> &'static str {
        match self {
            BaseData::Stock => "stock (仓库)",
            BaseData::Organisation => "organisation (组织)",
            BaseData::Supplier => "supplier (供应商)",
            BaseData::Department => "department (部门)",
        }
    }

    const fn form(self) -> &'static str {
        match self {
            BaseData::Stock => "BD_STOCK",
            BaseData::Organisation => "ORG_Organizations",
            BaseData::Supplier => "BD_Supplier",
            BaseData::Department => "BD_Department",
        }
    }
}

/// How an item of base data stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be used.
    Usable,
    /// It is there and not approved (未审核).
    Unapproved,
    /// It is there and forbidden (禁用).
    Forbidden,
}

/// Numbers of documents that were made lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Documents that were looked at.
    pub documents: usize,
    /// There are more, which were not looked at.
    pub cut_off: bool,
    /// Numbers that more than one of them has.
    pub repeated: Vec<String>,
}

impl TargetProbe {
    /// Logs in where sessions are used, and looks up a number that nobody has.
    ///
    /// # Errors
    /// A [`TargetDenial`].
    pub async fn look(&self) -> Result<(), TargetDenial> {
        let looked = match self.client.ready().await {
            Ok(_) => self.client.look_up(&LookUp::by_number(&*self.form), &[NOBODY]).await.map(|_| ()),
            Err(error) => Err(error),
        };
        looked.map_err(|error| {
            let failure = self.failure(&error);
            match error {
                KingdeeError::LoginRefused(_) | KingdeeError::Session { .. } => {
                    TargetDenial::Stranger(failure)
                }
                KingdeeError::Refused(_) => TargetDenial::Form(failure),
                other if other.class_by(&self.texts) == Class::Config => TargetDenial::Stranger(failure),
                _ => TargetDenial::Absent(failure),
            }
        })
    }

    /// The parts of the form with their fields, by `QueryBusinessInfo`.
    ///
    /// # Errors
    /// A [`Failure`] when it is refused or can't be read.
    pub async fn form(&self) -> Result<Vec<FormPart>, Failure> {
        let answer =
            self.client.query_business_info(&self.form).await.map_err(|error| self.failure(&error))?;
        let parts = parts(&answer);
        if parts.is_empty() {
            let text = format!("Kingdee describes {} without any `Entrys` with `Fields`", self.form);
            return Err(Failure::new(FailureKind::Transient, text));
        }
        Ok(parts)
    }

    /// How items of base data stand; what isn't there is left out.
    ///
    /// # Errors
    /// A [`Failure`] when it is refused or isn't answered.
    pub async fn base_data(
        &self,
        base: BaseData,
        numbers: &[String],
    ) -> Result<BTreeMap<String, Standing>, Failure> {
        let mut found = BTreeMap::new();
        for chunk in numbers.chunks(NUMBERS_MAX) {
            let invalid = |error: filter::FilterError| Failure::new(FailureKind::Refused, error.to_string());
            let query = BillQuery {
                form: base.form().to_owned(),
                fields: ["FNumber", "FDocumentStatus", "FForbidStatus"].map(str::to_owned).into(),
                filter: filter::one_of("FNumber", chunk).map_err(invalid)?,
                order: "FNumber ASC".to_owned(),
                start_row: 0,
                limit: ROWS_MAX,
            };
            for row in self.rows(&query).await? {
                let standing = match (text(&row, 1).as_str(), text(&row, 2).as_str()) {
                    (_, "B") => Standing::Forbidden,
                    ("C", _) => Standing::Usable,
                    _ => Standing::Unapproved,
                };
                // One of several that share a number, in several organisations, is enough.
                let best = found.entry(text(&row, 0)).or_insert(standing);
                if standing == Standing::Usable {
                    *best = standing;
                }
            }
        }
        Ok(found)
    }

    /// Which numbers more than one document has, of those made since a time in Beijing, as `2026-08-01 00:00:00`.
    ///
    /// # Errors
    /// A [`Failure`] when it is refused or isn't answered.
    pub async fn numbers_since(&self, since: Timestamp) -> Result<Numbers, Failure> {
        let query = BillQuery {
            form: self.form.clone(),
            fields: ["FID", "FBillNo"].map(str::to_owned).into(),
            filter: format!("FCreateDate>={}", filter::literal(&beijing_text(since))),
            order: "FID DESC".to_owned(),
            start_row: 0,
            limit: ROWS_MAX,
        };
        let rows = self.rows(&query).await?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        // Kingdee's database compares without regard to case; a draft may have no number.
        for number in rows.iter().map(|row| text(row, 1).to_uppercase()).filter(|number| !number.is_empty()) {
            *counts.entry(number).or_default() += 1;
        }
        let repeated = counts.into_iter().filter(|(_, count)| *count > 1).map(|(number, _)| number);
        Ok(Numbers {
            documents: rows.len(),
            cut_off: rows.len() >= ROWS_MAX as usize,
            repeated: repeated.collect(),
        })
    }

    /// Ends the session, if there is one; whether that works makes no difference to anybody.
    pub async fn leave(&self) {
        let _ = self.client.logout().await;
    }

    /// Seconds by which the target's clock was ahead of ours at its last answer; nothing before that.
    pub fn ahead_s(&self) -> Option<i64> {
        self.client.server_ahead()
    }

    async fn rows(&self, query: &BillQuery) -> Result<Vec<Vec<Cell>>, Failure> {
        self.client.execute_bill_query(query).await.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &KingdeeError) -> Failure {
        failures::reading(&self.texts, error)
    }
}

fn text(row: &[Cell], at: usize) -> String {
    row.get(at).and_then(Cell::text).unwrap_or_default().into_owned()
}

/// The parts and fields of a description. Releases differ in what they write beside the keys, and in the case of names.
fn parts(answer: &RawValue) -> Vec<FormPart> {
    let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
    let member = |value: &Value, names: &[&str]| -> Option<Value> {
        let object = value.as_object()?;
        let of = |name: &&str| object.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        names.iter().find_map(of).map(|(_, value)| value.clone())
    };
    let list = |value: &Value, names: &[&str]| match member(value, names) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let key = |value: &Value| match member(value, &["Key", "Id"]) {
        Some(Value::String(key)) if !key.is_empty() => Some(key),
        _ => None,
    };
    let must = |value: &Value| match member(value, &["MustInput"]) {
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        Some(Value::Bool(flag)) => flag,
        Some(Value::String(text)) => text == "1" || text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let part = |entry: &Value| {
        let fields = list(entry, &["Fields"]);
        let fields =
            fields.iter().filter_map(|field| Some(FormField { key: key(field)?, must: must(field) }));
        Some(FormPart { key: key(entry)?, fields: fields.collect() })
    };
    let parts = list(&answer, &["Entrys", "Entries"]);
    parts.iter().filter_map(part).filter(|part| !part.fields.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_in_the_shapes_it_comes_in() {
        let text = r#"{"Id":"STK_InStock","Entrys":[
            {"Key":"FBillHead","Fields":[{"Key":"FBillNo","MustInput":0},{"Key":"FDate","MustInput":1}]},
            {"Id":"FInStockEntry","fields":[{"Id":"FMaterialId","MustInput":"true"}]},
            {"Key":"FEmpty","Fields":[]}]}"#;
        let parts = parts(&RawValue::from_string(text.to_owned()).unwrap());
        let keys: Vec<&str> = parts.iter().map(|part| part.key.as_str()).collect();
        assert_eq!(keys, ["FBillHead", "FInStockEntry"]);
        assert_eq!(parts[0].fields[1], FormField { key: "FDate".into(), must: true });
        assert!(parts[1].fields[0].must && !parts[0].fields[0].must);
    }

    #[test]
    fn fields_say_what_they_refer_to() {
        for (key, base) in [
            ("FStockId", Some(BaseData::Stock)),
            ("FSettleOrgId", Some(BaseData::Organisation)),
            ("FSupplierID", Some(BaseData::Supplier)),
            ("FStockDeptId", Some(BaseData::Department)),
            ("FMaterialId", None),
            ("FOWNERID", None),
        ] {
            assert_eq!(BaseData::of_field(key), base, "{key}");
        }
    }
}
