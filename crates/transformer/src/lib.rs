#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod plan;
mod stage;

pub use plan::plan;
pub use stage::TransformStage;
