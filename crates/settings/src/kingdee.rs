//! Settings of 金蝶云星空 (Kingdee).

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::address::Address;
use crate::reader::{Reader, Wrong, expiry, one_of};
use crate::{Environment, Problems, Program};

/// What the loader and the operator's command need to call Kingdee for one account.
#[derive(Debug, Clone)]
pub struct KingdeeSettings {
    /// `KINGDEE_URL`, as given: its path is part of what is signed.
    pub url: String,
    /// `KINGDEE_ACCT_ID`: data centre (数据中心 id).
    pub acct_id: String,
    /// `KINGDEE_USERNAME`: the integration user.
    pub username: String,
    /// `KINGDEE_APP_ID`.
    pub app_id: String,
    /// `KINGDEE_APP_SECRET`.
    pub app_secret: SecretString,
    /// `KINGDEE_LCID`: language of the answers; 2052 is simplified Chinese.
    pub lcid: u32,
    /// `KINGDEE_ORG_NUM`: number of the organisation the calls run in; 0 is the user's own.
    pub org_num: u64,
    /// `KINGDEE_AUTH`.
    pub auth: KingdeeAuth,
    /// `KINGDEE_APP_SECRET_EXPIRES`, in seconds since the epoch.
    pub app_secret_expires: Option<i64>,
    /// `KINGDEE_CA_FILE`: certificates to trust besides those of the system, readable at the start.
    pub ca_file: Option<PathBuf>,
}

/// How a call proves who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KingdeeAuth {
    /// Every request is signed in its headers, as the official SDK does; there is no session.
    SignHeaders,
    /// `LoginBySign` opens a session that a cookie carries.
    LoginBySign,
}

#[derive(Deserialize, Default)]
struct Variables {
    kingdee_url: Option<String>,
    kingdee_acct_id: Option<String>,
    kingdee_username: Option<String>,
    kingdee_app_id: Option<String>,
    kingdee_app_secret: Option<String>,
    kingdee_app_secret_expires: Option<String>,
    kingdee_lcid: Option<String>,
    kingdee_org_num: Option<String>,
    kingdee_auth: Option<String>,
    kingdee_ca_file: Option<String>,
}

/// The settings of a Kingdee account: `KINGDEE_URL` and its kin, or `KINGDEE_NORTH_URL` and its kin for the account
/// `north`. An account never falls back on the variables without a name: it would post into another one's books.
///
/// # Errors
/// Everything that is missing or wrong.
pub fn kingdee(environment: &Environment, account: Option<&str>) -> Result<KingdeeSettings, Problems> {
    let mut reader = Reader::of_account(environment, Program::Loader, account)?;
    let found: Variables = reader.variables(&["KINGDEE"]);
    let url = reader.required("KINGDEE_URL", found.kingdee_url);
    let url = reader.parsed("KINGDEE_URL", url, |text| {
        Address::web(text).map(|_| text.to_owned()).map_err(Wrong::because)
    });
    let acct_id = reader.required("KINGDEE_ACCT_ID", found.kingdee_acct_id);
    let acct_id = reader.parsed("KINGDEE_ACCT_ID", acct_id, without_comma);
    let username = reader.required("KINGDEE_USERNAME", found.kingdee_username);
    let username = reader.parsed("KINGDEE_USERNAME", username, without_comma);
    let app_id = reader.required("KINGDEE_APP_ID", found.kingdee_app_id);
    let app_secret = reader.required("KINGDEE_APP_SECRET", found.kingdee_app_secret).map(SecretString::from);
    let lcid =
        reader.parsed("KINGDEE_LCID", found.kingdee_lcid, |text| text.parse().map_err(|_| Wrong::SHAPE));
    let org_num = reader
        .parsed("KINGDEE_ORG_NUM", found.kingdee_org_num, |text| text.parse().map_err(|_| Wrong::SHAPE));
    let words = [("sign-headers", KingdeeAuth::SignHeaders), ("login-by-sign", KingdeeAuth::LoginBySign)];
    let auth = reader.parsed("KINGDEE_AUTH", found.kingdee_auth, |text| one_of(text, &words));
    let app_secret_expires =
        reader.parsed("KINGDEE_APP_SECRET_EXPIRES", found.kingdee_app_secret_expires, expiry);
    let ca_file = reader.certificates("KINGDEE_CA_FILE", found.kingdee_ca_file);
    let named = (url, acct_id, username, app_id, app_secret);
    let (Some(url), Some(acct_id), Some(username), Some(app_id), Some(app_secret)) = named else {
        return Err(reader.problems);
    };
    let (Some(lcid), Some(org_num), Some(auth)) = (lcid, org_num, auth) else {
        return Err(reader.problems);
    };
    reader.problems.or(KingdeeSettings {
        url,
        acct_id,
        username,
        app_id,
        app_secret,
        lcid,
        org_num,
        auth,
        app_secret_expires,
        ca_file,
    })
}

/// The official SDK signs `acct_id,user_name,lcid,org_num` without escaping: a comma would shift the fields.
fn without_comma(text: &str) -> Result<String, Wrong> {
    if text.contains(',') { Err(Wrong::because("it has a comma")) } else { Ok(text.to_owned()) }
}
