#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod account;
pub mod bench;
pub mod chaos;
pub mod demo;
pub mod lab;
pub mod monitoring;
pub mod pipeline;
pub mod soak;
pub mod tools;
