//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use jiff::Timestamp;

use crate::orders::{Rates, SortBy};

const LONG_ABOUT: &str = "\
A fake WDT (旺店通·旗舰版) and a fake Kingdee (金蝶云星空) in one process, for trying and testing an integration.

WDT's purchase stock-ins are answered through Qimen (/router/qm) and directly (/openapi), with strict checks of
signatures, clocks and parameters. Kingdee takes STK_InStock documents through its WebAPI (/k3cloud/), checks them
against its base data, and remembers every commit. Faults are scripted while it runs over /admin/faults.
Everything is in memory and gone when it ends.";

const AFTER_HELP: &str = "\
Examples:
  kingpost-sandbox --listen 127.0.0.1:8099
  kingpost-sandbox --orders 1000 --unpostable 12 --from 2026-08-01T00:00:00+08:00 --spread 6h --env-file sandbox.env
  curl http://127.0.0.1:8099/admin/wdt/orders?summary=1
  curl http://127.0.0.1:8099/admin/kingdee/summary
  kingpost-sandbox --orders 1000 --live 0.05 --order modified-desc
  curl http://127.0.0.1:8099/admin/faults -d '{\"system\":\"kingdee\",\"operation\":\"BatchSave\",\"action\":{\"kind\":\"drop\",\"when\":\"after\"}}'

The credentials are examples and are checked as strictly as real ones. SIGINT and SIGTERM end it.";

/// Ten years: a spread beyond it is a slip of the pen.
const MAX_SPREAD_SECONDS: i64 = 10 * 366 * 86_400;

/// Everything the sandbox can be told at its start.
#[derive(Clone, Debug, Parser)]
#[command(name = "kingpost-sandbox", version, about = "A fake WDT and a fake Kingdee for tests and trials", long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Write the bound address (HOST:PORT) to this file once listening, atomically
    #[arg(long, value_name = "PATH")]
    pub port_file: Option<PathBuf>,
    /// Write the workers' settings for this sandbox (WDT_URL, KINGDEE_URL, …) to this file once listening
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,

    /// Completed stock-ins (status 80) to generate
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = "Orders")]
    pub orders: u32,
    /// Of these, exactly so many that can't be posted, spread over seven causes
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Orders")]
    pub unpostable: u32,
    /// Further stock-ins in other states (10, 20, 30, 37, 40) [default: one per fifty orders]
    #[arg(long, value_name = "N", help_heading = "Orders")]
    pub unfinished: Option<u32>,
    /// Same seed, start and spread: same orders
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Orders")]
    pub seed: u64,
    /// Earliest modified time, RFC 3339 [default: the spread and ten minutes before now]
    #[arg(long, value_name = "TIME", help_heading = "Orders")]
    pub from: Option<Timestamp>,
    /// Modified times lie on whole seconds within this long after --from (30s, 90m, 6h, 2d)
    #[arg(long, value_name = "DURATION", default_value = "6h", value_parser = parse_seconds, help_heading = "Orders")]
    pub spread: i64,

    /// Let the source live: this share of the completed orders is modified each minute, with a tenth as much cancelled and
    /// added and the same share of the unfinished ones completed; or each by itself, such as
    /// modify=0.05,cancel=0.01,add=0.01,complete=0.1,content=0 (content: another quantity)
    #[arg(long, value_name = "SHARE", value_parser = Rates::parse, help_heading = "Orders")]
    pub live: Option<Rates>,
    /// The order in which WDT answers
    #[arg(long, value_name = "ORDER", value_enum, default_value_t, help_heading = "Orders")]
    pub order: SortBy,
    /// Answer what was changed in one second in another order with every request
    #[arg(long, help_heading = "Orders")]
    pub shuffle_ties: bool,

    /// Wait so long before every answer of WDT
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Behaviour")]
    pub wdt_latency: u64,
    /// Wait so long before every answer of Kingdee
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Behaviour")]
    pub kingdee_latency: u64,
    /// Wait so long between Kingdee's uniqueness check and its insert
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = "Behaviour")]
    pub check_gap: u64,
    /// Take a number that another document has, as an account set without the rule 编码唯一
    #[arg(long, help_heading = "Behaviour")]
    pub repeated_numbers: bool,
    /// Let a login end the other sessions of its user
    #[arg(long, help_heading = "Behaviour")]
    pub kick_sessions: bool,

    /// WDT seller account
    #[arg(long, value_name = "SID", default_value = "example-sid", help_heading = "Credentials")]
    pub wdt_sid: String,
    /// WDT interface account
    #[arg(long, value_name = "KEY", default_value = "example-wdt-key", help_heading = "Credentials")]
    pub wdt_app_key: String,
    /// WDT secret and salt as SECRET:SALT
    #[arg(long, value_name = "SECRET:SALT", default_value = "example-wdt-secret:example-wdt-salt", value_parser = parse_secret, help_heading = "Credentials")]
    pub wdt_app_secret: String,
    /// Qimen app key of the integrator
    #[arg(long, value_name = "KEY", default_value = "20000001", help_heading = "Credentials")]
    pub qimen_app_key: String,
    /// Qimen app secret of the integrator
    #[arg(long, value_name = "SECRET", default_value = "example-qimen-secret", help_heading = "Credentials")]
    pub qimen_app_secret: String,
    /// WDT's own app key on Qimen
    #[arg(long, value_name = "KEY", default_value = "21363512", help_heading = "Credentials")]
    pub qimen_target_app_key: String,
    /// Kingdee account set id
    #[arg(long, value_name = "ID", default_value = "example-acct", help_heading = "Credentials")]
    pub kingdee_acct_id: String,
    /// Kingdee user
    #[arg(long, value_name = "NAME", default_value = "example-user", help_heading = "Credentials")]
    pub kingdee_username: String,
    /// Kingdee app id: client id, underscore, 32 base64 characters
    #[arg(long, value_name = "ID", default_value = "300001_ZXhhbXBsZS1hcHAtaWQtZm9yLXRlc3Rz", value_parser = parse_app_id, help_heading = "Credentials")]
    pub kingdee_app_id: String,
    /// Kingdee app secret
    #[arg(
        long,
        value_name = "SECRET",
        default_value = "example-kingdee-secret",
        help_heading = "Credentials"
    )]
    pub kingdee_app_secret: String,
}

impl Default for Options {
    fn default() -> Options {
        Options::parse_from(["kingpost-sandbox"])
    }
}

impl Options {
    /// The secret half of the WDT app secret.
    pub(crate) fn wdt_secret(&self) -> &str {
        self.wdt_app_secret.split_once(':').map_or("", |(secret, _)| secret)
    }

    /// The salt half of the WDT app secret.
    pub(crate) fn wdt_salt(&self) -> &str {
        self.wdt_app_secret.split_once(':').map_or("", |(_, salt)| salt)
    }

    /// The workers' settings for a sandbox at that address, one `NAME=value` per line.
    pub(crate) fn environment(&self, address: SocketAddr) -> String {
        let settings = [
            ("WDT_TRANSPORT", "qimen"),
            ("WDT_URL", &format!("http://{address}/router/qm")),
            ("WDT_SID", &self.wdt_sid),
            ("WDT_APP_KEY", &self.wdt_app_key),
            ("WDT_APP_SECRET", &self.wdt_app_secret),
            ("QIMEN_APP_KEY", &self.qimen_app_key),
            ("QIMEN_APP_SECRET", &self.qimen_app_secret),
            ("QIMEN_TARGET_APP_KEY", &self.qimen_target_app_key),
            ("KINGDEE_URL", &format!("http://{address}/k3cloud/")),
            ("KINGDEE_ACCT_ID", &self.kingdee_acct_id),
            ("KINGDEE_USERNAME", &self.kingdee_username),
            ("KINGDEE_APP_ID", &self.kingdee_app_id),
            ("KINGDEE_APP_SECRET", &self.kingdee_app_secret),
        ];
        settings.map(|(name, value)| format!("{name}={value}\n")).concat()
    }
}

/// Seconds of `30s`, `90m`, `6h`, `2d` and sums of these such as `1h30m`.
fn parse_seconds(text: &str) -> Result<i64, String> {
    let refused = || format!("{text:?} is no duration such as 30s, 90m, 6h or 1h30m");
    let mut total: i64 = 0;
    let mut digits = String::new();
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                digits.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(refused()),
        };
        let count: i64 = digits.parse().map_err(|_| refused())?;
        digits.clear();
        total = count.checked_mul(unit).and_then(|span| total.checked_add(span)).ok_or_else(refused)?;
    }
    if digits.is_empty() && (1..=MAX_SPREAD_SECONDS).contains(&total) { Ok(total) } else { Err(refused()) }
}

fn parse_secret(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((secret, salt)) if !secret.is_empty() && !salt.is_empty() => Ok(text.to_owned()),
        _ => Err("expected SECRET:SALT, both halves not empty".to_owned()),
    }
}

fn parse_app_id(text: &str) -> Result<String, String> {
    let letters = |tail: &str| tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    match text.split_once('_') {
        Some((client, tail)) if !client.is_empty() && tail.len() == 32 && letters(tail) => {
            Ok(text.to_owned())
        }
        _ => Err("expected a client id, an underscore and 32 base64 characters".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Options, parse_seconds};

    #[test]
    fn the_command_line_is_consistent_and_its_defaults_pass_their_own_checks() {
        Options::command().debug_assert();
        let options = Options::default();
        assert_eq!((options.wdt_secret(), options.wdt_salt()), ("example-wdt-secret", "example-wdt-salt"));
        assert_eq!(options.spread, 21_600);
    }

    #[test]
    fn unusable_values_are_refused() {
        for pair in
            [["--spread", "6"], ["--spread", "0s"], ["--kingdee-app-id", "x_y"], ["--wdt-app-secret", "no"]]
        {
            assert!(Options::try_parse_from(["kingpost-sandbox", pair[0], pair[1]]).is_err(), "{pair:?}");
        }
        assert_eq!(parse_seconds("1h30m"), Ok(5400));
    }
}
