//! 金蝶云星空 as a target.

mod failures;
mod forms;
mod identity;
mod look_up;
mod save;
mod steps;
mod target;

pub use forms::{Content, Form};
pub use target::{Finish, KingdeeTarget, TargetSpec};
