//! The result for a person at a terminal.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment};
use rust_decimal::{Decimal, RoundingStrategy};

use super::record::digits;
use crate::{
    clock,
    reconcile::{Ended, Finding, Group, Request, Totals, Verdict, repair::Repaired},
    terminal::{self, counted, plain},
};

/// Groups that are listed; those that agree are left out first.
const GROUPS_MAX: usize = 40;

/// What is told, and how.
pub(super) struct Told<'a> {
    pub(super) request: &'a Request,
    pub(super) ended: &'a Ended,
    pub(super) width: u16,
    /// Documents of each kind that are listed.
    pub(super) limit: usize,
}

impl Told<'_> {
    /// The whole page.
    pub(super) fn page(&self) -> String {
        let Told { request, ended, .. } = self;
        let totals = &ended.totals;
        let verdict = if totals.agrees() { "the books agree" } else { "the books differ" };
        let mut out = format!(
            "{}: {} to {} (not included), {verdict}\n{} of the source, {} of Kingdee; amounts {}\n\n",
            request.scheme.name,
            request.rules.days.from,
            request.rules.days.to,
            terminal::counted(usize::try_from(ended.read.0).unwrap_or(usize::MAX), "order"),
            terminal::counted(usize::try_from(ended.read.1).unwrap_or(usize::MAX), "document"),
            totals.basis.as_str()
        );
        out.push_str(&self.results(totals));
        out.push('\n');
        out.push_str(&self.groups(totals));
        for finding in Finding::ALL {
            if finding != Finding::Matched {
                self.documents(finding, &mut out);
            }
        }
        plain(&out)
    }

    fn results(&self, totals: &Totals) -> String {
        let mut table = terminal::table(self.width, false);
        table.set_header(["result", "count", "documents", "quantity", "amount"]);
        for (finding, (count, group)) in &totals.findings {
            table.add_row(row(finding.as_str(), Some(*count), group));
        }
        let without = if totals.count(Finding::Foreign) > 0 { "all but foreign" } else { "all" };
        table.add_row(row(without, None, &totals.all));
        terminal::lines(&table)
            + "(source / Kingdee where they differ; below, \"there\" is Kingdee and \"here\" the source)\n"
    }

    fn groups(&self, totals: &Totals) -> String {
        let differs = |group: &Group| group.differing > 0 || group.ours != group.theirs;
        let differing = totals.groups.values().filter(|group| differs(group)).count();
        let all = totals.groups.len() <= GROUPS_MAX;
        let shown = totals.groups.iter().filter(|(_, group)| all || differs(group)).take(GROUPS_MAX);
        let mut table = terminal::table(self.width, false);
        table.set_header([totals.by.as_str(), "differ", "documents", "quantity", "amount"]);
        let mut count = 0;
        for (name, group) in shown {
            table.add_row(row(name, Some(group.differing), group));
            count += 1;
        }
        if count == 0 && totals.groups.is_empty() {
            return "there is nothing in this period on either side\n".to_owned();
        }
        let mut out = terminal::lines(&table);
        if count < totals.groups.len() {
            let rest = totals.groups.len() - count;
            let _ = writeln!(out, "… and {rest} more, of which {} differ", differing.saturating_sub(count));
        }
        out
    }

    /// The documents of one kind, and what to do about them.
    fn documents(&self, finding: Finding, out: &mut String) {
        let totals = &self.ended.totals;
        let count = totals.count(finding);
        if count == 0 {
            return;
        }
        let of = counted(usize::try_from(count).unwrap_or(usize::MAX), "document");
        let _ = writeln!(out, "\n{}: {of}\n-> {}", finding.as_str(), finding.advice());
        let beginnings: Vec<String> = totals
            .prefixes
            .iter()
            .filter(|((of, _), _)| *of == finding)
            .map(|((_, prefix), side)| {
                let prefix = if prefix.is_empty() { "(digits, or none)" } else { prefix };
                format!("{prefix} {}, amount {}", side.documents, money(side.amount))
            })
            .collect();
        if !beginnings.is_empty() {
            let shown: Vec<&str> = beginnings.iter().take(10).map(String::as_str).collect();
            let _ = writeln!(out, "by what their numbers begin with: {}", shown.join("; "));
        }
        if finding == Finding::Foreign {
            return;
        }
        let verdicts: Vec<&Verdict> =
            self.ended.verdicts.iter().filter(|verdict| verdict.finding == finding).collect();
        let mut table = terminal::table(self.width, false);
        table.set_header(["number", "date", "partner", "quantity", "amount", "what"]);
        for verdict in verdicts.iter().take(self.limit) {
            table.add_row(self.document(verdict));
        }
        if self.limit > 0 {
            out.push_str(&terminal::lines(&table));
        }
        let more = count.saturating_sub(verdicts.len().min(self.limit) as u64);
        if more > 0 {
            let _ = writeln!(out, "… and {more} more; --limit N lists more, --out FILE has all of them");
        }
    }

    fn document(&self, verdict: &Verdict) -> Vec<Cell> {
        let basis = self.ended.totals.basis;
        let content = verdict.ours.as_deref().or(verdict.theirs.first().map(|booked| &booked.content));
        let text = |text: Option<&String>| Cell::new(plain(text.map_or("", String::as_str)));
        let amount = content.and_then(|content| basis.amount(&content.total));
        vec![
            Cell::new(plain(&verdict.number)),
            text(content.and_then(|content| content.date.as_ref())),
            text(content.and_then(|content| content.partner.as_ref())),
            right(content.map(|content| digits(content.total.quantity)).unwrap_or_default()),
            right(amount.map(money).unwrap_or_default()),
            Cell::new(plain(&verdict.detail)),
        ]
    }

    /// What should be known besides.
    pub(super) fn notes(&self) -> String {
        let Told { request, ended, .. } = self;
        let mut notes = ended.explained.notes.clone();
        let moving = ended.explained.moving();
        let [windows, orders, models] = ended.explained.waiting;
        if moving > 0 {
            let _ = writeln!(
                notes,
                "note: {} on the way ({windows} of windows, {orders} of orders, {models} of models, {} in retry tiers of \
                 all schemes); some of what is missing may be among them",
                terminal::counted(moving as usize, "message"),
                ended.explained.retrying
            );
        }
        if self.request.rules.days.to.to_string() > clock::beijing(ended.read_to_ms) {
            let _ = writeln!(
                notes,
                "note: the period isn't over: what was changed after {} was not read",
                clock::beijing(ended.read_to_ms)
            );
        }
        let start = request.scheme.source.window.start;
        if clock::beijing(start.as_millisecond()) > request.rules.days.from.to_string() {
            let _ = writeln!(
                notes,
                "note: the scheme reads nothing that was changed before {}",
                clock::beijing(start.as_millisecond())
            );
        }
        if ended.read.1 == 0 && ended.read.0 > 0 {
            notes.push_str(
                "note: Kingdee shows no document of the form in this period; to a user without data permission it shows \
                 none\n",
            );
        }
        plain(&notes)
    }
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A name, a count and both sides of a group.
fn row(name: &str, count: Option<u64>, group: &Group) -> Vec<Cell> {
    let Group { ours, theirs, .. } = group;
    let both = |ours: String, theirs: String| {
        right(if ours == theirs { ours } else { format!("{ours} / {theirs}") })
    };
    vec![
        Cell::new(plain(name)),
        right(count.map(|count| count.to_string()).unwrap_or_default()),
        both(ours.documents.to_string(), theirs.documents.to_string()),
        both(digits(ours.quantity), digits(theirs.quantity)),
        both(money(ours.amount), money(theirs.amount)),
    ]
}

/// An amount to the cent; files have every digit.
fn money(amount: Decimal) -> String {
    format!("{:.2}", amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero))
}

/// What became of a plan.
pub(super) fn repaired(repaired: &Repaired) -> String {
    let sent = counted(repaired.sent.len(), "document");
    let mut out = format!("\nsent {sent} to be looked up and posted if it is absent\n");
    if !repaired.left.is_empty() {
        let _ = writeln!(out, "left alone: {}", counted(repaired.left.len(), "document"));
    }
    for (number, reason) in &repaired.left {
        let _ = writeln!(out, "  {number}: {reason}");
    }
    if !repaired.sent.is_empty() {
        out.push_str("run reconcile again once they have passed\n");
    }
    plain(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns that a terminal gives a line.
    fn columns(line: &str) -> usize {
        line.chars().map(|c| if c >= '\u{1100}' { 2 } else { 1 }).sum()
    }

    #[test]
    fn a_page_looks_as_agreed_and_keeps_to_its_width() {
        let (request, ended) = crate::reconcile::tests::sample();
        let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
        for width in [80, 100] {
            let page = Told { request: &request, ended: &ended, width, limit: 20 }.page();
            let path = format!("{}/tests/data/reconcile/page-{width}.txt", env!("CARGO_MANIFEST_DIR"));
            if update {
                std::fs::write(&path, &page).unwrap();
            }
            let agreed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(page, agreed, "`UPDATE=1 cargo test -p kingpost-operator` writes it anew");
            for line in page.lines().filter(|line| line.contains('|')) {
                assert!(columns(line) <= usize::from(width), "{line}");
            }
        }
    }
}
