//! What a connector offers: a source that is read by windows, a target that is written once per key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BoxFuture, Failure, FailureKind, Lease, Window};

/// One document as the source sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its number in the source; absent when the source sent a document without one.
    pub number: Option<String>,
    /// When the source last changed it, in milliseconds since the epoch.
    pub modified_ms: Option<i64>,
    /// It was cancelled in the source: it is not to be posted.
    pub cancelled: bool,
    /// The document, byte for byte.
    pub body: Bytes,
}

/// One page of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The documents of the page.
    pub documents: Vec<Document>,
    /// How many documents the source counts in the whole window, where it says so.
    pub total: Option<u64>,
}

/// What a source has under one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The document as it is now.
    Found(Document),
    /// It is there, but not among what is read, for the reason given.
    LeftOut(String),
    /// There is none.
    Absent,
}

/// A system that documents are read from.
pub trait Source: Send + Sync {
    /// Documents per page.
    fn page_size(&self) -> u32;

    /// Reads one page of a window; pages count from 0 whatever the system's own convention.
    ///
    /// # Errors
    /// A [`Failure`] of the whole page; it never returns part of a page as a page.
    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>>;

    /// Reads one document by its number, as it is now. It was last changed at or after `since_s`, in seconds since the
    /// epoch, which saves a source that searches by time from searching all of it.
    ///
    /// # Errors
    /// A [`Failure`] when the source doesn't answer, or can't be asked for one document; that is never taken for an
    /// absent one.
    fn fetch<'a>(&'a self, _number: &'a str, _since_s: i64) -> BoxFuture<'a, Result<Fetched, Failure>> {
        let text = "this source can't be asked for one document by its number; read its window again instead";
        Box::pin(std::future::ready(Err(Failure::new(FailureKind::Configuration, text))))
    }

    /// Reads a document that was pushed to us instead of being asked for, by the rules that hold for one that was.
    ///
    /// # Errors
    /// A [`Failure`] that says why the document can't be taken: it has another shape, no number, or isn't among what
    /// the scheme reads.
    fn read(&self, _body: Bytes) -> Result<Document, Failure> {
        Err(Failure::new(FailureKind::Configuration, "this source takes no pushed documents"))
    }
}

/// What is known about a document before it is posted. Nothing is so fresh that it may be posted unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It may be there already, and nobody is writing it: look it up, post it if it is absent.
    Verify,
    /// A write of it may still be running somewhere: look it up; absent proves nothing yet.
    Unproven,
    /// A write of it may have run, and the settle window has passed since: look it up, post it if it is absent.
    Settled,
}

/// One document to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its number in the target.
    pub number: String,
    /// The model, byte for byte as it will be sent.
    pub model: Bytes,
    /// What is known about it.
    pub standing: Standing,
    /// When it was read from the source, in milliseconds since the epoch.
    pub extracted_ms: Option<i64>,
    /// It was cancelled in the source: it is looked up and not posted.
    pub cancelled: bool,
}

/// How a loaded document came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadedHow {
    /// Posted by this call.
    Posted,
    /// Found half way (saved or submitted) and finished by this call.
    Resumed,
    /// Found complete; nothing was written.
    AlreadyThere,
    /// Found as a draft with an older content, overwritten and finished by this call.
    Updated,
    /// Found with another content, or though it was cancelled in the source, and left as it is because the scheme says
    /// so; nothing was written.
    Ignored,
    /// Cancelled in the source, and not there, or cancelled there as well; nothing was written.
    Withdrawn,
}

impl LoadedHow {
    /// The word used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            LoadedHow::Posted => "posted",
            LoadedHow::Resumed => "resumed",
            LoadedHow::AlreadyThere => "already-there",
            LoadedHow::Updated => "updated",
            LoadedHow::Ignored => "ignored",
            LoadedHow::Withdrawn => "withdrawn",
        }
    }
}

/// A document that is durably in the target, in the state that the scheme asks for, or that has nothing to be there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its number in the target.
    pub number: String,
    /// The target's internal id; empty where there is no document.
    pub id: String,
    /// How it came to be there.
    pub how: LoadedHow,
    /// How the document that is there differs from the one at hand, where that was left as it is.
    pub difference: Option<String>,
}

/// A system that documents are written to.
pub trait Target: Send + Sync {
    /// Loads documents of distinct numbers and returns one outcome per document, in order.
    ///
    /// `Ok` means durable. Twice with one number has the effect of once. After the lease is lost nothing more is
    /// written, and what was not settled by evidence fails as unclear.
    fn load<'a>(
        &'a self,
        documents: &'a [Load],
        lease: &'a Lease,
    ) -> BoxFuture<'a, Vec<Result<Loaded, Failure>>>;
}
