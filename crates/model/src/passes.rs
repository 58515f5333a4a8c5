//! Whether a window was read whole: distinct documents against the source's own count.

use std::collections::HashSet;

use crate::{Failure, FailureKind, Page, Window};

/// A window that can be halved is read so many times before it is.
const PASSES: usize = 2;
/// A single second is read so many times, as long as that shows anything new: what was changed in one second may come in
/// another order with every call.
const SECOND_PASSES: usize = 12;

/// What one pass over the pages of a window saw.
#[derive(Debug, Default)]
pub struct Pass {
    /// The documents, by their numbers or whatever else tells them apart.
    pub seen: HashSet<String>,
    /// The lowest and the highest count that any of its pages gave.
    counts: Option<(u64, u64)>,
}

impl Pass {
    /// Takes the count that a page gave, where it gave one.
    ///
    /// The highest is what matters. Documents leave a window while it is read, and none enters it: so this is how many
    /// there were when the first of these pages was read, those that left since included. The count at the end would not
    /// do: a document that left after it was seen makes up for one that was never seen.
    pub fn count(&mut self, total: Option<u64>) {
        let Some(total) = total else { return };
        let (low, high) = self.counts.unwrap_or((total, total));
        self.counts = Some((low.min(total), high.max(total)));
    }
}

/// What follows from a pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nothing can be missing among so many distinct documents.
    Whole(usize),
    /// The window has to be read again.
    Again,
    /// The source counts fewer documents than it shows, so its count is believed no more: the window has to be read again,
    /// and its last page to be looked for.
    Miscounted {
        /// Distinct documents of the pass.
        found: usize,
        /// What the source counted.
        counted: u64,
    },
    /// Reading it again is no use.
    Short(Failure),
}

/// The passes over one window.
#[derive(Debug)]
pub struct Passes {
    window: Window,
    seen: HashSet<String>,
    counted: Option<u64>,
    evidence: Vec<String>,
    miscounted: bool,
}

impl Passes {
    /// No pass yet.
    pub fn new(window: Window) -> Self {
        Passes { window, seen: HashSet::new(), counted: None, evidence: Vec::new(), miscounted: false }
    }

    /// The count of a page, unless the page refutes it, or an earlier one did: a count that is too low would end the
    /// window before its last page.
    pub fn believed(&self, page: &Page) -> Option<u64> {
        page.total.filter(|total| !self.miscounted && *total >= page.documents.len() as u64)
    }

    /// Takes what a page of a pass says of the count.
    pub fn count(&self, pass: &mut Pass, page: &Page) {
        pass.count(page.total.filter(|_| !self.miscounted));
    }

    /// Takes a pass over all pages, and says what follows.
    pub fn end(&mut self, pass: Pass) -> Counted {
        let Pass { seen, counts } = pass;
        let (found, before) = (seen.len(), self.seen.len());
        let counted = counts.map(|(_, high)| high);
        if let Some(counted) = counted.filter(|counted| found as u64 > *counted) {
            (self.miscounted, self.counted) = (true, None);
            return Counted::Miscounted { found, counted };
        }
        self.seen.extend(seen);
        self.counted = self.counted.max(counted);
        // Whatever there was when the first pass began has been seen at last, in whichever pass.
        if is_whole(found, counted) || is_whole(self.seen.len(), self.counted) {
            return Counted::Whole(self.seen.len());
        }
        self.evidence.push(format!("{found} of {}", counted.unwrap_or_default()));
        let most = if self.window.halves().is_some() { PASSES } else { SECOND_PASSES };
        let moved = counts.is_some_and(|(low, high)| low != high);
        let hopeless = self.seen.len() == before && !moved;
        match self.evidence.len() >= most || (hopeless && self.evidence.len() >= PASSES) {
            true => Counted::Short(self.failure()),
            false => Counted::Again,
        }
    }

    fn failure(&self) -> Failure {
        let (window, passes) = (self.window, self.evidence.len());
        let times = if passes == 2 { "twice".to_owned() } else { format!("{passes} times") };
        let text = format!(
            "the window {window} was read {times} and gave fewer documents than the source counts ({}); check the page \
             base and the account's permissions in the source system",
            self.evidence.join(", then ")
        );
        Failure::new(FailureKind::Incomplete, text)
    }
}

/// Whether nothing can be missing among what was seen.
fn is_whole(seen: usize, counted: Option<u64>) -> bool {
    counted.is_none_or(|counted| seen as u64 >= counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(seen: &str, counts: &[u64]) -> Pass {
        let mut pass = Pass { seen: seen.chars().map(String::from).collect(), ..Pass::default() };
        counts.iter().for_each(|count| pass.count(Some(*count)));
        pass
    }

    fn hour() -> Passes {
        Passes::new(Window::new(0, 3_600))
    }

    #[test]
    fn the_highest_count_of_a_pass_is_what_has_to_be_seen() {
        assert_eq!(hour().end(pass("abc", &[4, 3])), Counted::Again);
        assert_eq!(hour().end(pass("abc", &[3, 3])), Counted::Whole(3));
        assert_eq!(hour().end(pass("abcd", &[3, 4])), Counted::Whole(4));
        assert_eq!(
            hour().end(pass("", &[])),
            Counted::Whole(0),
            "a source that doesn't count can't be checked"
        );
    }

    #[test]
    fn passes_make_up_for_each_other() {
        let mut passes = hour();
        assert_eq!(passes.end(pass("ab", &[3])), Counted::Again);
        assert_eq!(passes.end(pass("bc", &[3])), Counted::Whole(3));
    }

    #[test]
    fn a_window_is_read_twice_and_a_second_as_long_as_it_shows_anything_new() {
        let mut passes = hour();
        assert_eq!(passes.end(pass("a", &[9])), Counted::Again);
        let Counted::Short(failure) = passes.end(pass("b", &[9])) else { panic!("a third time") };
        assert!(failure.text.contains("twice") && failure.text.contains("1 of 9, then 1 of 9"), "{failure}");
        let mut second = Passes::new(Window::new(7, 8));
        for seen in ["a", "b", "c"] {
            assert_eq!(second.end(pass(seen, &[9])), Counted::Again);
        }
        let Counted::Short(failure) = second.end(pass("c", &[9])) else { panic!("nothing new") };
        assert!(failure.text.contains("4 times"), "{failure}");
        let mut moving = Passes::new(Window::new(7, 8));
        let ends: Vec<_> = (0..12).map(|_| moving.end(pass("a", &[9, 8]))).collect();
        assert!(ends[..11].iter().all(|end| *end == Counted::Again), "{ends:?}");
        assert!(matches!(&ends[11], Counted::Short(failure) if failure.text.contains("12 times")));
    }

    #[test]
    fn a_count_below_what_is_seen_is_believed_no_more() {
        let page = Page { documents: Vec::new(), total: Some(2) };
        let mut passes = hour();
        assert_eq!(passes.believed(&page), Some(2));
        assert_eq!(passes.end(pass("abc", &[2])), Counted::Miscounted { found: 3, counted: 2 });
        assert_eq!(passes.believed(&page), None);
        let mut again = pass("abcd", &[]);
        passes.count(&mut again, &page);
        assert_eq!(passes.end(again), Counted::Whole(4));
    }
}
