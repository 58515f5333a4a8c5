//! The plan of a run and the generator behind it.

use super::catalogue::{self, CARRIERS, SUPPLIERS, WAREHOUSES};
use super::lines::lines;
use super::{Cause, Order};
use crate::beijing;

/// What one run holds: how many orders, when, and which of them can't be posted.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// First epoch second that a modified time may have.
    pub(crate) from: i64,
    /// How many seconds the modified times are spread over; at least one.
    pub(crate) spread: i64,
    /// Orders in status 80.
    pub(crate) completed: u32,
    causes: Vec<Option<Cause>>,
    /// Number of the purchase order of each stock-in; 0 is none.
    purchases: Vec<u32>,
    /// Times of approval of the orders that were added while the source lived, which come behind the planned ones.
    born: Vec<i64>,
}

impl Plan {
    /// Plans `completed` orders, `unpostable` of which can't be posted, and `unfinished` ones in other states.
    pub(crate) fn new(
        seed: u64,
        from: i64,
        spread: i64,
        [completed, unpostable, unfinished]: [u32; 3],
    ) -> Plan {
        let mut rng = Rng::new(seed, 0, 1);
        let mut shuffled: Vec<u32> = (0..completed).collect();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut causes = vec![None; (completed + unfinished) as usize];
        for (cause, index) in Cause::CYCLE.iter().cycle().zip(shuffled.iter().take(unpostable as usize)) {
            causes[*index as usize] = Some(*cause);
        }
        let mut purchases = Vec::with_capacity(causes.len());
        let mut number = 0;
        while purchases.len() < causes.len() {
            if rng.below(12) == 0 {
                purchases.push(0);
            } else {
                number += 1;
                purchases.extend(std::iter::repeat_n(number, 1 + rng.below(4) as usize));
            }
        }
        purchases.truncate(causes.len());
        Plan { seed, from, spread: spread.max(1), completed, causes, purchases, born: Vec::new() }
    }

    /// Adds a completed order without a purchase order, changed now; gives back its index.
    pub(crate) fn add(&mut self, now: i64) -> u32 {
        self.born.push(now);
        self.causes.push(None);
        self.purchases.push(0);
        self.len() - 1
    }

    /// When an order was added that wasn't planned.
    fn birth(&self, index: u32) -> Option<i64> {
        let planned = self.causes.len() - self.born.len();
        self.born.get((index as usize).checked_sub(planned)?).copied()
    }

    /// How many orders there are, unfinished and added ones included.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.causes.len()).unwrap_or(u32::MAX)
    }

    /// The order of that index, header only.
    pub(crate) fn header(&self, index: u32) -> Order {
        let mut rng = Rng::new(self.seed, index, 2);
        let drawn = self.from + rng.below(self.spread.unsigned_abs()) as i64;
        let modified = self.birth(index).unwrap_or(drawn);
        let checked = modified - rng.below(90) as i64;
        let created = checked - 600 - rng.below(2 * 86_400) as i64;
        let purchase = self.purchases[index as usize];
        let supplier = match purchase {
            0 => rng.below(SUPPLIERS.into()) as u32,
            number => number.wrapping_mul(2_654_435_761) >> 7,
        };
        let carrier = rng.chance(2, 3).then(|| *rng.pick(&CARRIERS));
        let status = if index < self.completed || self.birth(index).is_some() {
            80
        } else {
            *rng.pick(&[10, 20, 30, 37, 40])
        };
        let mut order = Order {
            index,
            order_no: format!("RK{}{:05}", beijing::compact_date(created), index + 1),
            warehouse_no: rng.pick(&WAREHOUSES).0.to_owned(),
            status,
            modified,
            created,
            checked,
            purchase_no: if purchase == 0 {
                String::new()
            } else {
                format!("CG{:010}", 2_608_000_000 + u64::from(purchase))
            },
            provider_no: catalogue::supplier_no(supplier),
            provider_name: catalogue::supplier_name(supplier),
            outer_no: if rng.chance(1, 2) { format!("WMS-IN-{:06}", 100_000 + index) } else { String::new() },
            remark: remark(&mut rng),
            flag: "无",
            carrier,
            waybill: carrier
                .map(|(_, code)| format!("{code}{:012}", rng.below(1_000_000_000_000)))
                .unwrap_or_default(),
            cause: self.causes[index as usize],
            lines: Vec::new(),
        };
        match order.cause {
            Some(Cause::DisabledSupplier) => order.supply("停用示例供应商", catalogue::DISABLED_SUPPLIER),
            Some(Cause::UnknownSupplier) => order.supply("未建档示例供应商", catalogue::UNKNOWN_SUPPLIER),
            Some(Cause::UnknownWarehouse) => catalogue::UNKNOWN_WAREHOUSE.clone_into(&mut order.warehouse_no),
            _ => {}
        }
        order
    }

    /// The whole order of that index.
    pub(crate) fn order(&self, index: u32) -> Order {
        let mut order = self.header(index);
        order.lines = lines(&mut Rng::new(self.seed, index, 3), &order);
        order
    }
}

impl Order {
    fn supply(&mut self, name: &str, number: &str) {
        name.clone_into(&mut self.provider_name);
        number.clone_into(&mut self.provider_no);
    }
}

/// Splitmix64: small, and its stream is fixed for ever, unlike a library's.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64, index: u32, salt: u64) -> Rng {
        let mut rng = Rng(seed ^ (u64::from(index) << 20) ^ (salt << 56));
        Rng(rng.next())
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn chance(&mut self, count: u64, of: u64) -> bool {
        self.below(of) < count
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A note as people write them; empty more often than not.
pub(super) fn remark(rng: &mut Rng) -> String {
    let notes = [
        "补货",
        "供应商说“下周补齐”",
        "箱唛: \"A/B\" 混装",
        "路径 D:\\入库\\2026",
        "客户指定😀请勿拆封",
        "第一行\n第二行",
        "100%全检，<合格>",
    ];
    if rng.chance(2, 5) { (*rng.pick(&notes)).to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rust_decimal::Decimal;

    use super::Plan;
    use crate::orders::Cause;
    use crate::orders::render::{Style, render};

    const FROM: i64 = 1_785_513_600;

    fn plan(seed: u64) -> Plan {
        Plan::new(seed, FROM, 3600, [400, 24, 10])
    }

    fn text(plan: &Plan) -> String {
        (0..plan.len()).map(|index| render(&plan.order(index), Style::Direct).to_string()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_orders_and_another_seed_others() {
        assert_eq!(text(&plan(7)), text(&plan(7)));
        assert_ne!(text(&plan(7)), text(&plan(8)));
    }

    #[test]
    fn a_stream_of_orders_never_changes_between_releases() {
        let order = plan(1).order(41);
        let seen = (
            order.order_no.as_str(),
            order.lines.len(),
            order.modified - FROM,
            order.sums().goods_count.to_string(),
        );
        assert_eq!(seen, ("RK2026073000042", 200, 2875, "32974.8536".to_owned()));
    }

    #[test]
    fn sums_hold_exactly_and_nothing_has_more_than_eight_decimals() {
        let plan = plan(3);
        for index in 0..plan.len() {
            let order = plan.order(index);
            for line in &order.lines {
                assert_eq!(line.src_price, line.cost_price * line.discount);
                assert_eq!(line.tax_price, line.src_price * (Decimal::ONE + line.tax));
                assert_eq!(line.total_cost, line.src_price * line.num);
                assert_eq!(line.tax_amount, line.tax_price * line.num);
                for value in [line.num, line.tax_price, line.total_cost, line.tax_amount] {
                    assert!(value.normalize().scale() <= 8, "{} {value}", order.order_no);
                }
            }
            let sums = order.sums();
            assert_eq!(sums.total_price, order.lines.iter().map(|line| line.total_cost).sum());
            assert_eq!(sums.goods_amount, order.lines.iter().map(|line| line.cost_price * line.num).sum());
        }
    }

    #[test]
    fn times_lie_in_the_spread_and_in_their_natural_order() {
        let plan = plan(5);
        for order in (0..plan.len()).map(|index| plan.header(index)) {
            assert!((FROM..FROM + 3600).contains(&order.modified));
            assert!(order.created < order.checked && order.checked <= order.modified);
        }
    }

    #[test]
    fn twelve_unpostable_orders_hold_every_cause_in_its_share() {
        let plan = plan(11);
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for cause in (0..plan.len()).filter_map(|index| plan.header(index).cause) {
            *causes.entry(cause.name()).or_default() += 1;
        }
        let expected = [
            (Cause::DisabledSupplier, 4),
            (Cause::MissingPrice, 4),
            (Cause::NoLines, 2),
            (Cause::UnknownMaterial, 8),
            (Cause::UnknownSupplier, 2),
            (Cause::UnknownWarehouse, 2),
            (Cause::UnreadableQuantity, 2),
        ];
        assert_eq!(causes, expected.map(|(cause, count)| (cause.name(), count)).into());
    }

    #[test]
    fn purchase_orders_are_shared_by_at_most_four_and_some_orders_have_none() {
        let plan = plan(2);
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for order in (0..plan.len()).map(|index| plan.header(index)) {
            *shares.entry(order.purchase_no).or_default() += 1;
            assert!(numbers.insert(order.order_no));
        }
        assert!(shares.remove("").unwrap() > 5);
        assert_eq!(shares.values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn the_nasty_cases_all_occur() {
        let text = text(&plan(1));
        for piece in [
            "😀",
            "\\\"A/B\\\"",
            "D:\\\\入库",
            "\"tax_price\":0,",
            "\"purchase_no\":\"\"",
            "\"num\":\"abc\"",
            "\"details_list\":[]",
            "\"tax_price\":\"\"",
            "\"defect\":true",
            "有限公司 \"",
            "\"modified\":\"2026-",
        ] {
            assert!(text.contains(piece), "{piece}");
        }
    }
}
