//! One reconciliation from its first page to its last verdict.

use std::{sync::Arc, time::Duration};

use kingpost_broker::{BrokerConfig, JournalKeep};
use kingpost_connectors::{Pace, Patience};
use kingpost_model::Source;
use kingpost_scheme::Scheme;

use super::{
    Books, By, Explained, Finding, Progress, Rules, Scope, Sorted, Totals, Verdict, explain,
    merge::{Pair, Pairs},
    naming::Naming,
    prefix,
    read::{self, Asking, Mapper, no_room},
    resolve::Resolver,
    second_of,
    sort::Sorter,
    verdict::Known,
};
use crate::{ending::Stop, terminal::counted};

/// The width of the first window; the next ones follow from what it held.
const WIDTH_S: i64 = 86_400;
/// The longest that a document waits for its window while the schedule keeps up, beside the lag.
const DUE_MAX: Duration = Duration::from_secs(3_600);

/// What is to be compared.
pub(crate) struct Request {
    pub(crate) scheme: Scheme,
    pub(crate) rules: Rules,
    pub(crate) by: By,
    /// How long after the period the source is searched for orders that were changed later.
    pub(crate) late: Duration,
    pub(crate) scope: Scope,
    /// Numbers that the source is asked for at most.
    pub(crate) ask: usize,
    /// Numbers in question that are held at most.
    pub(crate) most: usize,
    /// Whether every verdict is wanted, and not only those by which the books differ.
    pub(crate) details: bool,
    pub(crate) now_ms: i64,
    /// Bytes that are sorted in memory.
    pub(crate) run_bytes: usize,
}

impl Request {
    /// What of the source's time of change is read, in seconds since the epoch: from the first day, but not before the
    /// scheme reads at all, to the end of what comes late, but not into what may still change.
    fn span_s(&self) -> (i64, i64) {
        let window = self.scheme.source.window;
        let from_s = second_of(self.rules.days.from).max(window.start.as_second());
        let late_s = i64::try_from(self.late.as_secs()).unwrap_or(i64::MAX);
        let settled_s = self.now_ms.saturating_sub(millis(window.lag)).div_euclid(1_000);
        (from_s, second_of(self.rules.days.to).saturating_add(late_s).min(settled_s))
    }

    /// Since when a change need not have arrived yet, in milliseconds since the epoch.
    fn due_ms(&self) -> i64 {
        let window = self.scheme.source.window;
        self.now_ms.saturating_sub(millis(window.lag.saturating_add(window.width.min(DUE_MAX))))
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Who is asked.
pub(crate) struct Systems {
    pub(crate) source: Arc<dyn Source>,
    /// The widest window that the source answers.
    pub(crate) widest: Duration,
    pub(crate) books: Box<dyn Books>,
    /// Where messages wait and dead letters lie; nothing when they are not to be asked.
    pub(crate) broker: Option<BrokerConfig>,
    /// How much of the journal is kept, where there is one.
    pub(crate) journal: Option<JournalKeep>,
    pub(crate) patience: Patience,
    pub(crate) pace: Pace,
}

/// What was found.
pub(crate) struct Ended {
    pub(crate) totals: Totals,
    /// Everything but what matches and what is foreign, by number.
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) explained: Explained,
    /// Orders and documents that were read.
    pub(crate) read: (u64, u64),
    /// Until when orders were read, in milliseconds since the epoch.
    pub(crate) read_to_ms: i64,
    /// Every verdict by number, where that was asked for.
    pub(crate) details: Option<Sorted<Verdict>>,
}

/// Reads and compares both books.
///
/// # Errors
/// A system can't be read, there is no room for sorting, or too much is in question.
pub(crate) async fn run(request: &Request, systems: &Systems, progress: &Progress) -> Result<Ended, Stop> {
    let Request { scheme, rules, .. } = request;
    let (from_s, to_s) = request.span_s();
    let widest_s = i64::try_from(systems.widest.as_secs()).unwrap_or(i64::MAX);
    let asking = Asking { patience: &systems.patience, pace: &systems.pace, progress };
    let orders = read::orders(
        scheme,
        &*systems.source,
        &asking,
        (from_s, to_s),
        (WIDTH_S, widest_s),
        request.run_bytes,
    )
    .await?;
    let (booked, documents) = read::booked(rules, &*systems.books, &asking, request.run_bytes).await?;

    let mut tally = Tally {
        rules,
        totals: Totals::new(request.by, orders.basis.unwrap_or_default()),
        details: request.details.then(|| Sorter::new(request.run_bytes)),
        verdicts: Vec::new(),
    };
    let sorted = orders.sorter.sorted().and_then(|orders| Ok((orders, booked.sorted()?)));
    let (by_number, booked) = sorted.map_err(|error| no_room(&error))?;
    let mut suspects = Vec::new();
    for pair in Pairs::new(by_number, booked) {
        let pair = pair.map_err(|error| no_room(&error))?;
        match first_look(rules, &orders.naming, &request.scope, pair) {
            Look::Settled(verdict) => tally.take(*verdict)?,
            Look::Nothing => {}
            Look::Suspect(pair) => suspects.push(pair),
        }
        if suspects.len() > request.most {
            return Err(too_many(&suspects, request.most));
        }
    }
    let resolver = Resolver {
        rules: *rules,
        source: &*systems.source,
        books: &*systems.books,
        asking: &asking,
        naming: &orders.naming,
        since_s: (from_s, scheme.source.window.start.as_second()),
        ask: request.ask,
    };
    let mut resolved = resolver.resolve(Mapper::new(scheme)?, suspects).await?;
    let due_ms = request.due_ms();
    let explained = match &systems.broker {
        Some(broker) => explain::explain(broker, scheme, due_ms, &mut resolved).await?,
        None => {
            explain::not_due(due_ms, &mut resolved);
            Explained::default()
        }
    };
    for verdict in resolved {
        tally.take(verdict)?;
    }
    progress.end();
    tally.verdicts.sort_by(|one, other| one.number.cmp(&other.number));
    Ok(Ended {
        totals: tally.totals,
        verdicts: tally.verdicts,
        explained,
        read: (orders.count, documents),
        read_to_ms: to_s.saturating_mul(1_000),
        details: tally.details.map(Sorter::sorted).transpose().map_err(|error| no_room(&error))?,
    })
}

/// Verdicts, counted and kept as far as they are wanted.
struct Tally<'a> {
    rules: &'a Rules,
    totals: Totals,
    details: Option<Sorter<Verdict>>,
    verdicts: Vec<Verdict>,
}

/// Verdicts on what needs no explanation that are kept for the page; there may be as many as there are documents.
const KEPT_MAX: usize = 1_000;

impl Tally<'_> {
    fn take(&mut self, verdict: Verdict) -> Result<(), Stop> {
        self.totals.add(self.rules, &verdict);
        if let Some(details) = &mut self.details {
            details.push(&verdict).map_err(|error| no_room(&error))?;
        }
        let settled = matches!(verdict.finding, Finding::Unmappable | Finding::Filtered);
        let kept = !matches!(verdict.finding, Finding::Matched | Finding::Foreign);
        if kept && (!settled || self.verdicts.len() < KEPT_MAX) {
            self.verdicts.push(verdict);
        }
        Ok(())
    }
}

enum Look {
    Settled(Box<Verdict>),
    Nothing,
    Suspect(Pair),
}

/// What two readings alone can tell: that both agree, or that a number is none of ours.
fn first_look(rules: &Rules, naming: &Naming, scope: &Scope, pair: Pair) -> Look {
    if pair.orders.is_empty() {
        let expected = naming.expects(scope, &pair.number);
        if expected && !pair.number.is_empty() {
            return Look::Suspect(pair);
        }
        let reason = "it has no number".to_owned();
        let verdict = rules.judge(&pair.number, Known::LeftOut(reason), pair.booked);
        let finding = if expected { Finding::Extra } else { Finding::Foreign };
        return verdict
            .map_or(Look::Nothing, |verdict| Look::Settled(Box::new(Verdict { finding, ..verdict })));
    }
    match rules.judge(&pair.number, Known::Has(pair.orders.clone()), pair.booked.clone()) {
        None => Look::Nothing,
        Some(verdict) => match verdict.finding {
            Finding::Matched | Finding::Filtered | Finding::Unmappable => Look::Settled(Box::new(verdict)),
            _ => Look::Suspect(pair),
        },
    }
}

/// So much is in question that something is wrong as a whole.
fn too_many(suspects: &[Pair], most: usize) -> Stop {
    let bare = suspects.iter().filter(|pair| pair.orders.is_empty());
    let mut prefixes: std::collections::BTreeMap<&str, usize> = <_>::default();
    bare.for_each(|pair| *prefixes.entry(prefix(&pair.number)).or_default() += 1);
    let extra: usize = prefixes.values().sum();
    let begin: Vec<String> =
        prefixes.iter().take(5).map(|(prefix, count)| format!("{prefix}… {count}")).collect();
    let told = if extra == 0 { String::new() } else { format!(" ({})", begin.join(", ")) };
    Stop::failed(format!(
        "more than {} are in question: {} in Kingdee alone{told}, {} in the source or different\nremedy: see whether the \
         scheme, its account and the period are the right ones; compare a shorter period; leave other documents of \
         Kingdee out with --only-prefix; or let more be held with --most",
        counted(most, "number"),
        extra,
        suspects.len() - extra
    ))
}
