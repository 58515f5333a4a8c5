#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod account;
mod changes;
mod erp;
mod expiry;
mod extraction;
mod hand;
mod health;
mod lane;
pub mod logs;
mod metrics;
pub mod names;
mod openmetrics;
mod publishing;
mod push;
mod reconciliation;
mod server;
pub mod traces;

pub use account::AccountMetrics;
pub use changes::ChangeMetrics;
pub use erp::ErpMetrics;
pub use extraction::ExtractionMetrics;
pub use hand::InHand;
pub use health::{Component, Health, Liveness, Readiness, Stall, State, Watchdog};
pub use lane::LaneMetrics;
pub use metrics::{Metrics, RenderError};
pub use publishing::{PublisherMetrics, SessionMetrics};
pub use push::PushMetrics;
pub use reconciliation::ReconciliationMetrics;
pub use server::{ServeError, bind_problem, serve};
