//! Random pairs of books with planted differences: every one is found, and nothing else.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use kingpost_connectors::{Pace, Patience};
use kingpost_model::{Document, FailureKind, Fetched, Page, Source, Window};
use kingpost_scheme::{Finish, Scheme, load_file};
use proptest::prelude::*;

use super::{
    read::Mapper,
    verdict::{Made, Order},
    *,
};

/// 2026-12-20 in Beijing.
const NOW_S: i64 = 1_797_696_000;
const DAY_S: i64 = 86_400;

fn scheme() -> Scheme {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes/purchase-stockin.yaml");
    load_file(&file).unwrap()
}

fn rules() -> Rules {
    let day = |text: &str| text.parse().unwrap();
    Rules { days: Days { from: day("2026-11-01"), to: day("2026-12-01") }, finish: Finish::Audit }
}

/// What is planted under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    Match,
    /// Matches, and was changed long after the period.
    MatchLate,
    /// Matches, and is changed while it is read.
    MatchMoving,
    Price,
    Quantity,
    Partner,
    Status,
    Twice,
    Cancelled,
    DateThere,
    DateHere,
    Missing,
    Unmappable,
    Extra,
    LeftOut,
    Foreign,
    ElsewhereInBoth,
    CancelledInBoth,
    /// Cancelled in the source, which still tells of it, and not in Kingdee.
    Withdrawn,
    /// The same, and not there.
    NeverPosted,
}

const PLANTED: [Planted; 20] = [
    Planted::Match,
    Planted::MatchLate,
    Planted::MatchMoving,
    Planted::Price,
    Planted::Quantity,
    Planted::Partner,
    Planted::Status,
    Planted::Twice,
    Planted::Cancelled,
    Planted::DateThere,
    Planted::DateHere,
    Planted::Missing,
    Planted::Unmappable,
    Planted::Extra,
    Planted::LeftOut,
    Planted::Foreign,
    Planted::ElsewhereInBoth,
    Planted::CancelledInBoth,
    Planted::Withdrawn,
    Planted::NeverPosted,
];

impl Planted {
    fn finding(self) -> Option<Finding> {
        Some(match self {
            Planted::Match | Planted::MatchLate | Planted::MatchMoving => Finding::Matched,
            Planted::Price | Planted::Quantity | Planted::Partner | Planted::Status => Finding::Different,
            Planted::Twice => Finding::Twice,
            Planted::Cancelled => Finding::Cancelled,
            Planted::DateThere | Planted::DateHere => Finding::OtherPeriod,
            Planted::Missing => Finding::Missing,
            Planted::Unmappable => Finding::Unmappable,
            Planted::Extra | Planted::LeftOut | Planted::Withdrawn => Finding::Extra,
            Planted::Foreign => Finding::Foreign,
            Planted::ElsewhereInBoth | Planted::CancelledInBoth | Planted::NeverPosted => return None,
        })
    }
}

/// An order as WDT sends it, approved at a second.
fn body(number: &str, checked_s: i64, price: &str) -> Bytes {
    let price = if price.is_empty() { String::new() } else { format!(r#""tax_price":"{price}","#) };
    Bytes::from(format!(
        r#"{{"order_no":"{number}","warehouse_no":"SH01","status":80,"check_time":{ms},"provider_no":"GYS0001",
        "purchase_no":"CG1","details_list":[{{"rec_id":1,"goods_no":"G","spec_no":"SP-1","num":"3.5000",{price}"tax":0.13,
        "defect":false}},{{"rec_id":2,"goods_no":"G","spec_no":"SP-2","num":"1",{price}"tax":0.13,"defect":false}}]}}"#,
        ms = checked_s * 1_000
    ))
}

#[derive(Clone)]
struct Held {
    document: Document,
    modified_s: i64,
    /// Not among what the scheme asks for.
    left_out: bool,
    /// Changed at the next page that is read.
    moving: bool,
}

/// A source that pages by the time of change, is busy now and then, and goes on living while it is read.
struct Wdt {
    held: Mutex<Vec<Held>>,
    calls: Mutex<u32>,
    busy_every: u32,
}

impl Wdt {
    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap()
    }

    fn busy(&self) -> Result<(), Failure> {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        match self.busy_every > 1 && calls.is_multiple_of(self.busy_every) {
            true => Err(Failure::new(FailureKind::Throttled, "超过每分钟最大调用频率限制")),
            false => Ok(()),
        }
    }
}

impl Source for Wdt {
    fn page_size(&self) -> u32 {
        3
    }

    fn page(&self, window: Window, page: u32) -> BoxFuture<'_, Result<Page, Failure>> {
        let answer = self.busy().map(|()| {
            let mut held = self.held();
            held.sort_by_key(|held| held.modified_s);
            let inside = |held: &&Held| {
                !held.left_out && window.from_s <= held.modified_s && held.modified_s <= window.to_s
            };
            let found: Vec<Document> = held.iter().filter(inside).map(|held| held.document.clone()).collect();
            let total = Some(found.len() as u64);
            let documents = found.into_iter().skip(page as usize * 3).take(3).collect();
            if let Some(moving) = held.iter_mut().find(|held| held.moving && inside(&&**held)) {
                moving.moving = false;
                moving.modified_s = NOW_S - 60;
                moving.document.modified_ms = Some(moving.modified_s * 1_000);
            }
            Page { documents, total }
        });
        Box::pin(async { answer })
    }

    fn fetch<'a>(&'a self, number: &'a str, since_s: i64) -> BoxFuture<'a, Result<Fetched, Failure>> {
        let answer = self.busy().map(|()| {
            let held = self.held();
            let of =
                |held: &&Held| held.document.number.as_deref() == Some(number) && held.modified_s >= since_s;
            match held.iter().find(of) {
                Some(held) if held.left_out => Fetched::LeftOut("its status is 10".into()),
                Some(held) => Fetched::Found(held.document.clone()),
                None => Fetched::Absent,
            }
        });
        Box::pin(async { answer })
    }
}

struct Kingdee(Vec<Booked>);

impl Books for Kingdee {
    fn page<'a>(&'a self, _: Days, _: Option<&'a Place>) -> BoxFuture<'a, Result<BookPage, Failure>> {
        let holds = |booked: &&Booked| rules().holds(&booked.content);
        let documents = self.0.iter().filter(holds).cloned().collect();
        Box::pin(async { Ok(BookPage { documents, next: None }) })
    }

    fn find<'a>(&'a self, numbers: &'a [String]) -> BoxFuture<'a, Result<Vec<Booked>, Failure>> {
        let found = self.0.iter().filter(|booked| numbers.contains(&booked.number)).cloned().collect();
        Box::pin(async { Ok(found) })
    }
}

fn held(number: &str, checked_s: i64, price: &str) -> Held {
    let modified_s = checked_s + 30;
    let document = Document {
        cancelled: false,
        number: Some(number.to_owned()),
        modified_ms: Some(modified_s * 1_000),
        body: body(number, checked_s, price),
    };
    Held { document, modified_s, left_out: false, moving: false }
}

/// Both books with one number.
fn plant(
    scheme: &Scheme,
    planted: Planted,
    number: &str,
    at: i64,
    held_all: &mut Vec<Held>,
    booked_all: &mut Vec<Booked>,
) {
    let first = second_of(rules().days.from);
    let checked_s = match planted {
        Planted::DateHere => first - 3 * DAY_S,
        Planted::ElsewhereInBoth => first + 31 * DAY_S,
        _ => first + at,
    };
    let mut here = held(number, checked_s, "11.30");
    let content = |document: &Document| match Mapper::new(scheme).unwrap().order(document) {
        Order { made: Made::Model(content), .. } => *content,
        other => panic!("{other:?}"),
    };
    let mut there = Booked {
        number: number.to_owned(),
        id: (100_000 + booked_all.len()).to_string(),
        status: "C".to_owned(),
        cancelled: false,
        content: content(&here.document),
    };
    let mut more = Vec::new();
    let (mut ours, mut theirs) = (true, true);
    match planted {
        Planted::Match => {}
        Planted::MatchLate => here.modified_s = NOW_S - DAY_S,
        Planted::MatchMoving => here.moving = true,
        Planted::Price => there.content = content(&held(number, checked_s, "11.31").document),
        Planted::Quantity => {
            let text = String::from_utf8(here.document.body.to_vec()).unwrap().replace("3.5000", "3.5001");
            there.content = content(&Document { body: text.into(), ..here.document.clone() });
        }
        Planted::Partner => there.content.partner = Some("GYS0002".into()),
        Planted::Status => there.status = "B".into(),
        Planted::Twice => more.push(Booked { id: format!("9{}", there.id), ..there.clone() }),
        Planted::Cancelled => there.cancelled = true,
        Planted::DateThere => there.content.date = Some("2026-12-01".into()),
        Planted::DateHere => there.content.date = Some("2026-11-01".into()),
        Planted::ElsewhereInBoth => {}
        Planted::Missing => theirs = false,
        Planted::Unmappable => {
            here = held(number, checked_s, "");
            theirs = false;
        }
        Planted::Extra | Planted::Foreign => ours = false,
        Planted::LeftOut => here.left_out = true,
        Planted::Withdrawn => here.document.cancelled = true,
        Planted::NeverPosted => {
            here.document.cancelled = true;
            theirs = false;
        }
        Planted::CancelledInBoth => {
            here.left_out = true;
            there.cancelled = true;
        }
    }
    here.document.modified_ms = Some(here.modified_s * 1_000);
    if ours {
        held_all.push(here);
    }
    if theirs {
        booked_all.extend([there].into_iter().chain(more));
    }
}

fn request(scheme: Scheme) -> Request {
    Request {
        scheme,
        rules: rules(),
        by: By::Day,
        late: Duration::from_secs(7 * 86_400),
        scope: Scope::Learned,
        ask: 1_000,
        most: 1_000,
        details: true,
        now_ms: NOW_S * 1_000,
        // So little that everything is sorted on disk.
        run_bytes: 2_000,
    }
}

fn systems(held: Vec<Held>, booked: Vec<Booked>, busy_every: u32) -> Systems {
    Systems {
        source: std::sync::Arc::new(Wdt { held: Mutex::new(held), calls: Mutex::new(0), busy_every }),
        widest: Duration::from_secs(30 * 86_400),
        books: Box::new(Kingdee(booked)),
        broker: None,
        journal: None,
        patience: Patience::default(),
        pace: Pace::per_minute(30),
    }
}

/// Compares under a clock that doesn't wait.
fn reconciled(request: &Request, systems: &Systems) -> Result<Ended, crate::ending::Stop> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(run(request, systems, &Progress::new()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_planted_difference_is_found_and_no_other(
        plants in proptest::collection::vec((0..PLANTED.len(), 0..30 * DAY_S), 0..60),
        odd in 0_usize..4,
        busy_every in 2_u32..9,
    ) {
        let scheme = scheme();
        let (mut held_all, mut booked_all) = (Vec::new(), Vec::new());
        let mut expected = BTreeMap::new();
        // So that numbers that begin with RK are known to be the orders'.
        let first = (0, 5);
        for (n, (which, at)) in [first].into_iter().chain(plants).enumerate() {
            let planted = PLANTED[which];
            let tail = ["", "-A/1", "_'x", "#é库"][(n + odd) % 4];
            let begin = if planted == Planted::Foreign { "CGRK" } else { "RK" };
            let number = format!("{begin}{n}{tail}");
            plant(&scheme, planted, &number, at, &mut held_all, &mut booked_all);
            expected.extend(planted.finding().map(|finding| (number, finding)));
        }
        let ended = reconciled(&request(scheme), &systems(held_all, booked_all, busy_every));
        let mut ended = ended.map_err(|stop| TestCaseError::fail(stop.text))?;
        let verdicts: Vec<Verdict> = ended.details.take().unwrap().map(Result::unwrap).collect();
        let found: BTreeMap<String, Finding> =
            verdicts.iter().map(|verdict| (verdict.number.clone(), verdict.finding)).collect();
        prop_assert_eq!(found.len(), verdicts.len(), "a number has one verdict");
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(ended.totals.agrees(), expected.values().all(|finding| !finding.differs()));
    }
}

#[test]
fn empty_books_agree() {
    let ended = reconciled(&request(scheme()), &systems(Vec::new(), Vec::new(), 0)).unwrap();
    assert!(ended.totals.agrees() && ended.verdicts.is_empty() && ended.read == (0, 0));
}

#[test]
fn what_changed_a_moment_ago_is_not_due_and_older_is_missing() {
    let scheme = scheme();
    let late = held("RK1", NOW_S - 1_200, "5");
    let old = held("RK2", NOW_S - 40_000, "5");
    let mut request = request(scheme);
    request.rules.days.to = "2027-01-01".parse().unwrap();
    let ended = reconciled(&request, &systems(vec![late, old], Vec::new(), 0)).unwrap();
    let found: Vec<(&str, Finding)> =
        ended.verdicts.iter().map(|verdict| (verdict.number.as_str(), verdict.finding)).collect();
    assert_eq!(found, [("RK1", Finding::NotDue), ("RK2", Finding::Missing)]);
}

#[test]
fn too_much_in_question_ends_with_words_that_name_what() {
    let scheme = scheme();
    let (mut held_all, mut booked_all) = (Vec::new(), Vec::new());
    for n in 0..20 {
        plant(&scheme, Planted::Extra, &format!("X{n}"), 5, &mut held_all, &mut booked_all);
    }
    let request = Request { most: 10, ..request(scheme) };
    let Err(stop) = reconciled(&request, &systems(held_all, booked_all, 0)) else { panic!("too many") };
    assert!(stop.text.contains("more than 10 numbers") && stop.text.contains("X… 11"), "{}", stop.text);
    assert!(stop.text.contains("--only-prefix"), "{}", stop.text);
}

#[test]
fn what_is_not_asked_for_is_told_as_that() {
    let scheme = scheme();
    let (mut held_all, mut booked_all) = (Vec::new(), Vec::new());
    for n in 0..4 {
        plant(&scheme, Planted::Extra, &format!("RK{n}"), 5, &mut held_all, &mut booked_all);
    }
    let request = Request { ask: 3, ..request(scheme) };
    let ended = reconciled(&request, &systems(held_all, booked_all, 0)).unwrap();
    let count = |finding| ended.totals.count(finding);
    assert_eq!((count(Finding::Extra), count(Finding::Unasked)), (3, 1));
    assert!(!ended.totals.agrees());
}

#[test]
fn sums_are_exact_and_void_documents_are_not_among_them() {
    let scheme = scheme();
    let (mut held_all, mut booked_all) = (Vec::new(), Vec::new());
    plant(&scheme, Planted::Match, "RK1", 5, &mut held_all, &mut booked_all);
    plant(&scheme, Planted::Cancelled, "RK2", DAY_S, &mut held_all, &mut booked_all);
    let ended = reconciled(&request(scheme), &systems(held_all, booked_all, 0)).unwrap();
    let Group { ours, theirs, differing } = ended.totals.all;
    // 4.5 pieces at 11.30 each.
    assert_eq!(
        (ours.quantity.to_string(), ours.amount.normalize().to_string()),
        ("9.0000".into(), "101.7".into())
    );
    assert_eq!((theirs.documents, theirs.amount.normalize().to_string(), differing), (1, "50.85".into(), 1));
    assert_eq!(ended.totals.groups.len(), 2);
}

/// One of everything, for whoever shows it.
pub(crate) fn sample() -> (Request, Ended) {
    let scheme = scheme();
    let (mut held_all, mut booked_all) = (Vec::new(), Vec::new());
    for (n, planted) in PLANTED.into_iter().enumerate() {
        let begin = if planted == Planted::Foreign { "CGRK" } else { "RK" };
        let number = format!("{begin}202611{:05}", n + 1);
        let at = DAY_S * i64::try_from(n % 3).unwrap();
        plant(&scheme, planted, &number, at, &mut held_all, &mut booked_all);
    }
    if let Some(booked) = booked_all.iter_mut().find(|booked| booked.number.ends_with("00006")) {
        booked.content.partner = Some("杭州示例食品有限公司".into());
    }
    let request = request(scheme);
    let ended = reconciled(&request, &systems(held_all, booked_all, 0)).unwrap();
    (request, ended)
}
