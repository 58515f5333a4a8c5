//! The texts of a scheme, in the words of the client.

use kingpost_kingdee::{Catalogue, Class, Row, Unconditional};
use kingpost_scheme::{TargetText, TextKind};

/// What Kingdee's refusals mean to a scheme: its own texts, then those that are built in.
///
/// # Errors
/// A text that would fit every refusal; loading a scheme finds it before.
pub fn catalogue(own: &[TargetText]) -> Result<Catalogue, Unconditional> {
    let row = |text: &TargetText| Row {
        texts: text.text.iter().cloned().collect(),
        fields: text.field.iter().cloned().collect(),
        msg_codes: text.msg_code.map(i64::from).into_iter().collect(),
        class: match text.kind {
            TextKind::Refused | TextKind::BaseData => Class::Data,
            TextKind::Transient => Class::Transient,
            TextKind::Throttled => Class::Throttled,
            TextKind::Configuration => Class::Config,
            TextKind::Unclear => Class::Unclear,
            TextKind::Duplicate => Class::Duplicate,
            TextKind::State => Class::State,
        },
        base_data: text.kind == TextKind::BaseData,
        advice: text.advice.clone(),
    };
    Catalogue::extended(own.iter().map(row).collect())
}
