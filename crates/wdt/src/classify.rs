//! One table from what a gateway or WDT says to what it means. First match wins.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Class, Origin};

/// What kind of failure an answer is, and what to do about it.
pub(crate) fn classify(
    origin: Origin,
    code: Option<&str>,
    sub_code: Option<&str>,
    text: &str,
) -> (Class, &'static str) {
    let number = code.and_then(|code| code.trim().parse().ok());
    let text = normal(text);
    match row(origin, number, sub_code.unwrap_or_default(), &text) {
        Some(row) => match row.class {
            Class::Throttled { .. } => (Class::Throttled { wait: ban(&text) }, row.advice),
            class => (class, row.advice),
        },
        None => (Class::Permanent, UNKNOWN),
    }
}

/// Whether WDT itself, not the gateway before it, is known to use this code.
pub(crate) fn is_business_code(code: &str) -> bool {
    code.trim().parse().is_ok_and(|code: i64| {
        code == 100
            || RULES.iter().any(|rule| {
                rule.origin == Some(Origin::Business) && rule.codes.iter().any(|codes| codes.contains(&code))
            })
    })
}

struct Rule {
    /// `None`: whoever says it.
    origin: Option<Origin>,
    /// Empty: whatever the code.
    codes: &'static [RangeInclusive<i64>],
    /// Empty: whatever the sub code.
    sub_code_prefix: &'static str,
    /// Part of the normalised text; empty: whatever the text.
    fragment: &'static str,
    class: Class,
    advice: &'static str,
}

const ANY: Rule = Rule {
    origin: None,
    codes: &[],
    sub_code_prefix: "",
    fragment: "",
    class: Class::Permanent,
    advice: UNKNOWN,
};
const GATEWAY: Rule = Rule { origin: Some(Origin::Gateway), ..ANY };
const BUSINESS: Rule = Rule { origin: Some(Origin::Business), ..ANY };

const THROTTLED: Class = Class::Throttled { wait: None };

const UNKNOWN: &str = "this answer is in no table: read its text, the same call will fail again";
const WAIT: &str = "wait as long as the text says, then call again with a new timestamp; calls of one app key share the limit";
const WAIT_MINUTE: &str = "leave the interface alone for a minute or more (the vendor says 5 to 10) and call less often; workers of one \
     account share the limit";
const WAIT_PARALLEL: &str =
    "wait a minute and make fewer calls at the same time; workers of one account share the limit";
const RETRY: &str = "try again after a pause";
const CALLER: &str = "the arguments are refused: correct the scheme or report a bug";
const SIGNATURE: &str = "check the app key, its secret and the sign method of the gateway";
const GATEWAY_SETUP: &str = "check the address, the app key, the target app key and the method name";
const CLOCK: &str = "set this machine's clock (NTP); a new call carries a new timestamp";

/// Codes 4–43 and their sub codes as in the published table of the Taobao open platform; statuses and texts as in the
/// error table of WDT's flagship documentation.
static RULES: &[Rule] = &[
    Rule {
        fragment: "超过每分钟最大调用频率限制", class: THROTTLED, advice: WAIT_MINUTE, ..ANY
    },
    Rule {
        fragment: "超过每分钟最大并发次数限制", class: THROTTLED, advice: WAIT_PARALLEL, ..ANY
    },
    Rule { fragment: "ban will last", class: THROTTLED, advice: WAIT, ..ANY },
    Rule { codes: &[4..=6], class: THROTTLED, advice: WAIT, ..GATEWAY },
    Rule { codes: &[7..=7], class: THROTTLED, advice: WAIT, ..GATEWAY },
    Rule { codes: &[8..=8], class: THROTTLED, advice: WAIT, ..GATEWAY },
    Rule { sub_code_prefix: "accesscontrol.limited-by-", class: THROTTLED, advice: WAIT, ..GATEWAY },
    Rule {
        codes: &[9..=9, 11..=13],
        class: Class::Configuration,
        advice: "ask for the permission to call this method with this app key",
        ..GATEWAY
    },
    Rule { codes: &[24..=25], class: Class::Configuration, advice: SIGNATURE, ..GATEWAY },
    Rule {
        codes: &[21..=23, 28..=29, 32..=34],
        class: Class::Configuration,
        advice: GATEWAY_SETUP,
        ..GATEWAY
    },
    Rule {
        codes: &[26..=27],
        class: Class::Permanent,
        advice: "these calls need no session: check that the method is one of WDT's flagship edition",
        ..GATEWAY
    },
    Rule { codes: &[30..=31], class: Class::Clock, advice: CLOCK, ..GATEWAY },
    Rule { sub_code_prefix: "isp.", class: Class::Retryable, advice: RETRY, ..GATEWAY },
    Rule { sub_code_prefix: "isv.", class: Class::Permanent, advice: CALLER, ..GATEWAY },
    Rule { codes: &[10..=10], class: Class::Retryable, advice: RETRY, ..GATEWAY },
    Rule { codes: &[15..=15], class: Class::Retryable, advice: RETRY, ..GATEWAY },
    Rule { codes: &[40..=43], class: Class::Permanent, advice: CALLER, ..GATEWAY },
    Rule {
        fragment: "查询时间不能大于",
        class: Class::WindowTooWide,
        advice: "ask for a shorter interval; the method's limit is wrong or was not kept",
        ..ANY
    },
    Rule {
        fragment: "查询条件太过宽", class: Class::TooBroad, advice: "ask for a shorter interval", ..ANY
    },
    Rule {
        fragment: "参数中必须包含起止时间",
        class: Class::Permanent,
        advice: "give start_time and end_time",
        ..ANY
    },
    Rule {
        fragment: "此方法仅支持分页查询",
        class: Class::Permanent,
        advice: "give a page and a page size",
        ..ANY
    },
    Rule {
        fragment: "无仓库访问权限",
        class: Class::Configuration,
        advice: "grant the interface account the warehouse in WDT",
        ..ANY
    },
    Rule {
        fragment: "权限不足",
        class: Class::Configuration,
        advice: "grant the interface account the missing permission in WDT",
        ..ANY
    },
    Rule {
        fragment: "仓库不存在",
        class: Class::Configuration,
        advice: "correct the warehouse number",
        ..ANY
    },
    Rule {
        fragment: "the api used internal only",
        class: Class::Configuration,
        advice: "this method is closed on the direct gateway: use Qimen",
        ..ANY
    },
    Rule { fragment: "invalid http status 5", class: Class::Retryable, advice: RETRY, ..ANY },
    Rule {
        codes: &[1..=1],
        class: Class::Configuration,
        advice: "check the seller account, the key, the secret with its salt, and the arguments",
        ..BUSINESS
    },
    Rule { codes: &[2..=2], class: Class::Permanent, advice: CALLER, ..BUSINESS },
    Rule {
        codes: &[3..=3],
        class: Class::Configuration,
        advice: "the account asks for a dynamic password: use an interface account without one",
        ..BUSINESS
    },
    Rule { codes: &[4..=5], class: Class::Retryable, advice: RETRY, ..BUSINESS },
    Rule {
        codes: &[6..=6],
        class: Class::Configuration,
        advice: "put this machine's public address on WDT's white list",
        ..BUSINESS
    },
    Rule { codes: &[7..=7], class: Class::Clock, advice: CLOCK, ..BUSINESS },
    Rule {
        codes: &[8..=8],
        class: Class::Permanent,
        advice: "the interface version is refused: report a bug",
        ..BUSINESS
    },
    Rule { codes: &[99..=99], class: Class::Retryable, advice: RETRY, ..BUSINESS },
    Rule {
        codes: &[2102..=2102],
        class: Class::Permanent,
        advice: "give start_time and end_time as yyyy-MM-dd HH:mm:ss",
        ..BUSINESS
    },
    Rule { class: Class::Permanent, advice: UNKNOWN, ..BUSINESS },
    Rule {
        class: Class::Retryable,
        advice: "this answer of the gateway is in no table: read its text",
        ..GATEWAY
    },
];

fn row(origin: Origin, code: Option<i64>, sub_code: &str, text: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| {
        rule.origin.is_none_or(|wanted| wanted == origin)
            && (rule.codes.is_empty()
                || code.is_some_and(|code| rule.codes.iter().any(|codes| codes.contains(&code))))
            && sub_code.starts_with(rule.sub_code_prefix)
            && text.contains(rule.fragment)
    })
}

/// Full-width forms (the vendor's texts mix `，` and `,`) as their ASCII ones, in lower case, blanks collapsed.
fn normal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        let char = match char {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(char) - 0xfee0).unwrap_or(char),
            '\u{3000}' => ' ',
            other => other,
        };
        if !char.is_whitespace() {
            out.push(char.to_ascii_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out
}

/// The length of a ban as its (normalised) text says, and a second more: bans are told in whole seconds.
///
/// Of several times, those count that are told as a wait ("last for", "after", 后), else the longest of all.
fn ban(text: &str) -> Option<Duration> {
    let mut longest: Option<(bool, u64)> = None;
    let mut rest = 0;
    while let Some(start) = text[rest..].find(|char: char| char.is_ascii_digit()).map(|at| rest + at) {
        let length = text[start..].find(|char: char| !char.is_ascii_digit() && char != '.');
        let end = length.map_or(text.len(), |length| start + length);
        rest = end;
        let Some((unit, after)) = unit(text[end..].trim_start()) else { continue };
        let Some(seconds) = seconds(&text[start..end], unit) else { continue };
        let before = text[..start].trim_end();
        let told_as_wait = AFTER.iter().any(|word| after.trim_start().starts_with(word))
            || BEFORE.iter().any(|word| before.ends_with(word));
        longest = longest.max(Some((told_as_wait, seconds)));
    }
    longest.map(|(_, seconds)| Duration::from_secs(seconds + 1))
}

const BEFORE: &[&str] = &[
    "last for",
    "last",
    "wait",
    "wait for",
    "after",
    "in",
    "within",
    "remaining",
    "剩余",
    "还剩",
    "还需",
    "等待",
    "需等待",
];
const AFTER: &[&str] = &["后", "之后", "以后", "remaining", "left", "later"];

/// Milliseconds of the unit at the start of `text`, and what follows it.
fn unit(text: &str) -> Option<(u64, &str)> {
    const UNITS: &[(&str, u64)] = &[
        ("milliseconds", 1),
        ("millisecond", 1),
        ("ms", 1),
        ("毫秒", 1),
        ("seconds", 1000),
        ("second", 1000),
        ("secs", 1000),
        ("sec", 1000),
        ("s", 1000),
        ("秒钟", 1000),
        ("秒", 1000),
        ("minutes", 60_000),
        ("minute", 60_000),
        ("mins", 60_000),
        ("min", 60_000),
        ("分钟", 60_000),
        ("分", 60_000),
        ("hours", 3_600_000),
        ("hour", 3_600_000),
        ("小时", 3_600_000),
    ];
    let text = ["more ", "another ", "additional ", "个"]
        .iter()
        .find_map(|filler| text.strip_prefix(filler))
        .unwrap_or(text);
    UNITS.iter().find_map(|(word, millis)| {
        let after = text.strip_prefix(word)?;
        // "2 sources" is no time.
        let whole = !word.is_ascii() || !after.starts_with(|char: char| char.is_ascii_alphabetic());
        whole.then_some((*millis, after))
    })
}

fn seconds(number: &str, unit_millis: u64) -> Option<u64> {
    let (whole, fraction) =
        number.trim_end_matches('.').split_once('.').unwrap_or((number.trim_end_matches('.'), ""));
    let whole: u64 = whole.parse().ok()?;
    let started = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    // A started unit counts as a whole one: waiting too long is safe, too short renews the ban.
    let millis = whole.checked_add(started)?.checked_mul(unit_millis)?;
    Some(millis.div_ceil(1000)).filter(|seconds| *seconds < u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Clock, Configuration, Permanent, Retryable, TooBroad, WindowTooWide};
    use Origin::{Business, Gateway};

    fn wait(seconds: u64) -> Class {
        Class::Throttled { wait: Some(Duration::from_secs(seconds)) }
    }

    /// One example per row of the table, in its order.
    fn examples() -> Vec<(Origin, &'static str, &'static str, &'static str, Class)> {
        vec![
            (Business, "100", "", "超过每分钟最大调用频率限制，请稍后重试", THROTTLED),
            (Business, "100", "", "超过每分钟最大并发次数限制,请稍后重试", THROTTLED),
            (Business, "100", "", "This ban will last for 5 more seconds", wait(6)),
            (Gateway, "5", "", "Session Call Limited", THROTTLED),
            (Gateway, "7", "", "App Call Limited", THROTTLED),
            (Gateway, "8", "", "请求过于频繁，请60秒后再试", wait(61)),
            (Gateway, "900", "accesscontrol.limited-by-dynamic-access-count", "limited", THROTTLED),
            (
                Gateway,
                "11",
                "isv.permission-api-package-limit",
                "Insufficient isv permissions",
                Configuration,
            ),
            (Gateway, "25", "", "Invalid signature", Configuration),
            (Gateway, "29", "isv.appkey-not-exists", "Invalid app Key", Configuration),
            (Gateway, "27", "", "Invalid session", Permanent),
            (Gateway, "31", "", "Invalid timestamp", Clock),
            (Gateway, "50", "isp.remote-connection-timeout", "Remote service error", Retryable),
            (Gateway, "15", "isv.invalid-parameter", "Remote service error", Permanent),
            (Gateway, "10", "", "Service currently unavailable", Retryable),
            (Gateway, "15", "", "Remote service error", Retryable),
            (Gateway, "41", "", "Invalid arguments", Permanent),
            (Business, "100", "", "查询时间不能大于60分钟", WindowTooWide),
            (Business, "100", "", "查询条件太过宽，请缩小范围", TooBroad),
            (Business, "100", "", "参数中必须包含起止时间", Permanent),
            (Business, "100", "", "此方法仅支持分页查询", Permanent),
            (Business, "100", "", "无仓库访问权限", Configuration),
            (Business, "100", "", "权限不足，请联系管理员", Configuration),
            (Business, "100", "", "仓库不存在", Configuration),
            (Business, "100", "", "The API used internal only", Configuration),
            (Business, "100", "", "invalid http status 502", Retryable),
            (Business, "1", "", "signature failed", Configuration),
            (Business, "2", "", "unknown parameter", Permanent),
            (Business, "3", "", "dynamic password", Configuration),
            (Business, "4", "", "database", Retryable),
            (Business, "6", "", "ip", Configuration),
            (Business, "7", "", "timestamp", Clock),
            (Business, "8", "", "version", Permanent),
            (Business, "99", "", "other", Retryable),
            (Business, "2102", "", "参数错误", Permanent),
            (Business, "100", "", "单据不存在", Permanent),
            (Gateway, "9999", "", "?", Retryable),
        ]
    }

    #[test]
    fn every_row_of_the_table_is_the_one_its_example_meets() {
        let examples = examples();
        assert_eq!(examples.len(), RULES.len(), "one example per row");
        for ((origin, code, sub_code, text, class), rule) in examples.into_iter().zip(RULES) {
            let met = row(origin, code.parse().ok(), sub_code, &normal(text));
            assert!(met.is_some_and(|met| std::ptr::eq(met, rule)), "{origin:?} {code} {sub_code} {text}");
            assert_eq!(classify(origin, Some(code), Some(sub_code), text), (class, rule.advice), "{text}");
        }
    }

    #[test]
    fn every_code_of_the_gateway_table_has_its_class() {
        let class = |code: i64| classify(Gateway, Some(&code.to_string()), None, "x").0;
        for (codes, expected) in [
            (vec![4, 5, 6, 7, 8], THROTTLED),
            (vec![9, 11, 12, 13, 21, 22, 23, 24, 25, 28, 29, 32, 33, 34], Configuration),
            (vec![10, 15], Retryable),
            (vec![26, 27, 40, 41, 42, 43], Permanent),
            (vec![30, 31], Clock),
        ] {
            for code in codes {
                assert_eq!(class(code), expected, "{code}");
            }
        }
    }

    #[test]
    fn a_limit_is_told_from_a_wrong_parameter_although_both_have_status_100() {
        for comma in [",", "，"] {
            let text = format!("超过每分钟最大调用频率限制{comma}请稍后重试");
            assert_eq!(classify(Business, Some("100"), None, &text).0, THROTTLED);
        }
        assert_eq!(classify(Business, Some("100"), None, "warehouse_no格式错误").0, Permanent);
        for days in ["30天", "60分钟", "7天"] {
            let text = format!("查询时间不能大于{days}");
            assert_eq!(classify(Business, Some("100"), None, &text).0, WindowTooWide);
        }
    }

    #[test]
    fn a_ban_is_a_second_longer_than_its_text_says() {
        for (text, seconds) in [
            ("This ban will last for 2 more seconds", 3),
            ("App Call Limited; This ban will last for 31062 more seconds", 31063),
            ("this ban will last for 1 more second", 2),
            ("please wait 1.5 seconds", 3),
            ("retry after 500ms", 2),
            ("请求过于频繁，请 30 秒后重试", 31),
            ("１分钟内超过60次，请在30秒后重试", 31),
            ("禁止调用５分钟", 301),
            ("limited to 60 calls in 1 minute", 61),
            ("还需等待 2 小时", 7201),
        ] {
            assert_eq!(ban(&normal(text)), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "App Call Limited", "2 sources", "60次", "99999999999999999999 seconds", "error 42."]
        {
            assert_eq!(ban(&normal(text)), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_can_break_the_reading_of_a_ban(text in "([0-9０-９]{0,25}[.]?[ ，]?(秒|s|分钟|more seconds|后|last for|.)){0,8}") {
            let _ = classify(Gateway, Some("7"), None, &text);
        }
    }

    #[test]
    fn codes_of_wdt_itself_are_known() {
        assert!(["1", "7", "99", "100", "2102", " 4 "].iter().all(|code| is_business_code(code)));
        assert!(["25", "15", "", "x"].iter().all(|code| !is_business_code(code)));
    }
}
