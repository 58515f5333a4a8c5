//! What a scheme may ask of 旺店通·旗舰版: the query methods with their criteria, from the vendor's page of each.

use std::time::Duration;

/// A query method that answers whole documents by their time.
#[derive(Debug)]
pub(crate) struct Method {
    /// Its name on the direct gateway; `wdt.` and this in lower case is its name over Qimen.
    pub(crate) direct: &'static str,
    /// The field that identifies a document.
    pub(crate) key: &'static str,
    /// The widest time range of one query.
    pub(crate) widest: Duration,
    /// Criteria beside the time range; empty where the vendor's page was not at hand, so that none is refused.
    pub(crate) criteria: &'static [&'static str],
    /// The codes of the `status` criterion, where they are checked.
    pub(crate) statuses: &'static [&'static str],
}

impl Method {
    /// Finds a method by either name, in any case, with or without the scene prefix of a Qimen customer.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase();
        let bare = match name.find(".wdt.") {
            Some(at) => &name[at + 1..],
            None => name.as_str(),
        };
        let direct = bare.strip_prefix("wdt.").unwrap_or(bare);
        // One published client asks for other outbound under this name.
        let direct = if direct == "wms.stockout.other.querywithdetail" { OTHER_OUT } else { direct };
        METHODS.iter().find(|method| method.direct.eq_ignore_ascii_case(direct))
    }

    /// The names of all methods as Qimen spells them, or as the direct gateway does.
    pub(crate) fn names(qimen: bool) -> Vec<String> {
        let spelt = |method: &Method| match qimen {
            true => format!("wdt.{}", method.direct.to_ascii_lowercase()),
            false => method.direct.to_owned(),
        };
        METHODS.iter().map(spelt).collect()
    }
}

const OTHER_OUT: &str = "wms.stockout.OtherQuery.queryWithDetail";
const DAY: u64 = 24 * 60 * 60;
const MONTH: Duration = Duration::from_secs(30 * DAY);
const HOUR: Duration = Duration::from_secs(60 * 60);

const fn method(direct: &'static str, key: &'static str, criteria: &'static [&'static str]) -> Method {
    Method { direct, key, widest: MONTH, criteria, statuses: &[] }
}

const SALES: &[&str] = &[
    "status_type",
    "status",
    "warehouse_no",
    "stockout_no",
    "shop_nos",
    "src_order_no",
    "logistics_no",
    "src_tid",
    "need_sn",
    "position",
    "is_slave",
    "order_type",
    "need_pick_position",
    "get_anchor",
    "need_gov_subsidy_info",
];

static METHODS: [Method; 15] = [
    Method {
        // 10 cancelled, 20 editing, 30 awaiting check, 37 awaiting quality inspection, 40 inspected, 80 completed.
        statuses: &["10", "20", "30", "37", "40", "80"],
        ..method(
            "wms.stockin.Purchase.queryWithDetail",
            "order_no",
            &["status", "warehouse_no", "stockin_no", "purchase_no"],
        )
    },
    Method { widest: HOUR, ..method("wms.stockout.Sales.queryWithDetail", "order_no", SALES) },
    Method { widest: HOUR, ..method("wms.stockout.Sales.queryHistoryWithDetail", "order_no", SALES) },
    method(
        "purchase.PurchaseOrder.queryWithDetail",
        "purchase_no",
        &[
            "purchase_no",
            "provider_no",
            "expect_warehouse_no",
            "receive_warehouse_no",
            "stockin_status",
            "status",
            "fuzzy_query",
        ],
    ),
    method(
        "wms.stockout.PurchaseReturn.queryWithDetail",
        "order_no",
        &["time_type", "warehouse_no", "stockout_no", "src_order_no", "status"],
    ),
    method(
        "wms.stockin.Refund.queryWithDetail",
        "order_no",
        &[
            "time_type",
            "status",
            "warehouse_no",
            "stockin_no",
            "refund_no",
            "shop_nos",
            "need_sn",
            "need_summary",
            "need_gov_subsidy_info",
            "is_slave",
        ],
    ),
    method(
        "wms.stockin.Other.queryWithDetail",
        "order_no",
        &["status", "warehouse_no", "stockin_no", "other_stockin_no", "reason_name", "wms_stock_change_no"],
    ),
    method(
        OTHER_OUT,
        "order_no",
        &["time_type", "warehouse_no", "src_order_no", "stockout_no", "reason_name", "status"],
    ),
    method("wms.stockother.InQuery.queryWithDetail", "other_in_no", &[]),
    method("wms.stockother.OutQuery.queryWithDetail", "other_out_no", &[]),
    method(
        "wms.stockin.Transfer.queryWithDetail",
        "order_no",
        &["status", "warehouse_no", "stockin_no", "transfer_no"],
    ),
    method(
        "wms.stockout.Transfer.queryWithDetail",
        "order_no",
        &["status", "warehouse_no", "src_order_no", "stockout_no", "position"],
    ),
    method(
        "wms.stocktransfer.Manage.queryWithDetail",
        "transfer_no",
        &["from_warehouse_no", "to_warehouse_no", "transfer_no", "status", "fuzzy_query"],
    ),
    method(
        "wms.StockPd.queryStockPdInDetail",
        "order_no",
        &["time_type", "status", "warehouse_no", "stockin_no", "src_order_no"],
    ),
    method(
        "wms.StockPd.queryStockPdOutDetail",
        "order_no",
        &["time_type", "status", "warehouse_no", "stockout_no", "src_order_no"],
    ),
];
