//! RabbitMQ's management API, for what AMQP doesn't tell. It is only ever read.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, fmt::rfc2822};
use kingpost_outbound::{HttpClient, HttpOptions, Response};
use kingpost_settings::{ExposeSecret as _, ManagementSettings};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A person waits, and the API answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of each queue; everything else costs the broker work for nothing.
const COLUMNS: &str =
    "name,messages_unacknowledged,arguments,policy,operator_policy,effective_policy_definition";

/// The API with a user of its own.
pub(crate) struct Management {
    http: HttpClient,
    base: String,
    user: String,
    authorization: String,
}

/// One queue as the API shows it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct QueueInfo {
    pub(crate) name: String,
    /// Messages that consumers have in hand, as of the last statistics, up to five seconds ago.
    #[serde(default)]
    pub(crate) messages_unacknowledged: Option<u64>,
    #[serde(default)]
    pub(crate) arguments: Map<String, Value>,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    #[serde(default)]
    pub(crate) operator_policy: Option<String>,
    /// What both policies come to: an object, or an empty list where there are none.
    #[serde(default)]
    pub(crate) effective_policy_definition: Value,
}

/// The broker as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overview {
    pub(crate) version: String,
    /// Seconds by which the broker's clock is ahead of ours, by the `Date` of its answer.
    pub(crate) ahead_s: Option<i64>,
}

impl Management {
    /// Connects nowhere yet.
    ///
    /// # Errors
    /// An unusable certificate file, in words.
    pub(crate) fn new(settings: &ManagementSettings) -> Result<Self, String> {
        let options = HttpOptions {
            ca_file: settings.ca_file.clone(),
            total_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..HttpOptions::default()
        };
        let http = HttpClient::new(&options).map_err(|error| error.to_string())?;
        let pair = format!("{}:{}", settings.user, settings.password.expose_secret());
        let authorization = format!("Basic {}", STANDARD.encode(pair));
        Ok(Management { http, base: settings.url.clone(), user: settings.user.clone(), authorization })
    }

    /// Version and clock.
    ///
    /// # Errors
    /// Why there is no answer, with a remedy.
    pub(crate) async fn overview(&self) -> Result<Overview, String> {
        #[derive(Deserialize)]
        struct Answer {
            rabbitmq_version: String,
        }
        let now_s = Timestamp::now().as_second();
        let response = self.get("overview").await?;
        let date = response.date.as_deref().and_then(|date| rfc2822::parse(date).ok());
        let Answer { rabbitmq_version } = self.read(&response)?;
        let ahead_s = date.map(|date| date.timestamp().as_second() - now_s);
        Ok(Overview { version: rabbitmq_version, ahead_s })
    }

    /// Every queue of a virtual host, by its name.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) async fn queues(&self, vhost: &str) -> Result<BTreeMap<String, QueueInfo>, String> {
        let response = self.get(&format!("queues/{}?columns={COLUMNS}", encoded(vhost))).await?;
        let queues: Vec<QueueInfo> = self.read(&response)?;
        Ok(queues.into_iter().map(|queue| (queue.name.clone(), queue)).collect())
    }

    /// The limits of a virtual host, such as `max-queues`.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) async fn limits(&self, vhost: &str) -> Result<BTreeMap<String, i64>, String> {
        #[derive(Deserialize)]
        struct Limits {
            #[serde(default)]
            value: Value,
        }
        let response = self.get(&format!("vhost-limits/{}", encoded(vhost))).await?;
        let limits: Vec<Limits> = self.read(&response)?;
        let values = limits.into_iter().filter_map(|limits| match limits.value {
            Value::Object(values) => Some(values),
            _ => None,
        });
        Ok(values.flatten().filter_map(|(name, value)| Some((name, value.as_i64()?))).collect())
    }

    /// The memory and disk alarms that are in force, in the API's own words; nothing when there are none.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) async fn alarms(&self) -> Result<Option<String>, String> {
        let response = self.ask("health/checks/alarms").await?;
        match response.status {
            200 => Ok(None),
            503 => {
                let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
                let reason = answer.get("reason").and_then(Value::as_str).unwrap_or("an alarm is in force");
                let alarms = answer.get("alarms").map(Value::to_string).unwrap_or_default();
                Ok(Some(format!("{reason} {alarms}").trim().to_owned()))
            }
            _ => Err(self.refusal(&response, "health/checks/alarms")),
        }
    }

    async fn ask(&self, path: &str) -> Result<Response, String> {
        let url = format!("{}/api/{path}", self.base);
        let headers = vec![("authorization".to_owned(), self.authorization.clone())];
        self.http.get(url, headers).await.map_err(|error| {
            format!("the management API doesn't answer: {error}; correct MANAGEMENT_URL, or enable the plugin rabbitmq_management")
        })
    }

    async fn get(&self, path: &str) -> Result<Response, String> {
        let response = self.ask(path).await?;
        if response.status == 200 { Ok(response) } else { Err(self.refusal(&response, path)) }
    }

    fn refusal(&self, response: &Response, path: &str) -> String {
        let path = path.split('?').next().unwrap_or_default();
        let (base, user) = (&self.base, &self.user);
        let place = format!("the management API at {base}");
        match response.status {
            401 => format!(
                "{place} refuses the user {user} (401): correct the password, or give it the tag `monitoring`"
            ),
            403 => format!(
                "{place} lets the user {user} not see {path} (403): give it a row of permissions in this virtual host"
            ),
            404 => format!(
                "{place} knows no {path} (404): correct MANAGEMENT_URL, or the virtual host of AMQP_URL"
            ),
            status => format!("{place} answers {path} with status {status}"),
        }
    }

    fn read<T: DeserializeOwned>(&self, response: &Response) -> Result<T, String> {
        let wrong = |error: serde_json::Error| {
            format!("{} is no management API of RabbitMQ: {error}; correct MANAGEMENT_URL", self.base)
        };
        serde_json::from_slice(&response.body).map_err(wrong)
    }
}

/// Percent-encoded, but for what needs none in any part of a URL.
pub(crate) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02x}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_read_whether_they_have_policies_and_statistics_or_not() {
        let answer = r#"[{"name":"a","arguments":{"x-max-length":1},"effective_policy_definition":[]},
            {"name":"b","messages_unacknowledged":7,"policy":"p","operator_policy":null,"arguments":{},
             "effective_policy_definition":{"max-length":5}}]"#;
        let queues: Vec<QueueInfo> = serde_json::from_str(answer).unwrap();
        assert_eq!((queues[0].messages_unacknowledged, queues[0].policy.as_deref()), (None, None));
        assert_eq!((queues[1].messages_unacknowledged, queues[1].policy.as_deref()), (Some(7), Some("p")));
        assert_eq!(queues[1].effective_policy_definition["max-length"], 5);
    }
}
