//! How numbers of both systems belong together, learned from the orders that were read.

use std::collections::BTreeSet;

use super::prefix;

/// Beginnings of numbers that are kept; a source with more has no system in its numbers.
const PREFIXES_MAX: usize = 1_000;

/// Which of Kingdee's documents are expected to have an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those whose numbers begin as those of the orders that were read do.
    Learned,
    /// Those whose numbers begin with one of these.
    Only(Vec<String>),
    /// Every one.
    All,
}

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naming {
    prefixes: BTreeSet<String>,
    /// What stands before and behind a source's number in Kingdee's.
    around: Option<(String, String)>,
    /// Numbers don't come from the source's in one way.
    irregular: bool,
}

impl Naming {
    /// Learns from an order that has a model.
    pub(crate) fn learn(&mut self, source: &str, number: &str) {
        let prefix = prefix(number);
        if !self.prefixes.contains(prefix) && self.prefixes.len() < PREFIXES_MAX {
            self.prefixes.insert(prefix.to_owned());
        }
        match (&self.around, number.split_once(source)) {
            (Some((before, behind)), Some((b, e))) if before == b && behind == e => {}
            (None, Some((before, behind))) if !source.is_empty() => {
                self.around = Some((before.to_owned(), behind.to_owned()));
            }
            _ => self.irregular = true,
        }
    }

    /// The source's number behind one of Kingdee's.
    pub(crate) fn source_of<'a>(&self, number: &'a str) -> Option<&'a str> {
        match &self.around {
            _ if self.irregular => None,
            Some((before, behind)) => number.strip_prefix(&**before)?.strip_suffix(&**behind),
            None => Some(number),
        }
        .filter(|source| !source.is_empty())
    }

    /// Whether a document is expected to have an order.
    pub(crate) fn expects(&self, scope: &Scope, number: &str) -> bool {
        match scope {
            Scope::All => true,
            Scope::Only(beginnings) => beginnings.iter().any(|begin| number.starts_with(begin)),
            // Nothing was learned from nothing.
            Scope::Learned => self.prefixes.is_empty() || self.prefixes.contains(prefix(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_a_number_is_learned_and_taken_off_again() {
        let mut naming = Naming::default();
        assert_eq!(naming.source_of("RK1"), Some("RK1"));
        naming.learn("RK1", "WDT-RK1-A");
        naming.learn("RK22", "WDT-RK22-A");
        assert_eq!(naming.source_of("WDT-RK3-A"), Some("RK3"));
        assert_eq!(naming.source_of("CGRK3"), None);
        naming.learn("RK4", "4711");
        assert_eq!(naming.source_of("WDT-RK3-A"), None, "an irregular number tells nothing");
    }

    #[test]
    fn documents_of_other_kinds_are_told_by_what_their_numbers_begin_with() {
        let mut naming = Naming::default();
        assert!(naming.expects(&Scope::Learned, "CGRK1"), "without orders nothing is foreign");
        naming.learn("RK1", "RK1");
        assert!(naming.expects(&Scope::Learned, "RK999") && !naming.expects(&Scope::Learned, "CGRK1"));
        assert!(naming.expects(&Scope::All, "CGRK1"));
        assert!(naming.expects(&Scope::Only(vec!["CG".into()]), "CGRK1"));
        assert!(!naming.expects(&Scope::Only(vec!["CG".into()]), "RK1"));
    }
}
