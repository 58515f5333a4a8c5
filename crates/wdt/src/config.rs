use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kingpost_outbound::base_url;
use secrecy::{ExposeSecret, SecretString};

use crate::sign::{SignMethod, UnknownWord};

/// Which of WDT's two gateways is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// 奇门: the Taobao gateway, `…/router/qm`. The only way to most Taobao order data.
    #[default]
    Qimen,
    /// The vendor's own gateway, `…/openapi`.
    Direct,
}

impl Transport {
    /// Number of the first page on the wire: 1 through Qimen, 0 on the direct gateway.
    #[must_use]
    pub fn first_page(self) -> u64 {
        match self {
            Self::Qimen => 1,
            Self::Direct => 0,
        }
    }

    /// `qimen` or `direct`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qimen => "qimen",
            Self::Direct => "direct",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Qimen, Self::Direct]
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or_else(|| UnknownWord { given: text.to_owned(), allowed: "qimen or direct" })
    }
}

/// One WDT account and the way to it. `Debug` shows no secret, and no address that may contain one.
#[derive(Clone)]
pub struct WdtConfig {
    /// Address of the gateway, such as `https://3ldsmu02o9.api.taobao.com/router/qm` or
    /// `https://wdt.wangdian.cn/openapi`.
    pub url: String,
    /// Which gateway that is.
    pub transport: Transport,
    /// The seller account (卖家账号): `sid`, or `wdt3_customer_id` through Qimen.
    pub sid: String,
    /// WDT's key of the interface account: `key`, or `wdt_appkey` through Qimen.
    pub app_key: String,
    /// WDT's secret of that account as handed out: `secret:salt`.
    pub app_secret: SecretString,
    /// Needed for [`Transport::Qimen`].
    pub qimen: Option<QimenConfig>,
    /// PEM file with certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// The integrator's account at the Taobao gateway.
#[derive(Debug, Clone)]
pub struct QimenConfig {
    /// The integrator's own app key.
    pub app_key: String,
    /// Secret of that app key.
    pub app_secret: SecretString,
    /// WDT's app key; the vendor's published examples show `21363512`.
    pub target_app_key: String,
    /// How calls are signed.
    pub sign_method: SignMethod,
}

/// Everything that is wrong with a [`WdtConfig`], found together. Repeats no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wdt configuration: {}", list(problems))]
pub struct ConfigError {
    /// In the order of the fields; at least one.
    pub problems: Vec<ConfigProblem>,
}

/// One thing that is wrong with a [`WdtConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Path of the field, such as `qimen.app_key`.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub text: String,
}

impl WdtConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut problem = |field, text: Option<String>| {
            problems.extend(text.map(|text| ConfigProblem { field, text }));
        };
        problem("url", self.address().err());
        problem("sid", word_problem(&self.sid));
        problem("app_key", word_problem(&self.app_key));
        problem("app_secret", word_problem(self.app_secret.expose_secret()).or_else(|| self.halves().err()));
        match (&self.qimen, self.transport) {
            (Some(qimen), Transport::Qimen) => {
                problem("qimen.app_key", word_problem(&qimen.app_key));
                problem("qimen.app_secret", word_problem(qimen.app_secret.expose_secret()));
                problem("qimen.target_app_key", word_problem(&qimen.target_app_key));
            }
            (None, Transport::Qimen) => {
                let text =
                    "is missing: give the app key and secret of the Taobao gateway and WDT's target app key";
                problem("qimen", Some(text.to_owned()));
            }
            (_, Transport::Direct) => {}
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// The address as it will be sent.
    pub(crate) fn address(&self) -> Result<String, String> {
        let url = base_url(&self.url).map_err(|error| error.to_string())?;
        let enterprise = url.contains("//hu3cgwt0tc.") || url.ends_with("/openapi2");
        let other = match self.transport {
            Transport::Qimen if url.ends_with("/openapi") => Some("direct"),
            Transport::Direct if url.contains("/router/qm") => Some("qimen"),
            _ => None,
        };
        match other {
            _ if enterprise => {
                Err("is a gateway of the enterprise edition (旺店通企业版), a different interface: give \
                                    the one of the flagship edition"
                    .to_owned())
            }
            Some(other) => Err(format!(
                "belongs to the transport {other}, but the transport is {}: change one",
                self.transport
            )),
            None => Ok(url),
        }
    }

    /// The secret half and the salt.
    pub(crate) fn halves(&self) -> Result<(SecretString, SecretString), String> {
        match self.app_secret.expose_secret().split_once(':') {
            Some((secret, salt)) if !secret.is_empty() && !salt.is_empty() => {
                Ok((secret.into(), salt.into()))
            }
            Some(_) => Err("has an empty half: give it as WDT shows it, secret:salt".to_owned()),
            None => Err("has no colon: give both halves as WDT shows them, secret:salt".to_owned()),
        }
    }
}

impl fmt::Debug for WdtConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WdtConfig")
            .field("url", &base_url(&self.url).unwrap_or_else(|_| "(invalid)".to_owned()))
            .field("transport", &self.transport)
            .field("sid", &self.sid)
            .field("app_key", &self.app_key)
            .field("app_secret", &self.app_secret)
            .field("qimen", &self.qimen)
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.text)
    }
}

fn list(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// White space would be signed and sent, and the gateway would only say that the signature is invalid.
fn word_problem(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        Some("is empty: give its value".to_owned())
    } else if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        Some("contains white space or a line break: remove it".to_owned())
    } else {
        None
    }
}
