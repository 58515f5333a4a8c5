//! What the extractor reads to take documents that are pushed to it.

use std::net::SocketAddr;

use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::problem::shape;
use crate::reader::{Reader, Wrong};
use crate::secret::SecretSource;
use crate::{Environment, Problem, Problems, Program, SecretString, Setting};

/// Shorter ones can be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;
const BYTES_MIN: usize = 1024;
/// A message holds no more, and a request may be one document.
const BYTES_MAX: usize = 15 * 1024 * 1024;

/// Where and from whom the extractor takes documents.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// `PUSH_ADDR`; port 0 takes a free one.
    pub addr: SocketAddr,
    /// `PUSH_TOKEN`.
    pub token: PushToken,
    /// `PUSH_MAX_BYTES`: the largest body of a request.
    pub max_bytes: usize,
}

/// The word that senders have to know. One that came from `PUSH_TOKEN_FILE` is read again by each
/// [`PushToken::current`], so that a rotated one holds from the next request on. `Debug` doesn't show it.
#[derive(Debug, Clone)]
pub struct PushToken {
    setting: &'static Setting,
    source: SecretSource,
}

impl PushToken {
    /// The token as it is now.
    ///
    /// # Errors
    /// The file can't be read any more, or holds something else than a usable token. The one read before isn't used
    /// instead, as it may have been revoked.
    pub fn current(&self) -> Result<SecretString, Problem> {
        let name = self.setting.name;
        let token = self.source.current().map_err(|why| {
            let expected = format!("a file that holds {}", self.setting.expected);
            Problem::new(format!("{name}_FILE"), why, expected, "mend the path, or the right to read it")
        })?;
        let text = token.expose_secret();
        let clean = text.len() >= TOKEN_CHARACTERS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
        if clean { Ok(token) } else { Err(Problem::with(self.setting, name, shape(self.setting, text))) }
    }
}

#[derive(Deserialize, Default)]
struct PushVariables {
    push_addr: Option<String>,
    push_max_bytes: Option<String>,
}

/// Nothing when `PUSH_ADDR` isn't set; the other variables are then not looked at, as programs may share them.
pub(crate) fn push(environment: &Environment, program: Program) -> Result<Option<PushSettings>, Problems> {
    let given = |name: &str| environment.get(name).is_some();
    if !given("PUSH_ADDR") && !given("PUSH_ADDR_FILE") {
        return Ok(None);
    }
    let mut reader = Reader::new(environment, program);
    let found: PushVariables = reader.variables(&["PUSH"]);
    let addr = reader.parsed("PUSH_ADDR", found.push_addr, |text| text.parse().map_err(|_| Wrong::SHAPE));
    let max_bytes = reader.parsed("PUSH_MAX_BYTES", found.push_max_bytes, |text| match text.parse() {
        Ok(bytes) if (BYTES_MIN..=BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(Wrong::SHAPE),
    });
    let token = reader.source("PUSH_TOKEN").map(|(setting, source)| PushToken { setting, source });
    match &token {
        Some(token) => {
            if let Err(problem) = token.current() {
                reader.problems.push(problem);
            }
        }
        None => {
            reader.required("PUSH_TOKEN", None);
        }
    }
    match (addr, token, max_bytes) {
        (Some(addr), Some(token), Some(max_bytes)) => {
            reader.problems.or(Some(PushSettings { addr, token, max_bytes }))
        }
        _ => Err(reader.problems),
    }
}
