use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kingpost_outbound::base_url;
use secrecy::{ExposeSecret, SecretString};

/// How calls prove who makes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    /// Each call carries its own signed headers, as the official SDKs do; nothing is kept between calls.
    #[default]
    SignHeaders,
    /// One `LoginBySign` session, shared by all clones of a client and renewed when the server says it is gone.
    LoginBySign,
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sign-headers" => Ok(Self::SignHeaders),
            "login-by-sign" => Ok(Self::LoginBySign),
            other => Err(format!("{other:?} is no way to authenticate: use sign-headers or login-by-sign")),
        }
    }
}

/// One connection: a server, an account set (账套) and a third-party application (第三方系统登录授权) with its
/// user. `Debug` shows neither `app_secret` nor the tail of `app_id`, which is a secret too.
#[derive(Clone)]
pub struct KingdeeConfig {
    /// Address with the path of the site, as in `https://tenant.ik3cloud.com/k3cloud/`.
    pub url: String,
    /// Account set (data centre) id.
    pub acct_id: String,
    /// Integration user that the application may log in.
    pub username: String,
    /// Whole application id, `digits_tail`.
    pub app_id: String,
    /// Application secret.
    pub app_secret: SecretString,
    /// Language: 2052 is simplified Chinese, which the texts of the error catalogue are in.
    pub lcid: u32,
    /// Number of the organisation the calls work in; `0` is the user's default.
    pub org_num: String,
    /// Header signing or a session.
    pub auth: Auth,
    /// PEM file with certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl KingdeeConfig {
    /// Checks everything that can be checked without a call and returns the address as it is sent and signed.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, each beginning with the name of its field.
    pub fn check(&self) -> Result<String, ConfigError> {
        let mut problems = Vec::new();
        let base = base_url(&self.url).map_err(|error| problems.push(format!("url: {error}"))).ok();
        for (name, value) in [
            ("acct_id", self.acct_id.as_str()),
            ("username", &self.username),
            ("app_id", &self.app_id),
            ("app_secret", self.app_secret.expose_secret()),
            ("org_num", &self.org_num),
        ] {
            if value.trim().is_empty() {
                let hint =
                    if name == "org_num" { "use 0 for the user's default organisation" } else { "set it" };
                problems.push(format!("{name}: is empty: {hint}"));
            } else if value.trim() != value || value.chars().any(char::is_control) {
                problems.push(format!("{name}: has white space at an end or a control character: remove it"));
            }
        }
        for (name, value) in
            [("acct_id", &self.acct_id), ("username", &self.username), ("org_num", &self.org_num)]
        {
            if value.contains(',') {
                problems.push(format!(
                    "{name}: contains a comma, which the signed app data can't carry: use another"
                ));
            }
        }
        if !self.app_id.is_ascii() {
            problems.push(
                "app_id: has characters outside ASCII: copy it again from the authorisation page".to_owned(),
            );
        }
        if self.lcid == 0 {
            problems.push("lcid: is 0: use 2052 for simplified Chinese".to_owned());
        }
        match base {
            Some(base) if problems.is_empty() => Ok(base),
            _ => Err(ConfigError { problems }),
        }
    }
}

impl fmt::Debug for KingdeeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_id = self.app_id.split('_').next().unwrap_or_default();
        f.debug_struct("KingdeeConfig")
            .field("url", &base_url(&self.url).unwrap_or_default())
            .field("acct_id", &self.acct_id)
            .field("username", &self.username)
            .field("app_id", &format_args!("{client_id}_[redacted]"))
            .field("app_secret", &self.app_secret)
            .field("lcid", &self.lcid)
            .field("org_num", &self.org_num)
            .field("auth", &self.auth)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// Every problem of a [`KingdeeConfig`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct ConfigError {
    /// One sentence each: field, what is wrong, remedy. No secrets.
    pub problems: Vec<String>,
}
