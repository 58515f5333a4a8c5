//! Both books side by side, number by number.

use std::io;

use kingpost_connectors::kingdee::Booked;

use super::{sort::Keyed, verdict::Order};

/// Everything under one number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) number: String,
    pub(crate) orders: Vec<Order>,
    pub(crate) booked: Vec<Booked>,
}

/// Merges two sequences that are sorted by number.
pub(crate) struct Pairs<A: Iterator, B: Iterator> {
    orders: std::iter::Peekable<A>,
    booked: std::iter::Peekable<B>,
}

impl<A, B> Pairs<A, B>
where
    A: Iterator<Item = io::Result<Order>>,
    B: Iterator<Item = io::Result<Booked>>,
{
    pub(crate) fn new(orders: A, booked: B) -> Self {
        Pairs { orders: orders.peekable(), booked: booked.peekable() }
    }
}

/// The number that comes next; a record that can't be read comes first.
fn head<T: Keyed>(next: Option<&io::Result<T>>) -> Option<&str> {
    next.map(|record| record.as_ref().map_or("", Keyed::key))
}

/// Takes everything of one number.
fn take<T: Keyed>(
    records: &mut std::iter::Peekable<impl Iterator<Item = io::Result<T>>>,
    number: &str,
) -> io::Result<Vec<T>> {
    let mut taken = Vec::new();
    while let Some(record) =
        records.next_if(|record| record.as_ref().map_or(true, |record| record.key() == number))
    {
        taken.push(record?);
    }
    Ok(taken)
}

impl<A, B> Iterator for Pairs<A, B>
where
    A: Iterator<Item = io::Result<Order>>,
    B: Iterator<Item = io::Result<Booked>>,
{
    type Item = io::Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let heads = [head(self.orders.peek()), head(self.booked.peek())];
        let number = heads.into_iter().flatten().min()?.to_owned();
        let pair = take(&mut self.orders, &number)
            .and_then(|orders| Ok((orders, take(&mut self.booked, &number)?)))
            .map(|(orders, booked)| Pair { number, orders, booked });
        Some(pair)
    }
}
