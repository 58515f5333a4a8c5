#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agenda;
mod failure;
mod journal;
mod passes;
mod policy;
mod reconciled;
mod report;
mod route;
mod stage;
mod system;
mod trace;
mod window;
mod work;

pub use agenda::{Act, Agenda, Answer, Instruction, Period, PeriodKind, Stretch, windows};
pub use failure::{Failure, FailureKind, FailureRecord, Fault, FieldProblem};
pub use journal::{JournalAction, JournalEvent, JournalFailure, JournalStep, JournalWriter};
pub use passes::{Counted, Pass, Passes};
pub use policy::{RETRY_TIERS, Tier, Verdict, decide, failure_table};
pub use reconciled::{Comparisons, Reconciled};
pub use report::{Outcome, REPLY_EXCHANGE, Report};
pub use route::{DEAD_EXCHANGE, Route, StageName, WORK_EXCHANGE, shard_of};
pub use stage::{Abandoned, Batch, BoxFuture, Item, Lease, Outbox, Pulse, Stage};
pub use system::{Document, Fetched, Load, Loaded, LoadedHow, Page, Source, Standing, Target};
pub use trace::{TRACESTATE_BYTES_MAX, TraceContext};
pub use window::Window;
pub use work::{Origin, RecordKey, Work, WorkId};
