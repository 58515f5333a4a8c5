//! The two layouts of a call. Each call is signed when it is built, so a retry is never sent with an old timestamp.

use bytes::Bytes;
use jiff::Timestamp;
use kingpost_outbound::Request;
use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;
use std::collections::HashSet;
use std::time::Duration;

use crate::config::{QimenConfig, Transport, WdtConfig};
use crate::methods::name_for;
use crate::sign::{direct_sign, looks_like_json, top_sign, wdt_sign};
use crate::values::beijing_text;

/// One page of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Qimen or direct name; translated to the transport's own where it is known.
    pub method: String,
    /// Criteria in the order they are sent, such as `("start_time", "2026-01-01 00:00:00")`. Empty ones are not sent.
    pub params: Vec<(String, String)>,
    /// From 0, on either transport.
    pub page: u64,
    /// Rows per page, at least 1; 50 to 100 suits the detail queries.
    pub page_size: u32,
    /// Asks for the total; the direct gateway counts only then, Qimen decides by itself.
    pub want_total: bool,
}

/// 2012-01-01 00:00 in Beijing, from which the direct gateway counts its seconds.
const DIRECT_EPOCH: i64 = 1_325_347_200;

/// An account, checked, with its secret cut in two.
pub(crate) struct Account {
    url: String,
    sid: String,
    app_key: String,
    secret: SecretString,
    salt: SecretString,
    gateway: Gateway,
    /// Everything that must not be repeated in an error.
    pub(crate) secrets: Vec<SecretString>,
}

enum Gateway {
    Qimen(QimenConfig),
    Direct,
}

/// A request that is ready to be sent, and its signatures, which an answer might echo.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) signs: Vec<SecretString>,
}

impl Account {
    /// `None` when `config` is not valid.
    pub(crate) fn new(config: &WdtConfig) -> Option<Self> {
        let (secret, salt) = config.halves().ok()?;
        let gateway = match config.transport {
            Transport::Qimen => Gateway::Qimen(config.qimen.clone()?),
            Transport::Direct => Gateway::Direct,
        };
        let mut secrets = vec![config.app_secret.clone(), secret.clone(), salt.clone()];
        secrets.extend(config.qimen.iter().map(|qimen| qimen.app_secret.clone()));
        let (sid, app_key) = (config.sid.clone(), config.app_key.clone());
        Some(Self { url: config.address().ok()?, sid, app_key, secret, salt, gateway, secrets })
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.gateway {
            Gateway::Qimen(_) => Transport::Qimen,
            Gateway::Direct => Transport::Direct,
        }
    }

    /// Builds and signs one call at `now`.
    ///
    /// # Errors
    /// What is wrong with the query.
    pub(crate) fn call(
        &self,
        query: &Query,
        now: Timestamp,
        timeout: Option<Duration>,
    ) -> Result<Call, String> {
        let method = name_for(self.transport(), &query.method)?;
        if query.page_size == 0 {
            return Err("the page size is 0: give the number of rows per page".to_owned());
        }
        let criteria = criteria(&query.params)?;
        let (query, body, content_type, signs) = match &self.gateway {
            Gateway::Qimen(qimen) => self.qimen(qimen, &method, query, &criteria, now),
            Gateway::Direct => self.direct(&method, query, &criteria, now),
        };
        let request = Request {
            url: format!("{}?{query}", self.url),
            query_is_secret: true,
            headers: Vec::new(),
            content_type,
            body: Bytes::from(body),
            timeout,
        };
        Ok(Call { request, signs })
    }

    /// Protocol parameters in the query, business in the form, as the official Python SDK sends them.
    fn qimen(
        &self,
        qimen: &QimenConfig,
        method: &str,
        query: &Query,
        criteria: &str,
        now: Timestamp,
    ) -> Parts {
        let time = beijing_text(now);
        let page = query.page.saturating_add(Transport::Qimen.first_page());
        let pager = format!(r#"{{"page_no":{page},"page_size":{}}}"#, query.page_size);
        let mut form = vec![
            ("datetime", time.as_str()),
            ("wdt_appkey", self.app_key.as_str()),
            ("wdt_salt", self.salt.expose_secret()),
            ("wdt3_customer_id", self.sid.as_str()),
            ("pager", pager.as_str()),
            ("params", criteria),
        ];
        let inner = wdt_sign(&self.secret, method, &form);
        form.push(("wdt_sign", inner.as_str()));
        let mut protocol = vec![
            ("app_key", qimen.app_key.as_str()),
            ("target_app_key", qimen.target_app_key.as_str()),
            ("method", method),
            ("timestamp", time.as_str()),
            ("format", "json"),
            ("v", "2.0"),
            ("sign_method", qimen.sign_method.as_str()),
        ];
        let all: Vec<_> = protocol.iter().chain(&form).copied().collect();
        let outer = top_sign(&qimen.app_secret, qimen.sign_method, &all);
        protocol.push(("sign", outer.as_str()));
        let content_type = "application/x-www-form-urlencoded; charset=UTF-8";
        let (query, body) = (form_text(&protocol), form_text(&form));
        (query, body, content_type, vec![inner.into(), outer.into()])
    }

    /// Everything but the criteria in the query; the criteria as the only argument in a JSON array.
    fn direct(&self, method: &str, query: &Query, criteria: &str, now: Timestamp) -> Parts {
        let time = (now.as_second() - DIRECT_EPOCH).to_string();
        let page = query.page.saturating_add(Transport::Direct.first_page()).to_string();
        let page_size = query.page_size.to_string();
        let mut params = vec![
            ("sid", self.sid.as_str()),
            ("key", self.app_key.as_str()),
            ("salt", self.salt.expose_secret()),
            ("method", method),
            ("timestamp", time.as_str()),
            ("v", "1.0"),
            ("page_size", page_size.as_str()),
            ("page_no", page.as_str()),
            ("calc_total", if query.want_total { "1" } else { "0" }),
        ];
        let body = format!("[{criteria}]");
        let sign = direct_sign(&self.secret, &params, &body);
        params.push(("sign", sign.as_str()));
        (form_text(&params), body, "application/json", vec![sign.into()])
    }
}

/// Query text, body, content type, signatures.
type Parts = (String, String, &'static str, Vec<SecretString>);

/// The criteria as JSON text. Empty ones are left out: published clients disagree on how such a member is signed.
fn criteria(params: &[(String, String)]) -> Result<String, String> {
    let mut names = HashSet::new();
    for (name, value) in params {
        if name.trim().is_empty() {
            return Err("a criterion has no name: give it one".to_owned());
        }
        if !names.insert(name) {
            return Err(format!("the criterion {name} is given twice: give it once"));
        }
        if looks_like_json(value) {
            return Err(format!(
                "the criterion {name} is JSON text, which WDT signs in another way: give plain text, several values \
                 separated by commas"
            ));
        }
    }
    let sent = params.iter().filter(|(_, value)| !value.trim().is_empty()).map(|(name, value)| (name, value));
    let mut out = Vec::new();
    serde_json::Serializer::new(&mut out)
        .collect_map(sent)
        .map_err(|error| error.to_string())
        .and_then(|()| String::from_utf8(out).map_err(|error| error.to_string()))
}

/// `application/x-www-form-urlencoded` text of the non-empty pairs.
fn form_text(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_text_is_encoded_after_signing_and_leaves_empty_values_out() {
        let text = form_text(&[("a", "x y+z&=%"), ("b", ""), ("c", "上😀~*")]);
        assert_eq!(text, "a=x+y%2Bz%26%3D%25&c=%E4%B8%8A%F0%9F%98%80%7E*");
    }

    #[test]
    fn criteria_keep_their_order_and_drop_what_is_empty() {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(
            criteria(&pairs(&[("z", "1"), ("b", ""), ("a", "\"上\""), ("c", " ")])).as_deref(),
            Ok(r#"{"z":"1","a":"\"上\""}"#)
        );
        assert_eq!(criteria(&[]).as_deref(), Ok("{}"));
        assert!(criteria(&pairs(&[("a", " [1] ")])).unwrap_err().contains("commas"));
        assert!(criteria(&pairs(&[("a", "1"), ("a", "2")])).unwrap_err().contains("twice"));
        assert!(criteria(&pairs(&[("", "1")])).unwrap_err().contains("no name"));
    }
}
