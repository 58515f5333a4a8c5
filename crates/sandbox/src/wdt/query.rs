//! One WDT call: its parameters, the checks in the gateway's order, and the page it asks for.

use std::collections::BTreeMap;

use super::answer::{self, Refusal};
use super::sign;
use crate::beijing;
use crate::cli::Options;
use crate::http::{Reply, Request, decode_form};
use crate::json::Json;
use crate::orders::{Book, Criteria, Style};

/// The method through Qimen, without its scene prefix.
const QIMEN_METHOD: &str = "wdt.wms.stockin.purchase.querywithdetail";
/// The method on the direct gateway.
const DIRECT_METHOD: &str = "wms.stockin.Purchase.queryWithDetail";
/// Seconds from 1970 to 2012-01-01 00:00 Beijing time, where the direct gateway's clock begins.
const DIRECT_EPOCH: i64 = 1_325_347_200;
/// The number of the first page through Qimen.
const QIMEN_BASE: i64 = 1;
/// The number of the first page on the direct gateway.
const DIRECT_BASE: i64 = 0;
const TOP_SKEW_SECONDS: u64 = 600;
const DIRECT_SKEW_SECONDS: u64 = 120;
const MAX_WINDOW_SECONDS: i64 = 30 * 86_400;
const MAX_PAGE_SIZE: i64 = 500;
const CRITERIA: [&str; 6] = ["start_time", "end_time", "status", "warehouse_no", "stockin_no", "purchase_no"];

/// Which gateway a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Qimen,
    Direct,
}

/// One call, its parameters merged as the gateway merges them.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) transport: Transport,
    pub(crate) method: String,
    /// Document numbers that the call names.
    pub(crate) keys: Vec<String>,
    /// The page it asks for, counted from 0 through either gateway.
    pub(crate) page: Option<i64>,
    /// What it asks for, where that can be read.
    pub(crate) criteria: Option<Criteria>,
    parameters: BTreeMap<String, String>,
    body: Vec<u8>,
    /// A parameter that was sent twice with different values.
    torn: Option<String>,
    posted: bool,
}

/// Reads a request to `/router/qm` or `/openapi`. Never fails: the checks come with [`run`].
pub(crate) fn read(transport: Transport, request: &Request) -> Call {
    let mut pairs = request.query();
    if transport == Transport::Qimen {
        pairs.extend(decode_form(&String::from_utf8_lossy(&request.body)));
    }
    let mut parameters = BTreeMap::new();
    let mut torn = None;
    for (key, value) in pairs {
        if parameters.insert(key.clone(), value.clone()).is_some_and(|old| old != value) {
            torn = Some(key);
        }
    }
    let criteria = match transport {
        Transport::Qimen => parameters.get("params").and_then(|text| Json::parse(text).ok()),
        Transport::Direct => std::str::from_utf8(&request.body)
            .ok()
            .and_then(|text| Json::parse(text).ok())
            .and_then(|body| body.items().first().cloned()),
    };
    let named = |key: &str| criteria.as_ref().and_then(|criteria| criteria.text_of(key));
    let keys = ["stockin_no", "purchase_no"].into_iter().filter_map(named).collect();
    let page = match transport {
        Transport::Qimen => {
            let pager = parameters.get("pager").and_then(|text| Json::parse(text).ok());
            pager.and_then(|pager| Some(pager.get("page_no")?.integer()? - QIMEN_BASE))
        }
        Transport::Direct => {
            parameters.get("page_no").and_then(|text| Some(text.parse::<i64>().ok()? - DIRECT_BASE))
        }
    };
    Call {
        transport,
        page,
        criteria: criteria.and_then(|criteria| read_criteria(&criteria, transport).ok()),
        method: parameters.get("method").cloned().unwrap_or_default(),
        keys,
        parameters,
        body: request.body.clone(),
        torn,
        posted: request.method == "POST",
    }
}

/// How a scripted fault bends an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bend {
    /// Added to `total_count`.
    pub(crate) add_total: i64,
    /// `total_count` is left out.
    pub(crate) no_total: bool,
    /// That many pages behind the one that was asked for.
    pub(crate) add_page: i64,
}

/// Checks a call and answers it from the book. `now` is the epoch second of the fake server, `salt` shuffles what the
/// sorting leaves open.
pub(crate) fn run(
    call: &Call,
    book: &mut Book,
    options: &Options,
    (now, salt): (i64, u64),
    bend: Bend,
) -> Result<Answer, Refusal> {
    let (criteria, pager) = match call.transport {
        Transport::Qimen => call.check_qimen(options, now)?,
        Transport::Direct => call.check_direct(options, now)?,
    };
    let criteria = read_criteria(&criteria, call.transport)?;
    let page = (pager.number - pager.base).saturating_add(bend.add_page);
    let skip = usize::try_from(page.saturating_mul(pager.size)).unwrap_or(usize::MAX);
    let style = if call.transport == Transport::Qimen { Style::Qimen } else { Style::Direct };
    let (total, orders) =
        book.query(&criteria, skip, usize::try_from(pager.size).unwrap_or_default(), salt, style);
    let counts = pager.counts && !bend.no_total;
    let total = counts.then(|| i64::try_from(total).unwrap_or(i64::MAX).saturating_add(bend.add_total));
    Ok(Answer { total, orders })
}

/// A page, not yet on paper.
pub(crate) struct Answer {
    total: Option<i64>,
    orders: Vec<Json>,
}

impl Answer {
    pub(crate) fn reply(self, transport: Transport, request: u64) -> Reply {
        answer::page(transport, request, self.total, self.orders)
    }
}

struct Pager {
    /// The number of the first page.
    base: i64,
    number: i64,
    size: i64,
    counts: bool,
}

impl Call {
    fn value(&self, name: &str) -> &str {
        self.parameters.get(name).map(String::as_str).unwrap_or_default()
    }

    /// TOP's checks, then WDT's.
    fn check_qimen(&self, options: &Options, now: i64) -> Result<(Json, Pager), Refusal> {
        if let Some(name) = &self.torn {
            return Err(Refusal::argument(41, "Invalid Arguments", name));
        }
        self.check_top(options, now)?;
        for name in ["wdt3_customer_id", "wdt_appkey", "wdt_salt", "wdt_sign", "datetime", "pager", "params"]
        {
            if self.value(name).is_empty() {
                return Err(Refusal::status(1, format!("缺少参数 {name}")));
            }
        }
        if beijing::parse(self.value("datetime")).is_none() {
            return Err(Refusal::status(1, "datetime 格式错误"));
        }
        self.check_account(options, ["wdt3_customer_id", "wdt_appkey", "wdt_salt"])?;
        let signed = sign::wdt(options.wdt_secret(), &self.method, &self.parameters);
        if signed != self.value("wdt_sign") {
            return Err(Refusal::status(1, "wdt_sign 签名验证失败"));
        }
        let object = |name: &str| match Json::parse(self.value(name)) {
            Ok(value @ Json::Object(_)) => Ok(value),
            _ => Err(Refusal::status(1, format!("{name} 不是 JSON 对象"))),
        };
        let pager = object("pager")?;
        let number = |name: &str| pager.get(name).and_then(Json::integer);
        let pager = Pager {
            base: QIMEN_BASE,
            number: number("page_no").ok_or_else(paging_only)?,
            size: number("page_size").ok_or_else(paging_only)?,
            counts: true,
        };
        Ok((object("params")?, pager.checked()?))
    }

    fn check_top(&self, options: &Options, now: i64) -> Result<(), Refusal> {
        let missing = [
            ("method", 21, "Missing Method"),
            ("app_key", 28, "Missing App Key"),
            ("timestamp", 30, "Missing Timestamp"),
            ("sign", 24, "Missing Signature"),
        ];
        for (name, code, message) in missing {
            if self.value(name).is_empty() {
                return Err(Refusal::gateway(code, message));
            }
        }
        if self.value("app_key") != options.qimen_app_key {
            return Err(Refusal::gateway(29, "Invalid App Key"));
        }
        let Some(sent) = beijing::parse(self.value("timestamp")) else {
            return Err(Refusal::gateway(31, "Invalid Timestamp"));
        };
        if sent.abs_diff(now) > TOP_SKEW_SECONDS {
            return Err(Refusal::gateway(31, "Invalid Timestamp"));
        }
        if !["", "2.0"].contains(&self.value("v")) {
            return Err(Refusal::gateway(33, "Invalid Version"));
        }
        if self.value("format") != "json" {
            return Err(Refusal::gateway(23, "Invalid Format"));
        }
        let signed = sign::top(self.value("sign_method"), &options.qimen_app_secret, &self.parameters);
        if signed.as_deref() != Some(self.value("sign")) {
            return Err(Refusal::gateway(25, "Invalid signature"));
        }
        match self.value("target_app_key") {
            "" => return Err(Refusal::argument(40, "Missing Required Arguments", "target_app_key")),
            key if key != options.qimen_target_app_key => {
                return Err(Refusal::argument(41, "Invalid Arguments", "target_app_key"));
            }
            _ => {}
        }
        let bare = self.method.find("wdt.").map_or("", |at| &self.method[at..]);
        if bare == QIMEN_METHOD { Ok(()) } else { Err(Refusal::gateway(22, "Invalid Method")) }
    }

    /// The direct gateway's checks.
    fn check_direct(&self, options: &Options, now: i64) -> Result<(Json, Pager), Refusal> {
        if !self.posted {
            return Err(Refusal::status(1, "仅支持POST请求"));
        }
        for name in ["sid", "key", "salt", "method", "timestamp", "v", "sign"] {
            if self.value(name).is_empty() {
                return Err(Refusal::status(1, format!("缺少参数 {name}")));
            }
        }
        if self.value("v") != "1.0" {
            return Err(Refusal::status(8, "版本号错误"));
        }
        self.check_account(options, ["sid", "key", "salt"])?;
        let Ok(sent) = self.value("timestamp").parse::<i64>() else {
            return Err(Refusal::status(1, "timestamp 格式错误"));
        };
        if sent.abs_diff(now.saturating_sub(DIRECT_EPOCH)) > DIRECT_SKEW_SECONDS {
            return Err(Refusal::status(7, "时间戳与服务器时间相差超过两分钟"));
        }
        if self.torn.is_some()
            || sign::direct(options.wdt_secret(), &self.parameters, &self.body) != self.value("sign")
        {
            return Err(Refusal::status(1, "签名验证失败"));
        }
        if self.method != DIRECT_METHOD {
            return Err(Refusal::status(1, format!("不存在的方法 {}", self.method)));
        }
        let body = std::str::from_utf8(&self.body).ok().and_then(|text| Json::parse(text).ok());
        let Some([criteria @ Json::Object(_)]) = body.as_ref().map(Json::items) else {
            return Err(Refusal::status(1, "请求体应为只含一个对象的 JSON 数组"));
        };
        let number = |name: &str| self.value(name).parse().map_err(|_| paging_only());
        let counts = self.value("calc_total") == "1";
        let pager =
            Pager { base: DIRECT_BASE, number: number("page_no")?, size: number("page_size")?, counts };
        Ok((criteria.clone(), pager.checked()?))
    }

    fn check_account(&self, options: &Options, [sid, key, salt]: [&str; 3]) -> Result<(), Refusal> {
        if self.value(sid) != options.wdt_sid {
            return Err(Refusal::status(1, "sid 不存在"));
        }
        if self.value(key) != options.wdt_app_key || self.value(salt) != options.wdt_salt() {
            return Err(Refusal::status(1, "接口账号认证失败"));
        }
        Ok(())
    }
}

impl Pager {
    fn checked(self) -> Result<Pager, Refusal> {
        if self.number < self.base {
            return Err(Refusal::status(100, format!("页号错误，page_no 从{}开始", self.base)));
        }
        if !(1..=MAX_PAGE_SIZE).contains(&self.size) {
            return Err(Refusal::status(100, format!("分页大小错误，page_size 最大为{MAX_PAGE_SIZE}")));
        }
        Ok(self)
    }
}

fn paging_only() -> Refusal {
    Refusal::status(100, "此方法仅支持分页查询")
}

fn read_criteria(criteria: &Json, transport: Transport) -> Result<Criteria, Refusal> {
    for (name, _) in criteria.members() {
        if !CRITERIA.contains(&name.as_str()) {
            return Err(Refusal::status(2, format!("未知参数 {name}")));
        }
    }
    let text = |name: &str| criteria.text_of(name).filter(|text| !text.is_empty());
    let time = |name: &str| text(name).and_then(|text| beijing::parse(&text));
    let (Some(start), Some(end)) = (time("start_time"), time("end_time")) else {
        let message = "参数中必须包含起止时间，格式 yyyy-MM-dd HH:mm:ss".to_owned();
        return Err(match transport {
            Transport::Direct => Refusal::Code { code: 2102, message },
            Transport::Qimen => Refusal::status(100, message),
        });
    };
    if end < start {
        return Err(Refusal::status(100, "开始时间不能大于结束时间"));
    }
    if end - start > MAX_WINDOW_SECONDS {
        return Err(Refusal::status(100, "查询时间不能大于30天"));
    }
    let statuses = text("status").unwrap_or_default();
    Ok(Criteria {
        start,
        end,
        statuses: statuses
            .split(',')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        warehouse_no: text("warehouse_no"),
        stockin_no: text("stockin_no"),
        purchase_no: text("purchase_no"),
    })
}
