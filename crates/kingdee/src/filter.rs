//! `FilterString` of queries: SQL-like text, so that every value has to be quoted here and nowhere else.

/// Why a filter can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A field name with characters that no field name has.
    #[error("field {field:?} in a filter: use letters, digits, `_` and `.` only")]
    Field {
        /// As given.
        field: String,
    },
    /// A key that is empty, longer than 128 characters, or has unsafe characters.
    #[error("key {key:?} in a filter: use 1 to 128 letters, digits, spaces inside, or `-_./#:+@()&=~`")]
    Key {
        /// As given.
        key: String,
    },
    /// `in ()` is no filter.
    #[error("a filter without keys: give at least one")]
    NoKeys,
}

/// A text literal: quoted, `'` doubled.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `field='key'`.
///
/// # Errors
/// [`FilterError`] for an unsafe field or key.
pub fn equals(field: &str, key: &str) -> Result<String, FilterError> {
    Ok(format!("{}={}", checked_field(field)?, literal(checked_key(key)?)))
}

/// `field in ('a','b')`.
///
/// # Errors
/// [`FilterError`] for an unsafe field or key, or no key at all.
pub fn one_of<S: AsRef<str>>(field: &str, keys: &[S]) -> Result<String, FilterError> {
    if keys.is_empty() {
        return Err(FilterError::NoKeys);
    }
    let literals =
        keys.iter().map(|key| checked_key(key.as_ref()).map(literal)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{} in ({})", checked_field(field)?, literals.join(",")))
}

/// A field name such as `FBillNo`, `FSupplierId.FNumber` or `FInStockEntry_FSeq`.
pub(crate) fn checked_field(field: &str) -> Result<&str, FilterError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if !field.is_empty() && field.chars().all(safe) {
        Ok(field)
    } else {
        Err(FilterError::Field { field: field.to_owned() })
    }
}

fn checked_key(key: &str) -> Result<&str, FilterError> {
    let safe = |c: char| c.is_alphanumeric() || " -_./#:+@()&=~".contains(c);
    let length = key.chars().count();
    if (1..=128).contains(&length) && key.trim() == key && key.chars().all(safe) {
        Ok(key)
    } else {
        Err(FilterError::Key { key: key.to_owned() })
    }
}
