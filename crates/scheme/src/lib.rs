#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod document;
mod kingdee;
mod lint;
mod load;
mod model;
mod nearest;
mod outline;
mod problem;
mod scheme;
mod section;
mod source;
mod table;
mod target;
mod texts;
mod wdt;
mod yaml;

pub use kingpost_mapping::Mapping;
pub use kingpost_mapping::spec::Position;
pub use load::{load_dir, load_file};
pub use outline::{ModelField, TableAnswer};
pub use problem::{Problem, Problems};
pub use scheme::{
    BatchSpec, Finish, OnChange, RemedySpec, SaveOption, Scheme, SourceSpec, SourceSystem, TargetSpec,
    TargetSystem, TargetText, TextKind, WindowSpec,
};
