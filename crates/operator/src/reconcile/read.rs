//! Reading both books into sorted files.

use std::io;

use kingpost_connectors::{
    Pace, Patience, Unread, WindowReader,
    kingdee::{Booked, Form},
};
use kingpost_mapping::{Outcome, Rejection, Scratch};
use kingpost_model::{Document, Failure, FailureKind, Source, Window};
use kingpost_scheme::Scheme;
use kingpost_settings::Exit;

use super::{
    Basis, Books, Progress, Rules,
    naming::Naming,
    sort::Sorter,
    verdict::{Made, Order},
};
use crate::{clock, ending::Stop};

/// Problems of one order that are told.
const PROBLEMS_MAX: usize = 5;

/// Makes of an order what the scheme makes of it.
pub(crate) struct Mapper<'a> {
    scheme: &'a Scheme,
    form: &'static Form,
    scratch: Scratch,
    model: Vec<u8>,
}

impl<'a> Mapper<'a> {
    /// # Errors
    /// Nothing is known of the scheme's form.
    pub(crate) fn new(scheme: &'a Scheme) -> Result<Self, Stop> {
        let Some(form) = Form::find(&scheme.target.form) else {
            let text = format!("nothing is known of the fields of the form {}", scheme.target.form);
            return Err(Stop { exit: Exit::Settings, text });
        };
        Ok(Mapper { scheme, form, scratch: Scratch::new(), model: Vec::new() })
    }

    /// The order that a document is.
    pub(crate) fn order(&mut self, document: &Document) -> Order {
        self.model.clear();
        let source = document.number.clone().unwrap_or_default();
        let mut number = None;
        let made = match self.scheme.mapping.apply(&document.body, &mut self.scratch, &mut self.model) {
            Ok(Outcome::Mapped { outputs }) => {
                number = outputs.into_iter().next().flatten();
                match (&number, self.form.content(&self.model)) {
                    (Some(_), Some(content)) => Made::Model(Box::new(content)),
                    (None, _) => Made::Unmappable("the model has no number".to_owned()),
                    (_, None) => Made::Unmappable(format!("the model is no {}", self.form.id)),
                }
            }
            Ok(Outcome::Filtered) => Made::Filtered,
            Err(Rejection::Malformed { message, line, column }) => {
                Made::Unmappable(format!("not a readable document at {line}:{column}: {message}"))
            }
            Err(Rejection::Unmappable(problems)) => {
                let mut told: Vec<String> = problems
                    .iter()
                    .take(PROBLEMS_MAX)
                    .map(|problem| format!("{}: {}", problem.field, problem.message))
                    .collect();
                if problems.len() > PROBLEMS_MAX {
                    told.push(format!("and {} more", problems.len() - PROBLEMS_MAX));
                }
                Made::Unmappable(told.join("; "))
            }
        };
        Order {
            number: number.unwrap_or_else(|| source.clone()),
            source,
            modified_ms: document.modified_ms,
            made: if document.cancelled { Made::Cancelled } else { made },
        }
    }
}

/// What the orders that were read tell beside themselves.
pub(crate) struct Orders {
    pub(crate) sorter: Sorter<Order>,
    pub(crate) naming: Naming,
    pub(crate) basis: Option<Basis>,
    pub(crate) count: u64,
}

/// How the source is asked.
pub(crate) struct Asking<'a> {
    pub(crate) patience: &'a Patience,
    pub(crate) pace: &'a Pace,
    pub(crate) progress: &'a Progress,
}

/// Why a system can't be read, for a person.
pub(crate) fn unreadable(system: &str, failure: &Failure) -> Stop {
    // A refusal that no waiting mends has an exit code of its own.
    let exit = if failure.kind == FailureKind::Configuration { Exit::Refused } else { Exit::Failed };
    Stop { exit, text: format!("{system} can't be read: {failure}\nremedy: {}", failure.kind.advice()) }
}

/// No room for sorting.
pub(crate) fn no_room(error: &io::Error) -> Stop {
    let folder = std::env::temp_dir();
    Stop::failed(format!(
        "what was read can't be sorted in {}: {error}\nremedy: make room there, or let TMPDIR name another folder",
        folder.display()
    ))
}

/// Documents of a window from which on the next one is narrower, and below which it is wider: about as many as are read
/// before a window is halved.
const MANY: u64 = 750;
const FEW: u64 = 250;

/// Reads every order that the source changed in `[from_s, to_s)`, in windows that begin with a width and are as wide as
/// `widest_s` at most.
pub(crate) async fn orders(
    scheme: &Scheme,
    source: &dyn Source,
    asking: &Asking<'_>,
    (from_s, to_s): (i64, i64),
    (width_s, widest_s): (i64, i64),
    run_bytes: usize,
) -> Result<Orders, Stop> {
    let mut mapper = Mapper::new(scheme)?;
    let mut orders =
        Orders { sorter: Sorter::new(run_bytes), naming: Naming::default(), basis: None, count: 0 };
    let told = |failure: &Failure, pause| asking.progress.waits(failure, pause);
    let reader = WindowReader { source, patience: asking.patience, pace: asking.pace, told: &told };
    let (mut from, mut width) = (from_s, width_s.min(widest_s).max(1));
    while from < to_s {
        // Whether a source's interval holds its end is not known, so windows share the second in which they meet.
        let to = from.saturating_add(width).min(to_s);
        let before = orders.count;
        let mut each = |document: Document| -> io::Result<()> {
            let order = mapper.order(&document);
            if let Made::Model(content) = &order.made {
                orders.naming.learn(&order.source, &order.number);
                let basis = || if content.total.taxed.is_some() { Basis::Taxed } else { Basis::Untaxed };
                orders.basis.get_or_insert_with(basis);
            }
            orders.count += 1;
            asking.progress.show(|| {
                format!("source: {} orders, {}", orders.count, clock::beijing(from.saturating_mul(1_000)))
            });
            orders.sorter.push(&order)
        };
        let read = reader.read(Window::new(from, to), &mut each).await;
        read.map_err(|unread| match unread {
            Unread::Source(failure) => unreadable("the source", &failure),
            Unread::Taker(error) => no_room(&error),
        })?;
        width = match orders.count - before {
            FEW..MANY => width,
            ..FEW => width.saturating_mul(2).min(widest_s),
            MANY.. => (width / 2).max(1),
        };
        from = to;
    }
    Ok(orders)
}

/// Reads every document of Kingdee's whose date lies in the period.
pub(crate) async fn booked(
    rules: &Rules,
    books: &dyn Books,
    asking: &Asking<'_>,
    run_bytes: usize,
) -> Result<(Sorter<Booked>, u64), Stop> {
    let told = |failure: &Failure, pause| asking.progress.waits(failure, pause);
    let (mut sorter, mut place, mut count) = (Sorter::new(run_bytes), None, 0);
    loop {
        let page = asking.patience.ask(&told, async || books.page(rules.days, place.as_ref()).await).await;
        let page = page.map_err(|failure| unreadable("Kingdee", &failure))?;
        for document in &page.documents {
            sorter.push(document).map_err(|error| no_room(&error))?;
            count += 1;
        }
        asking.progress.show(|| format!("Kingdee: {count} documents"));
        match page.next {
            Some(next) => place = Some(next),
            None => return Ok((sorter, count)),
        }
    }
}
