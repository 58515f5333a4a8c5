//! What both books add up to, over all and per group.

use std::collections::BTreeMap;

use kingpost_connectors::kingdee::{Content, Share};
use rust_decimal::Decimal;

use super::verdict::{Finding, Rules, Verdict};

/// What is grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// Business date
    Day,
    /// Kingdee's stock
    Warehouse,
    /// Kingdee's supplier, or customer
    Supplier,
    /// Kingdee's material
    Material,
}

impl By {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Warehouse => "warehouse",
            By::Supplier => "supplier",
            By::Material => "material",
        }
    }

    /// The groups that a document belongs to, each with its part.
    fn parts(self, content: &Content) -> Vec<(String, Share)> {
        let none = || "(none)".to_owned();
        let key = match self {
            By::Day => content.date.clone().unwrap_or_else(none),
            By::Supplier => content.partner.clone().unwrap_or_else(none),
            By::Warehouse => match &content.stocks {
                Some(stocks) if !stocks.is_empty() => stocks.iter().cloned().collect::<Vec<_>>().join(" + "),
                _ => none(),
            },
            By::Material => match &content.materials {
                Some(materials) if !materials.is_empty() => {
                    return materials.iter().map(|(code, share)| (code.clone(), share.clone())).collect();
                }
                _ => none(),
            },
        };
        vec![(key, content.total.clone())]
    }
}

/// Whether amounts are with tax, which is how most schemes post, or without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Basis {
    #[default]
    Taxed,
    Untaxed,
}

impl Basis {
    /// The amount of a share on this basis.
    pub(crate) fn amount(self, share: &Share) -> Option<Decimal> {
        let amount = match self {
            Basis::Taxed => share.taxed,
            Basis::Untaxed => share.untaxed,
        };
        amount.map(|amount| amount.sum)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Basis::Taxed => "with tax",
            Basis::Untaxed => "without tax",
        }
    }
}

/// One book's part of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) documents: u64,
    pub(crate) quantity: Decimal,
    pub(crate) amount: Decimal,
}

impl Side {
    fn add(&mut self, share: &Share, basis: Basis) {
        self.documents += 1;
        self.quantity = self.quantity.saturating_add(share.quantity);
        self.amount = self.amount.saturating_add(basis.amount(share).unwrap_or_default());
    }
}

/// Both books' parts of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    /// Documents in it by which the books differ.
    pub(crate) differing: u64,
}

/// Everything that is added up.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) by: By,
    pub(crate) basis: Basis,
    pub(crate) all: Group,
    pub(crate) groups: BTreeMap<String, Group>,
    /// Numbers found per word, and both sides of them.
    pub(crate) findings: BTreeMap<Finding, (u64, Group)>,
    /// Extra and foreign documents by what their numbers begin with.
    pub(crate) prefixes: BTreeMap<(Finding, String), Side>,
}

impl Totals {
    pub(crate) fn new(by: By, basis: Basis) -> Self {
        let (groups, findings, prefixes) = <_>::default();
        Totals { by, basis, all: Group::default(), groups, findings, prefixes }
    }

    /// Counts a verdict: of each side what lies in the period, and of Kingdee's what isn't void.
    pub(crate) fn add(&mut self, rules: &Rules, verdict: &Verdict) {
        let ours: Vec<&Content> =
            verdict.ours.iter().map(|content| &**content).filter(|content| rules.holds(content)).collect();
        let live = verdict.theirs.iter().filter(|booked| !booked.cancelled);
        let theirs: Vec<&Content> =
            live.map(|booked| &booked.content).filter(|content| rules.holds(content)).collect();
        let (differing, basis) = (u64::from(verdict.finding.differs()), self.basis);
        let (count, found) = self.findings.entry(verdict.finding).or_default();
        *count += 1;
        let foreign = verdict.finding == Finding::Foreign;
        if foreign || matches!(verdict.finding, Finding::Extra | Finding::Unasked) {
            let side = self
                .prefixes
                .entry((verdict.finding, super::prefix(&verdict.number).to_owned()))
                .or_default();
            theirs.iter().for_each(|content| side.add(&content.total, basis));
        }
        ours.iter().for_each(|content| found.ours.add(&content.total, basis));
        theirs.iter().for_each(|content| found.theirs.add(&content.total, basis));
        if foreign {
            return;
        }
        ours.iter().for_each(|content| self.all.ours.add(&content.total, basis));
        theirs.iter().for_each(|content| self.all.theirs.add(&content.total, basis));
        self.all.differing += differing;
        let mut groups: std::collections::BTreeSet<String> = <_>::default();
        for (contents, is_ours) in [(ours, true), (theirs, false)] {
            for (key, share) in contents.into_iter().flat_map(|content| self.by.parts(content)) {
                let group = self.groups.entry(key.clone()).or_default();
                let side = if is_ours { &mut group.ours } else { &mut group.theirs };
                side.add(&share, basis);
                groups.insert(key);
            }
        }
        for key in groups {
            self.groups.entry(key).or_default().differing += differing;
        }
    }

    /// How many numbers have this word.
    pub(crate) fn count(&self, finding: Finding) -> u64 {
        self.findings.get(&finding).map_or(0, |(count, _)| *count)
    }

    /// Whether both books say the same.
    pub(crate) fn agrees(&self) -> bool {
        self.findings.iter().all(|(finding, (count, _))| !finding.differs() || *count == 0)
    }
}
