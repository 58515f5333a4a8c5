#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod audit;
mod broker;
mod connection;
mod consumer;
mod custody;
mod desk;
mod inspect;
mod instruct;
mod journal;
mod lane;
mod leader;
mod letter;
mod lock;
mod lossless;
mod notices;
mod publisher;
mod pulse;
mod replies;
mod rights;
mod roll;
mod setup;
mod stream;
mod tags;
mod topology;
mod walk;
mod wire;

pub use audit::{AUDIT_QUEUE, AuditEvent, AuditLetter, AuditPhase, AuditTrail};
pub use broker::{Broker, StartError};
pub use connection::{BrokerConfig, ConnectError, NoObserver, Observer, Role, UrlSource};
pub use consumer::{LaneSpec, Subscription};
pub use custody::{Custody, CustodyError, Held, Moved, Parcel, Round};
pub use inspect::{Inspector, QueueDepth, Scanned};
pub use instruct::{instruct, tell_result};
pub use journal::{JOURNAL, Journal, JournalKeep, JournalReader, JournalScan};
pub use lane::{Delivery, Inbox, Receipt};
pub use leader::Leadership;
pub use letter::{Identity, Letter, LetterError};
pub use lock::{Lock, Locks};
pub use notices::{Ear, Voice};
pub use publisher::{Confirm, Destination, Outbound, Posting, Standing};
pub use replies::{Replies, Reply};
pub use rights::{USERS, UserRights, users_page, users_text};
pub use setup::{Difference, PartReport, PartState};
pub use topology::{NOTICE_EXCHANGE, RESUME_EXCHANGE, SchemeQueues, Topology, UNROUTABLE};
pub use wire::MAX_BODY_BYTES;
