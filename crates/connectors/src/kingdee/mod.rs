//! 金蝶云星空 as a target.

pub mod batch;
mod failures;
mod forms;
mod identity;
pub mod life;
mod look_up;
mod present;
mod target;
mod texts;

pub use forms::{Content, Form};
pub use life::Finish;
pub use present::{Looker, Present};
pub use target::{KingdeeTarget, TargetSpec};
pub use texts::catalogue;
