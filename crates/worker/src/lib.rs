#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod balance;
mod clock;
mod doubt;
mod drive;
mod lane;
mod observe;
mod outbox;
mod pace;
mod pause;
mod plan;
mod reception;
mod run;
mod traces;

pub use clock::now_ms;
pub use outbox::Scribe;
pub use plan::{Background, BackgroundContext, BatchPolicy, Context, LanePlan, Plan, Refusal};
pub use reception::{Opened, Reception, ReceptionContext};
pub use run::run;
