#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod clock;
mod lane;
mod observe;
mod outbox;
mod pause;
mod plan;
mod run;

pub use clock::now_ms;
pub use plan::{Background, BackgroundContext, BatchPolicy, Context, LanePlan, Plan, Refusal};
pub use run::run;
