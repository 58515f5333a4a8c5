//! Asking for each number that the two readings don't agree in: they were made one after the other, and a document may have
//! been changed, entered or deleted meanwhile, or lie outside of what was read.

use kingpost_model::{Failure, FailureKind, Fetched, Source};

use super::{
    Books, Rules, Verdict,
    merge::Pair,
    naming::Naming,
    read::{Asking, Mapper, unreadable},
    verdict::{Known, Made, Order},
};
use crate::ending::Stop;

/// Numbers of one look-up.
const AT_ONCE: usize = 50;

/// Who is asked, and how often at most.
pub(crate) struct Resolver<'a> {
    pub(crate) rules: Rules,
    pub(crate) source: &'a dyn Source,
    pub(crate) books: &'a dyn Books,
    pub(crate) asking: &'a Asking<'a>,
    pub(crate) naming: &'a Naming,
    /// Seconds since the epoch before which an order behind a document of the period is looked for last: when the period
    /// begins, and since when the scheme reads at all.
    pub(crate) since_s: (i64, i64),
    /// Numbers that the source is asked for at most.
    pub(crate) ask: usize,
}

impl Resolver<'_> {
    /// The verdicts on what is in question.
    ///
    /// # Errors
    /// One of the systems can't be asked.
    pub(crate) async fn resolve(
        &self,
        mut mapper: Mapper<'_>,
        suspects: Vec<Pair>,
    ) -> Result<Vec<Verdict>, Stop> {
        let told = |failure: &Failure, pause| self.asking.progress.waits(failure, pause);
        let (total, mut asked, mut verdicts) = (suspects.len(), 0, Vec::new());
        // Documents without an order can't be judged without asking, the others can: so those come first.
        let (bare, known): (Vec<Pair>, Vec<Pair>) =
            suspects.into_iter().partition(|pair| pair.orders.is_empty());
        let suspects: Vec<Pair> = bare.into_iter().chain(known).collect();
        for some in suspects.chunks(AT_ONCE) {
            let numbers: Vec<String> = some.iter().map(|pair| pair.number.clone()).collect();
            let found = self.asking.patience.ask(&told, async || self.books.find(&numbers).await).await;
            let found = found.map_err(|failure| unreadable("Kingdee", &failure))?;
            for pair in some {
                let booked = found.iter().filter(|found| found.number == pair.number).cloned().collect();
                let known = match asked < self.ask {
                    true => self.known(&mut mapper, pair).await?,
                    false if pair.orders.is_empty() => {
                        Known::Unasked(format!("the source is asked for {} numbers at most", self.ask))
                    }
                    false => Known::Has(pair.orders.clone()),
                };
                asked += 1;
                self.asking.progress.show(|| format!("asking for what differs: {asked} of {total}"));
                verdicts.extend(self.rules.judge(&pair.number, known, booked));
            }
        }
        Ok(verdicts)
    }

    /// What the source has under a number now.
    async fn known(&self, mapper: &mut Mapper<'_>, pair: &Pair) -> Result<Known, Stop> {
        if pair.orders.is_empty() {
            let Some(source) = self.naming.source_of(&pair.number) else {
                return Ok(Known::Unasked("its number isn't made of an order's number".to_owned()));
            };
            let (period, start) = self.since_s;
            let mut fetched = self.fetch(source, period.max(start)).await?;
            if matches!(fetched, Ok(Fetched::Absent)) && start < period {
                fetched = self.fetch(source, start).await?;
            }
            return Ok(match fetched {
                Ok(Fetched::Found(document)) => Known::Has(vec![mapper.order(&document)]),
                Ok(Fetched::LeftOut(reason)) => Known::LeftOut(reason),
                Ok(Fetched::Absent) => Known::Absent,
                Err(reason) => Known::Unasked(reason),
            });
        }
        let mut orders: Vec<Order> = Vec::new();
        let mut left_out = None;
        for order in &pair.orders {
            if orders.iter().any(|known| known.source == order.source) {
                continue;
            }
            let since_s = order.modified_ms.map_or(self.since_s.0, |ms| ms.div_euclid(1_000));
            match self.fetch(&order.source, since_s).await? {
                // One that has become another number by now is judged under that one, by whoever looks next.
                Ok(Fetched::Found(document)) => {
                    let now = mapper.order(&document);
                    let same = now.number == pair.number || !matches!(now.made, Made::Model(_));
                    if same {
                        orders.push(now);
                    }
                }
                Ok(Fetched::LeftOut(reason)) => left_out = Some(reason),
                Ok(Fetched::Absent) => {}
                Err(_) => orders.push(order.clone()),
            }
        }
        Ok(match (orders.is_empty(), left_out) {
            (false, _) => Known::Has(orders),
            (true, Some(reason)) => Known::LeftOut(reason),
            (true, None) => Known::Absent,
        })
    }

    /// One order; the inner error says why the source can't be asked for single ones.
    async fn fetch(&self, number: &str, since_s: i64) -> Result<Result<Fetched, String>, Stop> {
        let told = |failure: &Failure, pause| self.asking.progress.waits(failure, pause);
        let call = async || {
            self.asking.pace.turn().await;
            self.source.fetch(number, since_s).await
        };
        match self.asking.patience.ask(&told, call).await {
            Ok(fetched) => Ok(Ok(fetched)),
            Err(failure) if by_number_is_impossible(&failure) => Ok(Err(failure.text)),
            Err(failure) => Err(unreadable("the source", &failure)),
        }
    }
}

/// A number that can't be asked for, or a source that can't be asked for numbers, says nothing about its books.
fn by_number_is_impossible(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Configuration | FailureKind::Refused | FailureKind::Incomplete)
}
