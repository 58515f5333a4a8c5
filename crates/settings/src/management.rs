//! RabbitMQ's management API, for what AMQP doesn't tell.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::address::{Address, is_percent_encoded, user_and_password};
use crate::reader::{Reader, Wrong};
use crate::{AmqpUrl, Environment, Problem, Problems, Program};

/// How the management API of RabbitMQ is reached. `Debug` shows no password.
#[derive(Clone)]
pub struct ManagementSettings {
    /// `MANAGEMENT_URL` without user and password, as `https://rabbitmq.example:15671`.
    pub url: String,
    /// The user of the URL, or the one of `AMQP_URL` where it names none.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// `MANAGEMENT_CA_FILE`: certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for ManagementSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementSettings")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize, Default)]
struct Variables {
    management_url: Option<String>,
    management_ca_file: Option<String>,
}

/// The settings of the management API; nothing where `MANAGEMENT_URL` isn't given.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn management(
    environment: &Environment,
    amqp_url: &AmqpUrl,
) -> Result<Option<ManagementSettings>, Problems> {
    let mut reader = Reader::new(environment, Program::Operator);
    let found: Variables = reader.variables(&["MANAGEMENT"]);
    let ca_file = reader.certificates("MANAGEMENT_CA_FILE", found.management_ca_file);
    let given = found.management_url.is_some();
    let url = reader.parsed("MANAGEMENT_URL", found.management_url, split);
    if let (Some(_), Some((url, _))) = (&ca_file, &url)
        && url.starts_with("http://")
    {
        reader.problems.push(Problem::new(
            "MANAGEMENT_CA_FILE",
            "given, while MANAGEMENT_URL says http: the connection wouldn't be encrypted",
            "a MANAGEMENT_URL that starts with https://",
            "change the scheme of MANAGEMENT_URL, or remove MANAGEMENT_CA_FILE",
        ));
    }
    let Some((url, own)) = url else {
        return if given { Err(reader.problems) } else { reader.problems.or(None) };
    };
    let credentials = match own {
        Some((user, password)) => Ok((user, SecretString::from(password))),
        None => amqp_url.credentials(),
    };
    match credentials {
        Ok((user, password)) => reader.problems.or(Some(ManagementSettings { url, user, password, ca_file })),
        Err(problem) => {
            reader.problems.push(problem);
            Err(reader.problems)
        }
    }
}

type Credentials = Option<(String, String)>;

/// Cuts user and password out of the URL.
fn split(text: &str) -> Result<(String, Credentials), Wrong> {
    let address = Address::parse(text).map_err(Wrong::because)?;
    if !matches!(address.scheme, "http" | "https") {
        return Err(Wrong::because("its scheme is neither http nor https"));
    }
    if address.query.is_some() || address.fragment {
        return Err(Wrong::because("it has a query or a fragment"));
    }
    if !is_percent_encoded(text) {
        return Err(Wrong::because("it has a % that isn't followed by two hexadecimal digits"));
    }
    let own = match address.user {
        None => None,
        Some(user) => {
            let own = user_and_password(user).filter(|(user, _)| !user.is_empty());
            Some(own.ok_or(Wrong::because("before the @ is no user:password"))?)
        }
    };
    let port = address.port.map_or(String::new(), |port| format!(":{port}"));
    let path = address.path.trim_end_matches('/').trim_end_matches("/api");
    Ok((format!("{}://{}{port}{path}", address.scheme, address.host), own))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::operator;

    fn read(variables: &[(&str, &str)]) -> Result<Option<ManagementSettings>, Problems> {
        operator(&variables.iter().copied().collect(), &[]).map(|settings| settings.management)
    }

    #[test]
    fn user_and_password_come_from_the_url_or_from_the_brokers() {
        assert!(read(&[]).unwrap().is_none());
        let amqp = ("AMQP_URL", "amqp://kp%20op:a%40b@mq.example/kp");
        let own = read(&[amqp, ("MANAGEMENT_URL", "https://monitor:c%2fd@mq.example:15671/api/")])
            .unwrap()
            .unwrap();
        assert_eq!((own.url.as_str(), own.user.as_str()), ("https://mq.example:15671", "monitor"));
        assert_eq!(own.password.expose_secret(), "c/d");
        let theirs = read(&[amqp, ("MANAGEMENT_URL", "http://mq.example:15672")]).unwrap().unwrap();
        assert_eq!((theirs.user.as_str(), theirs.password.expose_secret()), ("kp op", "a@b"));
        assert!(!format!("{own:?} {theirs:?}").contains("c/d"));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in ["amqp://u:marker-7f3a@mq", "http://marker-7f3a@mq", "http://u:marker-7f3a@mq/?x=1"] {
            let text = read(&[("MANAGEMENT_URL", url)]).unwrap_err().to_string();
            assert!(text.contains("MANAGEMENT_URL") && !text.contains("marker-7f3a"), "{text}");
        }
    }
}
