//! Which connector a scheme's system names.

use std::{sync::Arc, time::Duration};

use kingpost_kingdee::{Auth, KingdeeClient, KingdeeConfig, SaveOption, call_timeout, safe_save_options};
use kingpost_model::{Source, Target};
use kingpost_scheme::{Finish, OnChange, Scheme, SourceSystem, TargetSystem};
use kingpost_settings::{
    KingdeeAuth, KingdeeSettings, Problem, Problems, QimenSignMethod, WdtSettings, WdtTransport,
};
use kingpost_wdt::{Client, Method, QimenConfig, SignMethod, Transport, WdtConfig};

use crate::{
    kingdee::{self, Form, KingdeeBooks, KingdeeTarget, Looker, TargetSpec},
    probe::{SourceProbe, TargetProbe},
    wdt::{WdtSource, WdtSpec},
};

/// The code of a failure whose call was given up because it took too long: what is tried next will hang as well.
pub const TIMED_OUT: &str = "time-out";

/// The code of a failure of a number that more than one document of the target has: nothing is written to any of them
/// until a person has decided.
pub const DUPLICATE: &str = "duplicate";

/// The code of a failure of a document that stands in the target with another content.
pub const CHANGED: &str = "changed";

/// The code of a failure of a document that stands in the target although it was cancelled in the source.
pub const CANCELLED: &str = "cancelled";

/// How much longer than our own patience a write may run behind a proxy that has taken it over, and behind the server.
const BEHIND_US: Duration = Duration::from_secs(60);

/// Told of every call to another system, for metrics.
pub trait Calls: Send + Sync + 'static {
    /// A call of an operation of a system ended; the outcome is one of few words.
    fn call(&self, system: &'static str, operation: &'static str, outcome: &'static str, took: Duration);

    /// The server at an address showed this certificate (DER), which wasn't the last one.
    fn peer_certificate(&self, _system: &'static str, _address: &str, _der: &[u8]) {}
}

/// Passes on the certificates of a server.
fn certificates(
    system: &'static str,
    address: &str,
    calls: &Arc<dyn Calls>,
) -> impl Fn(&[u8]) + Send + Sync + 'static {
    let (address, calls) = (address.to_owned(), Arc::clone(calls));
    move |der| calls.peer_certificate(system, &address, der)
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
            client.on_peer_certificate(certificates("wdt", &settings.url, &calls));
            let spec = &scheme.source;
            let source = WdtSpec {
                method: spec.method.clone(),
                params: with_cancelled(&spec.params, &spec.cancelled),
                key: spec.key.clone(),
                page_size: spec.page_size,
                cancelled: spec.cancelled.clone(),
            };
            // Half of the lag covers the clocks, the other half what WDT takes to show a change.
            Ok(Arc::new(WdtSource::new(client, source, calls).with_margin(spec.window.lag / 2)))
        }
    }
}

/// What asks a scheme's source whether it would answer, for a person.
///
/// # Errors
/// Settings that are each right but don't go together.
pub fn source_probe(scheme: &Scheme, settings: &WdtSettings) -> Result<SourceProbe, Problems> {
    match scheme.source.system {
        SourceSystem::Wdt => {
            let client =
                Client::new(wdt_config(settings)).map_err(|error| together("WDT_URL", &error.to_string()))?;
            let spec = &scheme.source;
            let params = with_cancelled(&spec.params, &spec.cancelled);
            Ok(SourceProbe { client, method: spec.method.clone(), params })
        }
    }
}

/// What asks a scheme's target whether it would take its documents, for a person; it writes nothing.
///
/// # Errors
/// Settings that are each right but don't go together.
pub fn target_probe(scheme: &Scheme, settings: &KingdeeSettings) -> Result<TargetProbe, Problems> {
    let Looker { client, form, texts, .. } = looker(scheme, settings)?;
    Ok(TargetProbe { client, form, texts })
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
            let Looker { client, form, finish, texts } = looker(scheme, settings)?;
            client.on_peer_certificate(certificates("kingdee", &settings.url, &calls));
            let options = save_options(&scheme.target.options);
            let on_change = match scheme.target.on_change {
                OnChange::Ignore => kingdee::OnChange::Ignore,
                OnChange::Report => kingdee::OnChange::Report,
                OnChange::UpdateDraft => kingdee::OnChange::UpdateDraft,
            };
            let rules = kingdee::Rules { finish, on_change };
            let spec = TargetSpec { form, rules, options, texts };
            Ok(Arc::new(KingdeeTarget::new(client, spec, calls)))
        }
    }
}

/// What looks documents of a scheme up in its target, for a person; it writes nothing.
///
/// # Errors
/// Settings that are each right but don't go together.
pub fn looker(scheme: &Scheme, settings: &KingdeeSettings) -> Result<Looker, Problems> {
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
            let texts = kingdee::catalogue(&scheme.target.texts)
                .map_err(|error| together("target.texts", &error.to_string()))?;
            Ok(Looker { client, form: scheme.target.form.clone(), finish, texts })
        }
    }
}

/// What a scheme's target has in its books.
///
/// # Errors
/// Settings that are each right but don't go together, or a form of which nothing is known.
pub fn books(
    scheme: &Scheme,
    settings: &KingdeeSettings,
    calls: Arc<dyn Calls>,
) -> Result<KingdeeBooks, Problems> {
    match scheme.target.system {
        TargetSystem::Kingdee => {
            let client = KingdeeClient::new(kingdee_config(settings))
                .map_err(|error| together("KINGDEE_URL", &error.to_string()))?;
            let Some(form) = Form::find(&scheme.target.form) else {
                let text = format!("nothing is known of the fields of the form {}", scheme.target.form);
                return Err(together("target.form", &text));
            };
            let texts = kingdee::catalogue(&scheme.target.texts)
                .map_err(|error| together("target.texts", &error.to_string()))?;
            Ok(KingdeeBooks::new(client, form, texts, calls))
        }
    }
}

/// The widest range of time that a scheme's source answers in one window.
pub fn widest_window(scheme: &Scheme) -> Duration {
    match scheme.source.system {
        SourceSystem::Wdt => {
            Method::find(&scheme.source.method).map_or(scheme.source.window.width, |m| m.widest_window)
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

/// Criteria that cancelled documents meet as well. Without a criterion for the status there is nothing to add.
fn with_cancelled(params: &[(String, String)], cancelled: &[String]) -> Vec<(String, String)> {
    let mut params = params.to_vec();
    if let Some((_, status)) = params.iter_mut().find(|(name, _)| name == "status") {
        for code in cancelled {
            status.push(',');
            status.push_str(code);
        }
    }
    params
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
    fn cancelled_documents_are_asked_for_where_statuses_are() {
        let param = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let cancelled = ["10".to_owned(), "5".to_owned()];
        assert_eq!(with_cancelled(&param("status", "80"), &cancelled), param("status", "80,10,5"));
        assert_eq!(with_cancelled(&param("status", "80"), &[]), param("status", "80"));
        assert_eq!(with_cancelled(&param("warehouse_no", "A"), &cancelled), param("warehouse_no", "A"));
    }

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
