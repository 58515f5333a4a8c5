//! The source document as the mapping needs it: every used field in a numbered slot, all others skipped.

pub(crate) mod escape;
pub(crate) mod json;
mod keys;
mod read;

pub(crate) use keys::{Keys, NO_SLOT, PlanBuilder};
pub(crate) use read::{Cells, Lines, Source, read};

/// Which keys are wanted, and the slot each goes to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) header: Keys,
    pub(crate) arrays: Vec<ArrayPlan>,
}

/// The wanted keys of the elements of one array.
#[derive(Debug, Default)]
pub(crate) struct ArrayPlan {
    pub(crate) name: Box<str>,
    pub(crate) keys: Keys,
}
