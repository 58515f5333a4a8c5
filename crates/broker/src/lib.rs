#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod broker;
mod connection;
mod consumer;
mod inspect;
mod lane;
mod leader;
mod publisher;
mod topology;
mod wire;

pub use broker::{Broker, StartError};
pub use connection::{BrokerConfig, ConnectError, NoObserver, Observer, Role, UrlSource};
pub use consumer::{LaneSpec, Subscription};
pub use inspect::{DeadLetter, Inspector, QueueDepth};
pub use lane::{Delivery, Inbox, Receipt};
pub use leader::Leadership;
pub use publisher::{Destination, Outbound, Posting};
pub use topology::{RESUME_EXCHANGE, SchemeQueues, Topology, UNROUTABLE};
pub use wire::MAX_BODY_BYTES;
