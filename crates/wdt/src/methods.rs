use std::time::Duration;

use crate::config::Transport;
use crate::sign::bare_method;

/// What is known about one query method, from the vendor's reference page of its direct name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// What the document is called in the trade.
    pub title: &'static str,
    /// Name on the direct gateway.
    pub direct: &'static str,
    /// Bare name through Qimen.
    pub qimen: &'static str,
    /// False when the Qimen name was only formed by the usual rule (`wdt.` and the direct name in lower case).
    pub qimen_seen: bool,
    /// Member of `data` that holds the rows.
    pub list_key: &'static str,
    /// Member of a row that holds its lines.
    pub line_key: &'static str,
    /// Member of a row that identifies the document.
    pub key: &'static str,
    /// Widest interval between `start_time` and `end_time`.
    pub widest_window: Duration,
    /// Whether rows carry the time of their last change, by which the newer of two copies is told.
    pub rows_have_modified: bool,
    /// How one document is asked for; `None` where the vendor's page promises no way that finds it whatever its age.
    pub by_number: Option<ByNumber>,
}

/// How a method answers one document by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByNumber {
    /// With this criterion, in a range of the time of change that stays mandatory.
    Within(&'static str),
    /// With this criterion, which makes the time range unnecessary.
    Anywhere(&'static str),
}

impl ByNumber {
    /// The criterion.
    #[must_use]
    pub const fn criterion(self) -> &'static str {
        match self {
            ByNumber::Within(criterion) | ByNumber::Anywhere(criterion) => criterion,
        }
    }
}

impl Method {
    /// Finds a method by its direct name, its Qimen name or its Qimen name with a scene prefix, in any case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        let bare = bare_method(name);
        // One published client reads other outbound under this name.
        let bare = if bare.eq_ignore_ascii_case("wdt.wms.stockout.other.querywithdetail") {
            "wdt.wms.stockout.otherquery.querywithdetail"
        } else {
            bare
        };
        METHODS.iter().find(|method| {
            bare.eq_ignore_ascii_case(method.qimen) || bare.eq_ignore_ascii_case(method.direct)
        })
    }

    /// Every known method.
    #[must_use]
    pub fn all() -> &'static [Self] {
        METHODS
    }
}

/// The name to send over `transport` for a method given by either name.
///
/// A name that is in no table is sent as it is when it has the form of that transport's names (`wdt.…` for Qimen,
/// anything else for direct); otherwise it can't be translated, and the error says which name is needed.
pub(crate) fn name_for(transport: Transport, given: &str) -> Result<String, String> {
    let bare = bare_method(given);
    let given_for_qimen = bare.starts_with("wdt.");
    match (transport, Method::find(given)) {
        _ if bare.is_empty() => Err("the method is empty: give its name".to_owned()),
        (Transport::Qimen, _) if given_for_qimen => Ok(given.to_ascii_lowercase()),
        (Transport::Qimen, Some(method)) => Ok(method.qimen.to_owned()),
        (Transport::Direct, Some(method)) => Ok(method.direct.to_owned()),
        (Transport::Direct, None) if !given_for_qimen => Ok(given.to_owned()),
        (Transport::Qimen, None) => {
            Err(format!("no Qimen name is known for the method {given}: give its name that begins with wdt."))
        }
        (Transport::Direct, None) => Err(format!(
            "no direct name is known for the method {given}: give its direct name, such as \
             wms.stockin.Purchase.queryWithDetail"
        )),
    }
}

const DAY: u64 = 24 * 60 * 60;

const fn method(
    title: &'static str,
    (direct, qimen, qimen_seen): (&'static str, &'static str, bool),
    line_key: &'static str,
    (key, rows_have_modified): (&'static str, bool),
) -> Method {
    let widest_window = Duration::from_secs(30 * DAY);
    Method {
        title,
        direct,
        qimen,
        qimen_seen,
        list_key: "order",
        line_key,
        key,
        widest_window,
        rows_have_modified,
        by_number: None,
    }
}

const fn found(by_number: ByNumber, method: Method) -> Method {
    Method { by_number: Some(by_number), ..method }
}

const fn sales(title: &'static str, names: (&'static str, &'static str, bool)) -> Method {
    let hour = Duration::from_secs(60 * 60);
    Method { widest_window: hour, ..method(title, names, "details_list", ("order_no", true)) }
}

const METHODS: &[Method] = &[
    found(
        ByNumber::Within("stockin_no"),
        method(
            "采购入库 purchase stock-in",
            ("wms.stockin.Purchase.queryWithDetail", "wdt.wms.stockin.purchase.querywithdetail", true),
            "details_list",
            ("order_no", true),
        ),
    ),
    found(
        ByNumber::Anywhere("stockout_no"),
        sales(
            "销售出库 sales outbound",
            ("wms.stockout.Sales.queryWithDetail", "wdt.wms.stockout.sales.querywithdetail", true),
        ),
    ),
    sales(
        "销售出库 sales outbound, archived",
        ("wms.stockout.Sales.queryHistoryWithDetail", "wdt.wms.stockout.sales.queryhistorywithdetail", false),
    ),
    found(
        ByNumber::Anywhere("purchase_no"),
        method(
            "采购订单 purchase order",
            ("purchase.PurchaseOrder.queryWithDetail", "wdt.purchase.purchaseorder.querywithdetail", true),
            "detail_list",
            ("purchase_no", true),
        ),
    ),
    found(
        ByNumber::Anywhere("stockout_no"),
        method(
            "采购退货出库 purchase return outbound",
            (
                "wms.stockout.PurchaseReturn.queryWithDetail",
                "wdt.wms.stockout.purchasereturn.querywithdetail",
                true,
            ),
            "details_list",
            ("order_no", true),
        ),
    ),
    found(
        ByNumber::Within("stockin_no"),
        method(
            "退货入库 refund stock-in",
            ("wms.stockin.Refund.queryWithDetail", "wdt.wms.stockin.refund.querywithdetail", true),
            "details_list",
            ("order_no", true),
        ),
    ),
    found(
        ByNumber::Anywhere("stockin_no"),
        method(
            "其他入库 other stock-in",
            ("wms.stockin.Other.queryWithDetail", "wdt.wms.stockin.other.querywithdetail", false),
            "detail_list",
            ("order_no", false),
        ),
    ),
    method(
        "其他出库 other outbound",
        ("wms.stockout.OtherQuery.queryWithDetail", "wdt.wms.stockout.otherquery.querywithdetail", true),
        "detail_list",
        ("order_no", true),
    ),
    method(
        "其他入库业务单 other stock-in order",
        ("wms.stockother.InQuery.queryWithDetail", "wdt.wms.stockother.inquery.querywithdetail", false),
        "detail_list",
        ("other_in_no", true),
    ),
    method(
        "其他出库业务单 other outbound order",
        ("wms.stockother.OutQuery.queryWithDetail", "wdt.wms.stockother.outquery.querywithdetail", false),
        "detail_list",
        ("other_out_no", true),
    ),
    found(
        ByNumber::Within("stockin_no"),
        method(
            "调拨入库 transfer stock-in",
            ("wms.stockin.Transfer.queryWithDetail", "wdt.wms.stockin.transfer.querywithdetail", false),
            "detail_list",
            ("order_no", true),
        ),
    ),
    method(
        "调拨出库 transfer outbound",
        ("wms.stockout.Transfer.queryWithDetail", "wdt.wms.stockout.transfer.querywithdetail", false),
        "detail_list",
        ("order_no", false),
    ),
    found(
        ByNumber::Within("transfer_no"),
        method(
            "调拨单 transfer order",
            (
                "wms.stocktransfer.Manage.queryWithDetail",
                "wdt.wms.stocktransfer.manage.querywithdetail",
                false,
            ),
            "details_list",
            ("transfer_no", true),
        ),
    ),
    method(
        "盘点入库 stock-taking gain",
        ("wms.StockPd.queryStockPdInDetail", "wdt.wms.stockpd.querystockpdindetail", false),
        "detail_list",
        ("order_no", false),
    ),
    method(
        "盘点出库 stock-taking loss",
        ("wms.StockPd.queryStockPdOutDetail", "wdt.wms.stockpd.querystockpdoutdetail", false),
        "detail_list",
        ("order_no", false),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_both_names_and_translated_both_ways() {
        for method in Method::all() {
            assert_eq!(Method::find(method.direct), Some(method));
            assert_eq!(Method::find(method.qimen), Some(method));
            assert_eq!(Method::find(&format!("3ldsmu02o9.{}", method.qimen)), Some(method));
            assert_eq!(name_for(Transport::Direct, method.qimen).as_deref(), Ok(method.direct));
            assert_eq!(name_for(Transport::Qimen, method.direct).as_deref(), Ok(method.qimen));
        }
    }

    #[test]
    fn every_qimen_name_follows_the_rule_from_its_direct_name() {
        for method in Method::all() {
            assert_eq!(method.qimen, format!("wdt.{}", method.direct.to_lowercase()));
        }
    }

    #[test]
    fn a_qimen_name_is_sent_in_lower_case_with_the_prefix_it_was_given() {
        for (given, sent) in [
            (
                "3ldsmu02o9.wdt.wms.stockin.purchase.querywithdetail",
                "3ldsmu02o9.wdt.wms.stockin.purchase.querywithdetail",
            ),
            ("wdt.wms.stockin.Purchase.queryWithDetail", "wdt.wms.stockin.purchase.querywithdetail"),
            ("wdt.wms.stockout.other.querywithdetail", "wdt.wms.stockout.other.querywithdetail"),
        ] {
            assert_eq!(name_for(Transport::Qimen, given).as_deref(), Ok(sent));
        }
    }

    #[test]
    fn an_unknown_method_must_be_given_by_the_name_of_its_transport() {
        assert_eq!(name_for(Transport::Qimen, "wdt.goods.x").as_deref(), Ok("wdt.goods.x"));
        assert_eq!(name_for(Transport::Direct, "goods.Goods.x").as_deref(), Ok("goods.Goods.x"));
        assert!(name_for(Transport::Qimen, "goods.Goods.x").unwrap_err().contains("begins with wdt."));
        assert!(name_for(Transport::Direct, "wdt.goods.x").unwrap_err().contains("direct name"));
        assert!(name_for(Transport::Direct, "").is_err() && name_for(Transport::Qimen, "").is_err());
    }

    #[test]
    fn a_number_lifts_the_time_range_only_where_the_vendor_says_so() {
        let by_number = |name| Method::find(name).and_then(|method| method.by_number);
        // The vendor's page of purchase stock-ins marks the range as mandatory even beside a document's number.
        let within = Some(ByNumber::Within("stockin_no"));
        assert_eq!(by_number("wdt.wms.stockin.purchase.querywithdetail"), within);
        assert_eq!(by_number("wms.stockout.Sales.queryWithDetail"), Some(ByNumber::Anywhere("stockout_no")));
        // Its range is that of the shipping time, which nothing that is known of a change narrows down.
        assert_eq!(by_number("wms.stockout.Transfer.queryWithDetail"), None);
    }

    #[test]
    fn sales_outbound_is_read_by_the_hour_and_the_rest_by_the_month() {
        for method in Method::all() {
            let hours = if method.direct.starts_with("wms.stockout.Sales.") { 1 } else { 30 * 24 };
            assert_eq!(method.widest_window, Duration::from_secs(hours * 3600), "{}", method.direct);
        }
    }
}
