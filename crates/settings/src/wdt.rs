//! Settings of 旺店通·旗舰奇门 (WDT).

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::address::Address;
use crate::reader::{Reader, Wrong, expiry, one_of};
use crate::{Environment, Problems, Program};

/// What the extractor and the operator's command need to call WDT for one account.
#[derive(Debug, Clone)]
pub struct WdtSettings {
    /// `WDT_URL`: the gateway, as given.
    pub url: String,
    /// `WDT_TRANSPORT`.
    pub transport: WdtTransport,
    /// `WDT_SID`: seller account (卖家账号).
    pub sid: String,
    /// `WDT_APP_KEY`: API account of WDT.
    pub app_key: String,
    /// `WDT_APP_SECRET`: `secret:salt` as WDT issues it, both halves present.
    pub app_secret: SecretString,
    /// The Taobao side; always there over Qimen, never on the direct transport.
    pub qimen: Option<QimenSettings>,
    /// `WDT_APP_SECRET_EXPIRES`, in seconds since the epoch.
    pub app_secret_expires: Option<i64>,
    /// `WDT_CA_FILE`: certificates to trust besides those of the system, readable at the start.
    pub ca_file: Option<PathBuf>,
}

/// Which gateway carries the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WdtTransport {
    /// The Taobao gateway 奇门, `…/router/qm`.
    Qimen,
    /// WDT's own gateway, `…/openapi`.
    Direct,
}

/// The Taobao open platform's part of a call over Qimen.
#[derive(Debug, Clone)]
pub struct QimenSettings {
    /// `QIMEN_APP_KEY`.
    pub app_key: String,
    /// `QIMEN_APP_SECRET`.
    pub app_secret: SecretString,
    /// `QIMEN_TARGET_APP_KEY`: WDT's own app key on Qimen.
    pub target_app_key: String,
    /// `QIMEN_SIGN_METHOD`.
    pub sign_method: QimenSignMethod,
}

/// How the outer Taobao signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QimenSignMethod {
    /// MD5 over secret, fields, secret.
    Md5,
    /// HMAC-MD5.
    Hmac,
    /// HMAC-SHA256.
    HmacSha256,
}

impl QimenSignMethod {
    /// The text sent as `sign_method`.
    pub const fn as_str(self) -> &'static str {
        match self {
            QimenSignMethod::Md5 => "md5",
            QimenSignMethod::Hmac => "hmac",
            QimenSignMethod::HmacSha256 => "hmac-sha256",
        }
    }
}

#[derive(Deserialize, Default)]
struct Variables {
    wdt_url: Option<String>,
    wdt_transport: Option<String>,
    wdt_sid: Option<String>,
    wdt_app_key: Option<String>,
    wdt_app_secret: Option<String>,
    wdt_app_secret_expires: Option<String>,
    wdt_ca_file: Option<String>,
    qimen_app_key: Option<String>,
    qimen_app_secret: Option<String>,
    qimen_target_app_key: Option<String>,
    qimen_sign_method: Option<String>,
}

/// The settings of a WDT account: `WDT_URL` and its kin, or `WDT_NORTH_URL` and its kin for the account `north`. An
/// account never falls back on the variables without a name: it would call one seller with another one's keys.
///
/// # Errors
/// Everything that is missing or wrong.
pub fn wdt(environment: &Environment, account: Option<&str>) -> Result<WdtSettings, Problems> {
    let mut reader = Reader::of_account(environment, Program::Extractor, account)?;
    let found: Variables = reader.variables(&["WDT", "QIMEN"]);
    let words = [("qimen", WdtTransport::Qimen), ("direct", WdtTransport::Direct)];
    let transport = reader.parsed("WDT_TRANSPORT", found.wdt_transport, |text| one_of(text, &words));
    let url = reader.required("WDT_URL", found.wdt_url);
    let url = reader.parsed("WDT_URL", url, |text| gateway(text, transport));
    let sid = reader.required("WDT_SID", found.wdt_sid);
    let app_key = reader.required("WDT_APP_KEY", found.wdt_app_key);
    let app_secret = reader.required("WDT_APP_SECRET", found.wdt_app_secret);
    let app_secret = reader.parsed("WDT_APP_SECRET", app_secret, secret_and_salt);
    let app_secret_expires = reader.parsed("WDT_APP_SECRET_EXPIRES", found.wdt_app_secret_expires, expiry);
    let ca_file = reader.certificates("WDT_CA_FILE", found.wdt_ca_file);
    let methods = [
        ("md5", QimenSignMethod::Md5),
        ("hmac", QimenSignMethod::Hmac),
        ("hmac-sha256", QimenSignMethod::HmacSha256),
    ];
    let sign_method =
        reader.parsed("QIMEN_SIGN_METHOD", found.qimen_sign_method, |text| one_of(text, &methods));
    let qimen = if transport == Some(WdtTransport::Qimen) {
        let app_key = reader.required("QIMEN_APP_KEY", found.qimen_app_key);
        let app_secret = reader.required("QIMEN_APP_SECRET", found.qimen_app_secret);
        let target_app_key = reader.required("QIMEN_TARGET_APP_KEY", found.qimen_target_app_key);
        match (app_key, app_secret, target_app_key, sign_method) {
            (Some(app_key), Some(app_secret), Some(target_app_key), Some(sign_method)) => {
                let app_secret = SecretString::from(app_secret);
                Some(QimenSettings { app_key, app_secret, target_app_key, sign_method })
            }
            _ => None,
        }
    } else {
        None
    };
    match (url, transport, sid, app_key, app_secret) {
        (Some(url), Some(transport), Some(sid), Some(app_key), Some(app_secret)) => reader
            .problems
            .or(WdtSettings { url, transport, sid, app_key, app_secret, app_secret_expires, qimen, ca_file }),
        _ => Err(reader.problems),
    }
}

/// Refuses a URL that plainly belongs to the other transport: its calls would be signed for the wrong gateway.
fn gateway(text: &str, transport: Option<WdtTransport>) -> Result<String, Wrong> {
    let address = Address::web(text).map_err(Wrong::because)?;
    let path = address.path.trim_end_matches('/');
    match transport {
        Some(WdtTransport::Qimen) if path.ends_with("/openapi") => {
            Err(Wrong::because("that is the direct gateway, while WDT_TRANSPORT is qimen"))
        }
        Some(WdtTransport::Direct) if path.contains("/router/") => {
            Err(Wrong::because("that is the gateway of Qimen, while WDT_TRANSPORT is direct"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn secret_and_salt(text: &str) -> Result<SecretString, Wrong> {
    match text.split_once(':') {
        None => Err(Wrong::because("it has no colon")),
        Some(("", _)) => Err(Wrong::because("nothing stands before its colon")),
        Some((_, "")) => Err(Wrong::because("nothing stands after its colon")),
        Some(_) => Ok(SecretString::from(text)),
    }
}
