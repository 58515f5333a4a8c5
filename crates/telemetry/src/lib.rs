#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod account;
mod changes;
mod erp;
mod extraction;
mod health;
mod lane;
pub mod logs;
mod metrics;
pub mod names;
mod publishing;
mod push;
mod server;
pub mod traces;

pub use account::AccountMetrics;
pub use changes::ChangeMetrics;
pub use erp::ErpMetrics;
pub use extraction::ExtractionMetrics;
pub use health::{Component, Health, Liveness, Readiness, Stall, State, Watchdog};
pub use lane::LaneMetrics;
pub use metrics::{Metrics, RenderError};
pub use publishing::{PublisherMetrics, SessionMetrics};
pub use push::PushMetrics;
pub use server::{ServeError, bind_problem, serve};
