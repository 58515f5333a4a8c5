//! What watches Kingpost from outside: the rules and the dashboard, held against the metrics that there are, and a
//! Prometheus and an Alertmanager of our own to try them on.

pub mod dashboard;
pub mod expressions;
pub mod known;
pub mod pages;
pub mod picture;
pub mod rules;
pub mod watch;
