//! Which connector a scheme's system names.

use std::{sync::Arc, time::Duration};

use kingpost_kingdee::{Auth, KingdeeClient, KingdeeConfig, SaveOption, call_timeout, safe_save_options};
use kingpost_model::{Source, Target};
use kingpost_scheme::{Finish, Scheme, SourceSystem, TargetSystem};
use kingpost_settings::{
    KingdeeAuth, KingdeeSettings, Problem, Problems, QimenSignMethod, WdtSettings, WdtTransport,
};
use kingpost_wdt::{Client, QimenConfig, SignMethod, Transport, WdtConfig};

use crate::{
    kingdee::{self, KingdeeTarget, TargetSpec},
    wdt::WdtSource,
};

/// The code of a failure whose call was given up because it took too long: what is tried next will hang as well.
pub const TIMED_OUT: &str = "time-out";

/// The code of a failure of a number that more than one document of the target has: nothing is written to any of them
/// until a person has decided.
pub const DUPLICATE: &str = "duplicate";

/// How much longer than our own patience a write may run behind a proxy that has taken it over, and behind the server.
const BEHIND_US: Duration = Duration::from_secs(60);

/// Told of every call to another system, for metrics.
pub trait Calls: Send + Sync + 'static {
    /// A call of an operation of a system ended; the outcome is one of few words.
    fn call(&self, system: &'static str, operation: &'static str, outcome: &'static str, took: Duration);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCalls;

impl Calls for NoCalls {
    fn call(&self, _: &'static str, _: &'static str, _: &'static str, _: Duration) {}
}

/// The source that a scheme reads from.
///
/// # Errors
/// Settings that are each right but don't go together.
pub fn source(
    scheme: &Scheme,
    settings: &WdtSettings,
    calls: Arc<dyn Calls>,
) -> Result<Arc<dyn Source>, Problems> {
    match scheme.source.system {
        SourceSystem::Wdt => {
            let client =
                Client::new(wdt_config(settings)).map_err(|error| together("WDT_URL", &error.to_string()))?;
            let spec = &scheme.source;
            let (method, params) = (spec.method.clone(), spec.params.clone());
            let source = WdtSource::new(client, method, params, spec.key.clone(), spec.page_size, calls);
            // Half of the lag covers the clocks, the other half what WDT takes to show a change.
            Ok(Arc::new(source.with_margin(spec.window.lag / 2)))
        }
    }
}

/// The target that a scheme writes to.
///
/// # Errors
/// Settings that are each right but don't go together.
pub fn target(
    scheme: &Scheme,
    settings: &KingdeeSettings,
    calls: Arc<dyn Calls>,
) -> Result<Arc<dyn Target>, Problems> {
    match scheme.target.system {
        TargetSystem::Kingdee => {
            let config = kingdee_config(settings);
            let client =
                KingdeeClient::new(config).map_err(|error| together("KINGDEE_URL", &error.to_string()))?;
            let finish = match scheme.target.finish {
                Finish::Save => kingdee::Finish::Save,
                Finish::Submit => kingdee::Finish::Submit,
                Finish::Audit => kingdee::Finish::Audit,
            };
            let options = save_options(&scheme.target.options);
            let texts = kingdee::catalogue(&scheme.target.texts)
                .map_err(|error| together("target.texts", &error.to_string()))?;
            let spec = TargetSpec { form: scheme.target.form.clone(), finish, options, texts };
            Ok(Arc::new(KingdeeTarget::new(client, spec, calls)))
        }
    }
}

/// How long one write of a scheme may run on the other side after its request began: the patience of the client for a
/// whole batch, and a margin for proxies and the server, which don't stop when the client does.
pub fn longest_write(scheme: &Scheme) -> Duration {
    match scheme.target.system {
        TargetSystem::Kingdee => {
            let rows = usize::try_from(scheme.target.batch.rows).unwrap_or(usize::MAX);
            call_timeout(rows) + BEHIND_US
        }
    }
}

/// The safe options, each replaced by the scheme's own where it has one.
fn save_options(own: &[SaveOption]) -> Vec<SaveOption> {
    let mut options = safe_save_options();
    for (name, value) in own {
        match options.iter_mut().find(|(safe, _)| safe.eq_ignore_ascii_case(name)) {
            Some((_, safe)) => safe.clone_from(value),
            None => options.push((name.clone(), value.clone())),
        }
    }
    options
}

fn together(variable: &str, text: &str) -> Problems {
    let mut problems = Problems::new();
    let expected = "settings that go together";
    problems.push(Problem::new(variable, text, expected, "correct the settings that are named"));
    problems
}

fn wdt_config(settings: &WdtSettings) -> WdtConfig {
    WdtConfig {
        url: settings.url.clone(),
        transport: match settings.transport {
            WdtTransport::Qimen => Transport::Qimen,
            WdtTransport::Direct => Transport::Direct,
        },
        sid: settings.sid.clone(),
        app_key: settings.app_key.clone(),
        app_secret: settings.app_secret.clone(),
        qimen: settings.qimen.as_ref().map(|qimen| QimenConfig {
            app_key: qimen.app_key.clone(),
            app_secret: qimen.app_secret.clone(),
            target_app_key: qimen.target_app_key.clone(),
            sign_method: match qimen.sign_method {
                QimenSignMethod::Md5 => SignMethod::Md5,
                QimenSignMethod::Hmac => SignMethod::Hmac,
                QimenSignMethod::HmacSha256 => SignMethod::HmacSha256,
            },
        }),
        ca_file: settings.ca_file.clone(),
    }
}

fn kingdee_config(settings: &KingdeeSettings) -> KingdeeConfig {
    KingdeeConfig {
        url: settings.url.clone(),
        acct_id: settings.acct_id.clone(),
        username: settings.username.clone(),
        app_id: settings.app_id.clone(),
        app_secret: settings.app_secret.clone(),
        lcid: settings.lcid,
        org_num: settings.org_num.to_string(),
        auth: match settings.auth {
            KingdeeAuth::SignHeaders => Auth::SignHeaders,
            KingdeeAuth::LoginBySign => Auth::LoginBySign,
        },
        ca_file: settings.ca_file.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schemes_options_replace_the_safe_ones_in_place() {
        let value = |json: &str| serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
        let own =
            vec![("isverifybasedatafield".to_owned(), value("false")), ("BatchX".to_owned(), value("1"))];
        let options = save_options(&own);
        let safe = safe_save_options();
        assert_eq!(options.len(), safe.len() + 1);
        let verify = options.iter().find(|(name, _)| name == "IsVerifyBaseDataField").unwrap();
        assert_eq!(verify.1.get(), "false");
        let names = |options: &[SaveOption]| options.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&options)[..safe.len()], names(&safe)[..]);
    }
}
