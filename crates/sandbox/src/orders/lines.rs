//! The lines of an order: quantities, prices and taxes whose products stay within eight decimals.

use rust_decimal::Decimal;

use super::catalogue::{self, MATERIALS, Material};
use super::generate::{Rng, remark};
use super::{Cause, Line, MissingPrice, Order};

/// Every so many orders one has two hundred lines.
const LONG_ORDER_EVERY: u32 = 97;
const LONG_ORDER_LINES: u64 = 200;

pub(super) fn lines(rng: &mut Rng, order: &Order) -> Vec<Line> {
    if order.cause == Some(Cause::NoLines) {
        return Vec::new();
    }
    let count = match rng.below(20) {
        _ if order.index % LONG_ORDER_EVERY == 41 => LONG_ORDER_LINES,
        0 => 21 + rng.below(40),
        1..=7 => 1 + rng.below(3),
        _ => 1 + rng.below(20),
    };
    let mut lines: Vec<Line> = Vec::with_capacity(count as usize);
    let mut material = rng.below(MATERIALS.into()) as u32;
    for at in 0..count {
        if !rng.chance(1, 5) {
            material = rng.below(MATERIALS.into()) as u32;
        }
        lines.push(line(
            rng,
            u64::from(order.index) * 1000 + 311_001 + at,
            order,
            catalogue::material(material),
        ));
    }
    let spoiled = rng.below(count) as usize;
    spoil(&mut lines[spoiled], order);
    lines
}

fn line(rng: &mut Rng, rec_id: u64, order: &Order, material: Material) -> Line {
    let (num, price_scale, discounted) = match rng.below(20) {
        0 => (Decimal::new(1 + rng.below(5_000_000) as i64, 4), 2, false),
        1..=3 => (Decimal::new(1 + rng.below(50_000) as i64, 2), 2, true),
        4..=6 => (Decimal::from(1 + rng.below(300)), 4, true),
        _ => (Decimal::from(1 + rng.below(300)), 2, true),
    };
    let cost_price = match price_scale {
        4 => Decimal::new(i64::from(material.cents) * 100 + rng.below(100) as i64, 4),
        _ => Decimal::new(i64::from(material.cents), 2),
    };
    let gift = rng.chance(1, 14);
    let discount = match rng.below(3) {
        _ if gift => Decimal::ZERO,
        0 if discounted => Decimal::new(70 + rng.below(30) as i64, 2),
        _ => Decimal::ONE,
    };
    let src_price = cost_price * discount;
    let tax_price = src_price * (Decimal::ONE + material.tax);
    let lot = rng.chance(1, 3);
    Line {
        rec_id,
        num,
        num_text: None,
        cost_price,
        discount,
        src_price,
        tax: material.tax,
        tax_price,
        missing_price: None,
        total_cost: src_price * num,
        tax_amount: tax_price * num,
        batch_no: if lot { format!("LOT{:06}", rng.below(1_000_000)) } else { String::new() },
        expires: lot.then(|| order.created + 86_400 * (180 + rng.below(360) as i64)),
        defect: rng.chance(1, 25),
        remark: remark(rng),
        material,
    }
}

/// Puts the order's cause, if it is one of a line, into this line.
fn spoil(line: &mut Line, order: &Order) {
    match order.cause {
        Some(Cause::UnknownMaterial) => line.material.spec_no = format!("SP-9{:03}", order.index % 1000),
        Some(Cause::UnreadableQuantity) => line.num_text = Some("abc"),
        Some(Cause::MissingPrice) => {
            let empty = order.index.is_multiple_of(2);
            line.missing_price = Some(if empty { MissingPrice::Empty } else { MissingPrice::Absent });
        }
        _ => {}
    }
}
