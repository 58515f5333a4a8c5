//! The broker's URL.

use std::fmt;

use secrecy::ExposeSecret;

use crate::address::{Address, is_percent_encoded, percent_decoded, user_and_password};
use crate::problem::shape;
use crate::secret::SecretSource;
use crate::{Problem, SecretString, Setting};

/// A header can't be split over frames, and a broker closes the connection that brings a larger one; the message would be
/// published again and again.
const FRAME_BYTES_MIN: u32 = 32_768;

/// What lapin's URI understands after the question mark; it ignores everything else.
const PARAMETERS: [&str; 5] =
    ["frame_max", "channel_max", "heartbeat", "connection_timeout", "auth_mechanism"];

/// The URL of the broker, checked. One that came from `AMQP_URL_FILE` is read again by each [`AmqpUrl::current`], so that
/// a rotated password is used by the next connection.
///
/// `Debug` and `Display` show scheme, host, port and virtual host, and neither user nor password.
#[derive(Clone)]
pub struct AmqpUrl {
    variable: String,
    setting: &'static Setting,
    source: SecretSource,
    place: String,
    tls: bool,
}

impl AmqpUrl {
    pub(crate) fn new(setting: &'static Setting, source: SecretSource) -> Result<Self, Problem> {
        let mut url =
            AmqpUrl { variable: setting.name.to_owned(), setting, source, place: String::new(), tls: false };
        let current = url.current()?;
        if let Ok(address) = Address::parse(current.expose_secret()) {
            let port = address.port.map_or(String::new(), |port| format!(":{port}"));
            url.place = format!("{}://{}{port}{}", address.scheme, address.host, address.path);
            url.tls = address.scheme == "amqps";
        }
        Ok(url)
    }

    /// The URL to connect with now.
    ///
    /// # Errors
    /// The file it comes from can't be read any more, or holds something else than a usable URL. The URL read
    /// before isn't used instead, as its password may have been revoked; try again at the next connection.
    pub fn current(&self) -> Result<SecretString, Problem> {
        let url = self.source.current().map_err(|why| {
            Problem::new(
                format!("{}_FILE", self.variable),
                why,
                format!("a file that holds {}", self.setting.expected),
                "mend the path, or the right to read it",
            )
        })?;
        match check(url.expose_secret()) {
            Ok(()) => Ok(url),
            Err(why) => {
                let received = format!("{}: {why}", shape(self.setting, url.expose_secret()));
                Err(Problem::with(self.setting, &self.variable, received))
            }
        }
    }

    /// User and password that are in it now, `guest` and `guest` where there are none, as RabbitMQ's clients have it.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub fn credentials(&self) -> Result<(String, SecretString), Problem> {
        let url = self.current()?;
        let user = Address::parse(url.expose_secret()).ok().and_then(|address| address.user);
        let guest = || ("guest".to_owned(), "guest".to_owned());
        let (user, password) = user.and_then(user_and_password).unwrap_or_else(guest);
        Ok((user, SecretString::from(password)))
    }

    /// The virtual host that is in it now, without its escapes.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub fn vhost(&self) -> Result<String, Problem> {
        let url = self.current()?;
        let path = Address::parse(url.expose_secret()).map_or("", |address| address.path);
        Ok(percent_decoded(path.trim_start_matches('/')).unwrap_or_default())
    }

    /// Whether the connection is encrypted (`amqps`).
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({})", self.place)
    }
}

fn check(url: &str) -> Result<(), &'static str> {
    let address = Address::parse(url)?;
    if !matches!(address.scheme, "amqp" | "amqps") {
        return Err("its scheme is neither amqp nor amqps");
    }
    if address.host.starts_with('[') {
        // lapin's URI takes an IPv6 literal for no host and connects to localhost.
        return Err("an IPv6 address can't be written into it; use a host name");
    }
    if !is_percent_encoded(url) {
        return Err("it has a % that isn't followed by two hexadecimal digits; a % itself is written %25");
    }
    match address.path {
        "" => return Err("it names no virtual host"),
        "/" => return Err("it ends in a slash, which names a virtual host without a name"),
        path if path[1..].contains('/') => {
            return Err("a slash inside the virtual host must be written as %2f");
        }
        _ if address.fragment => return Err("it has a #, which must be written as %23"),
        _ => {}
    }
    let parameters = address.query.into_iter().flat_map(|query| query.split('&'));
    for (name, value) in parameters.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        if !PARAMETERS.contains(&name) {
            return Err("it has a parameter that would be ignored; known are frame_max, channel_max, \
                        heartbeat, connection_timeout and auth_mechanism");
        }
        let number = value.parse::<u32>();
        if name != "auth_mechanism" && number.is_err() {
            return Err("a parameter after the question mark isn't a whole number");
        }
        if name == "frame_max" && number.is_ok_and(|bytes| bytes != 0 && bytes < FRAME_BYTES_MIN) {
            return Err(
                "frame_max is below 32768: a header with two failure records fits into no frame then",
            );
        }
    }
    Ok(())
}
