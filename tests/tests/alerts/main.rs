//! The alerts against real systems: RabbitMQ's own metrics, and the whole chain from a fault to whoever is called.
#![forbid(unsafe_code)]

mod exporter;
mod proof;
