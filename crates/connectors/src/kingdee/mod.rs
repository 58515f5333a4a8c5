//! 金蝶云星空 as a target.

pub mod batch;
mod books;
mod content;
pub(crate) mod failures;
mod forms;
mod identity;
pub mod life;
mod look_up;
mod present;
mod target;
mod texts;

pub use books::{BookPage, Booked, Days, KingdeeBooks, Place};
pub use content::{Amount, Content, Share};
pub use forms::Form;
pub use life::{Finish, OnChange, Rules};
pub use present::{Looker, Present};
pub use target::{KingdeeTarget, TargetSpec};
pub use texts::catalogue;
