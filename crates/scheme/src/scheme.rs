use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kingpost_mapping::Mapping;
use serde_json::value::RawValue;

use crate::outline::ModelField;

/// One integration (集成方案): where documents come from, what becomes of them, where they go.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// Its name, which is also the name of its file and of its queues: `[a-z0-9-]`, at most 40 characters.
    pub name: String,
    /// What it is called in front of people.
    pub title: String,
    /// The account whose settings it uses (`WDT_NORTH_URL` for `north`); the ones without a name if there is none.
    pub account: Option<String>,
    /// Where documents come from.
    pub source: SourceSpec,
    /// Where they go.
    pub target: TargetSpec,
    /// What is made of a document. Its outputs are [`Scheme::KEY`] and, where [`TargetSpec::write_key`] is given,
    /// [`Scheme::WRITE_KEY`].
    pub mapping: Arc<Mapping>,
    /// The fields that the model writes, without those that are switched off.
    pub fields: Vec<ModelField>,
    /// The file it was read from.
    pub file: PathBuf,
    /// What is allowed but should be known to whoever runs it; for a person to read at a check or a start.
    pub notes: Vec<String>,
}

impl Scheme {
    /// Index of the mapping's output that is the business key: the text of the model's field [`TargetSpec::key`].
    pub const KEY: usize = 0;
    /// Index of the mapping's output that is the write key, when the scheme names one; a document may lack it.
    pub const WRITE_KEY: usize = 1;
}

/// A system that documents can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceSystem {
    /// 旺店通·旗舰版.
    Wdt,
}

/// A system that documents can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetSystem {
    /// 金蝶云星空.
    Kingdee,
}

/// Where documents come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// The system.
    pub system: SourceSystem,
    /// The query method as the scheme names it.
    pub method: String,
    /// Criteria beside the window's time range, in the order of the file.
    pub params: Vec<(String, String)>,
    /// The field that identifies a document.
    pub key: String,
    /// Documents per page.
    pub page_size: u32,
    /// Status codes of cancelled documents, which are read as well and not posted.
    pub cancelled: Vec<String>,
    /// How time is cut.
    pub window: WindowSpec,
}

/// How a source's time is cut into windows; all lengths are whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// Nothing that was changed before is ever read.
    pub start: Timestamp,
    /// The longest window.
    pub width: Duration,
    /// How far behind the present windows end.
    pub lag: Duration,
    /// How far a window reaches back into the one before it.
    pub overlap: Duration,
    /// How often windows are cut.
    pub every: Duration,
    /// A second look at what was read.
    pub remedy: Option<RemedySpec>,
}

/// A second look, for documents that came late or changed unseen: every so often, at what lies between two ages; whole
/// seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemedySpec {
    /// How often.
    pub every: Duration,
    /// The greater age.
    pub from: Duration,
    /// The lesser age.
    pub to: Duration,
}

/// How far a document is taken; each step can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finish {
    /// Saved (保存).
    Save,
    /// Saved and submitted (提交).
    Submit,
    /// Saved, submitted and audited (审核).
    Audit,
}

/// What becomes of a document that stands in the target with another content, because it has changed in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// It counts as done, and nothing is written.
    Ignore,
    /// It is a dead letter.
    #[default]
    Report,
    /// It is overwritten while it is a draft, else a dead letter.
    UpdateDraft,
}

/// Name and JSON value of an option that stands beside `Model` in a save.
pub type SaveOption = (String, Box<RawValue>);

/// Where documents go.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// The system.
    pub system: TargetSystem,
    /// Form id, as `STK_InStock`.
    pub form: String,
    /// How far a document is taken.
    pub finish: Finish,
    /// What becomes of documents that stand there with another content.
    pub on_change: OnChange,
    /// The options the scheme sets, in the order of the file, without those that only name the call (`FormId`,
    /// `Operation`).
    pub options: Vec<SaveOption>,
    /// How documents are gathered.
    pub batch: BatchSpec,
    /// How long an unclear outcome is looked up before it is decided, 40 minutes at most; the loader's own value if not
    /// given.
    pub settle: Option<Duration>,
    /// The model's field that is the business key: `FBillNo`, the one field that documents are looked up by.
    pub key: String,
    /// The source field whose value is written back to, so that documents that share it are never posted at once.
    pub write_key: Option<String>,
    /// Over how many queues loading is spread.
    pub shards: u32,
    /// What texts of the target's refusals mean, before what is built in; the first that fits counts.
    pub texts: Vec<TargetText>,
}

/// What one text of a target's refusals means. All conditions that are given have to hold, and one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetText {
    /// Words of the message; `…` separates those with others between them.
    pub text: Option<String>,
    /// The field that the refusal names (`FieldName`).
    pub field: Option<String>,
    /// The code of the whole answer (`MsgCode`).
    pub msg_code: Option<u16>,
    /// What it means.
    pub kind: TextKind,
    /// What whoever is told of it should do.
    pub advice: String,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextKind {
    /// The document is at fault.
    Refused,
    /// Base data is missing, closed or not approved.
    BaseData,
    /// It passes.
    Transient,
    /// A limit of calls is reached.
    Throttled,
    /// Credentials, permissions or the scheme are wrong, whatever the document.
    Configuration,
    /// It may have been carried out.
    Unclear,
    /// The number is taken.
    Duplicate,
    /// The document is in another state than expected.
    State,
}

/// How documents are gathered into one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Documents in one call.
    pub rows: u32,
    /// How long a call waits for more of them.
    pub wait: Duration,
    /// Calls at a time.
    pub concurrency: u32,
}
