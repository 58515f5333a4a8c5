//! A verdict as one flat record, the same in every kind of file.

use rust_decimal::Decimal;

use crate::{
    clock,
    reconcile::{Basis, Verdict},
};

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Text(String),
    /// Digits as they are; nothing where a side doesn't tell.
    Number(Option<Decimal>),
    Count(Option<usize>),
}

/// The names of the fields.
pub(super) const NAMES: [&str; 20] = [
    "number",
    "source_number",
    "result",
    "detail",
    "date_source",
    "date_kingdee",
    "partner_source",
    "partner_kingdee",
    "stock_source",
    "stock_kingdee",
    "lines_source",
    "lines_kingdee",
    "quantity_source",
    "quantity_kingdee",
    "amount_source",
    "amount_kingdee",
    "status_kingdee",
    "fid_kingdee",
    "modified_source",
    "advice",
];

/// A record in the order of [`NAMES`].
pub(super) fn record(verdict: &Verdict, basis: Basis) -> [Field; NAMES.len()] {
    let (ours, theirs) = (verdict.ours.as_deref(), verdict.theirs.first());
    let there = theirs.map(|booked| &booked.content);
    let text = |text: Option<&String>| Field::Text(text.cloned().unwrap_or_default());
    let stocks = |content: Option<&kingpost_connectors::kingdee::Content>| {
        let stocks = content.and_then(|content| content.stocks.as_ref());
        let listed = stocks.map(|stocks| stocks.iter().map(String::as_str).collect::<Vec<_>>().join(" + "));
        Field::Text(listed.unwrap_or_default())
    };
    let advice = if verdict.finding.differs() { verdict.finding.advice() } else { "" };
    [
        Field::Text(verdict.number.clone()),
        Field::Text(verdict.source.clone()),
        Field::Text(verdict.finding.as_str().to_owned()),
        Field::Text(verdict.detail.clone()),
        text(ours.and_then(|content| content.date.as_ref())),
        text(there.and_then(|content| content.date.as_ref())),
        text(ours.and_then(|content| content.partner.as_ref())),
        text(there.and_then(|content| content.partner.as_ref())),
        stocks(ours),
        stocks(there),
        Field::Count(ours.map(|content| content.lines)),
        Field::Count(there.map(|content| content.lines)),
        Field::Number(ours.map(|content| content.total.quantity)),
        Field::Number(there.map(|content| content.total.quantity)),
        Field::Number(ours.and_then(|content| basis.amount(&content.total))),
        Field::Number(there.and_then(|content| basis.amount(&content.total))),
        text(theirs.map(|booked| &booked.status)),
        Field::Text(verdict.theirs.iter().map(|booked| booked.id.as_str()).collect::<Vec<_>>().join(" ")),
        Field::Text(verdict.modified_ms.map(clock::beijing).unwrap_or_default()),
        Field::Text(advice.to_owned()),
    ]
}

/// The digits of a number without zeros at the end.
pub(super) fn digits(number: Decimal) -> String {
    number.normalize().to_string()
}
