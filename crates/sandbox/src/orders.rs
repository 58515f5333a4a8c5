//! Example purchase stock-ins: deterministic, exact to the last decimal, and a little nasty.
//!
//! The same seed, start and spread give the same orders on every machine. Orders are generated again whenever
//! they are asked for, so that twenty thousand of them cost no memory.

mod book;
pub(crate) mod catalogue;
mod edit;
mod generate;
mod lines;
mod live;
mod render;
mod truth;

pub use book::SortBy;
pub(crate) use book::{Book, Criteria, Sorting};
pub(crate) use edit::Edit;
pub(crate) use generate::Plan;
pub(crate) use live::Live;
pub use live::Rates;
pub(crate) use render::Style;
use render::render;

use rust_decimal::Decimal;

/// The status of a completed order (已完成), which is what a scheme asks for.
pub(crate) const COMPLETED: &str = "80";

/// Why a generated order can't be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    UnknownMaterial,
    DisabledSupplier,
    UnknownSupplier,
    UnknownWarehouse,
    MissingPrice,
    UnreadableQuantity,
    NoLines,
}

impl Cause {
    /// Twelve in a row hold every cause: four materials, two disabled suppliers, two missing prices, and one
    /// each of the rest.
    pub(crate) const CYCLE: [Cause; 12] = [
        Cause::UnknownMaterial,
        Cause::DisabledSupplier,
        Cause::MissingPrice,
        Cause::UnknownMaterial,
        Cause::UnknownWarehouse,
        Cause::UnreadableQuantity,
        Cause::UnknownMaterial,
        Cause::UnknownSupplier,
        Cause::MissingPrice,
        Cause::UnknownMaterial,
        Cause::DisabledSupplier,
        Cause::NoLines,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::UnknownMaterial => "unknown_material",
            Cause::DisabledSupplier => "disabled_supplier",
            Cause::UnknownSupplier => "unknown_supplier",
            Cause::UnknownWarehouse => "unknown_warehouse",
            Cause::MissingPrice => "missing_price",
            Cause::UnreadableQuantity => "unreadable_quantity",
            Cause::NoLines => "no_lines",
        }
    }

    /// What happens to such an order: `refused` by Kingdee, or `unmappable` before it gets there.
    pub(crate) fn fate(self) -> &'static str {
        match self {
            Cause::UnknownMaterial
            | Cause::DisabledSupplier
            | Cause::UnknownSupplier
            | Cause::UnknownWarehouse => "refused",
            Cause::MissingPrice | Cause::UnreadableQuantity | Cause::NoLines => "unmappable",
        }
    }
}

/// One generated stock-in. Times are epoch seconds, prices without a currency.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) index: u32,
    pub(crate) order_no: String,
    pub(crate) warehouse_no: String,
    pub(crate) status: i64,
    pub(crate) modified: i64,
    pub(crate) created: i64,
    pub(crate) checked: i64,
    /// Empty when the goods came without a purchase order.
    pub(crate) purchase_no: String,
    pub(crate) provider_no: String,
    pub(crate) provider_name: String,
    pub(crate) outer_no: String,
    pub(crate) remark: String,
    /// 标记
    pub(crate) flag: &'static str,
    /// Name and code of the carrier, if there is one.
    pub(crate) carrier: Option<(&'static str, &'static str)>,
    pub(crate) waybill: String,
    pub(crate) cause: Option<Cause>,
    pub(crate) lines: Vec<Line>,
}

/// One line of a stock-in.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rec_id: u64,
    pub(crate) material: catalogue::Material,
    pub(crate) num: Decimal,
    /// What stands in `num` instead of a number.
    pub(crate) num_text: Option<&'static str>,
    pub(crate) cost_price: Decimal,
    pub(crate) discount: Decimal,
    pub(crate) src_price: Decimal,
    pub(crate) tax: Decimal,
    pub(crate) tax_price: Decimal,
    /// How the price is missing, if it is.
    pub(crate) missing_price: Option<MissingPrice>,
    pub(crate) total_cost: Decimal,
    pub(crate) tax_amount: Decimal,
    pub(crate) batch_no: String,
    /// Epoch second of the expiry day, if the lot has one.
    pub(crate) expires: Option<i64>,
    pub(crate) defect: bool,
    pub(crate) remark: String,
}

/// The two ways in which a price is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingPrice {
    Empty,
    Absent,
}

/// The sums of a header. They hold exactly.
pub(crate) struct Sums {
    pub(crate) goods_count: Decimal,
    pub(crate) goods_amount: Decimal,
    pub(crate) total_price: Decimal,
    pub(crate) tax_amount: Decimal,
}

impl Order {
    pub(crate) fn sums(&self) -> Sums {
        let sum = |of: fn(&Line) -> Decimal| self.lines.iter().map(of).sum();
        Sums {
            goods_count: sum(|line| line.num),
            goods_amount: sum(|line| line.num * line.cost_price),
            total_price: sum(|line| line.total_cost),
            tax_amount: sum(|line| line.tax_amount),
        }
    }
}
