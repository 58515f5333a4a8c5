mod render;
mod secrets;

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use kingpost_broker::users_text;

use self::secrets::{Place, Secrets};
use crate::ending::{Report, Stop};

const AFTER_HELP: &str = "\
Without --as it prints each user with the patterns of what it may configure, write and read.

  rabbitmqctl   a shell script; it reads the passwords from the secrets directory, and may run again
  definitions   JSON for `rabbitmqctl import_definitions` or `load_definitions`, with hashes of the passwords
  kubernetes    Vhost, User and Permission objects of the RabbitMQ Messaging Topology Operator

--secrets-dir makes DIR/USER.password and DIR/USER.amqp-url for each user where they are missing, and changes
none that is there; DIR/USER.amqp-url is what AMQP_URL_FILE takes, and DIR/kingpost-monitor.management-url what
MANAGEMENT_URL_FILE takes. No password is printed: only definitions hold their hashes, and need the directory
for them.

Examples:
  kingpost topology users
  kingpost topology users --as rabbitmqctl --secrets-dir secrets --host rabbitmq.example --tls | sh
  kingpost topology users --as definitions --secrets-dir secrets --out definitions.json";

/// Print the users that a stage each needs and what they may do, or make their passwords
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Users {
    /// How they are printed
    #[arg(long = "as", value_name = "FORM", value_enum, default_value = "table")]
    form: Form,
    /// Make a password and an AMQP URL for each user in this directory, where they are missing
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// Permissions of the files that are made, in octal
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    mode: u32,
    /// Write it to this file instead of printing it; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Host of RabbitMQ, for the URLs
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_parser = host)]
    host: String,
    /// Port of RabbitMQ, for the URLs [default: 5672, or 5671 with --tls]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Port of RabbitMQ's management API, for its URL [default: 15672, or 15671 with --tls]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    management_port: Option<u16>,
    /// Write amqps:// and https:// into the URLs
    #[arg(long)]
    tls: bool,
    /// Virtual host of the permissions and the URLs
    #[arg(long, value_name = "VHOST", default_value = "kingpost", value_parser = vhost)]
    vhost: String,
    /// RabbitmqCluster that the objects of --as kubernetes belong to
    #[arg(long, value_name = "NAME", default_value = "rabbitmq", value_parser = cluster)]
    cluster: String,
}

/// How the users are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Rabbitmqctl,
    Definitions,
    Kubernetes,
}

impl Users {
    pub(super) fn run(self) -> Result<Report, Stop> {
        let place = Place::new(&self.host, self.port, self.management_port, self.tls, &self.vhost);
        let secrets = match &self.secrets_dir {
            Some(dir) => Some(Secrets::at(dir, self.mode, &place)?),
            None => None,
        };
        let notes = secrets.as_ref().map(Secrets::notes).unwrap_or_default();
        let dir = self.secrets_dir.as_deref();
        let out = match (self.form, &secrets) {
            (Form::Table, _) => users_text(),
            (Form::Rabbitmqctl, _) => render::script(&self.vhost, dir),
            (Form::Kubernetes, _) => render::kubernetes(&self.vhost, &self.cluster, dir),
            (Form::Definitions, Some(secrets)) => render::definitions(&self.vhost, secrets),
            (Form::Definitions, None) => {
                let text = "definitions hold the hashes of passwords: add --secrets-dir DIR, where they are kept or made";
                return Err(Stop::usage(text));
            }
        };
        match &self.out {
            None => Ok(Report::done(out).with_notes(notes)),
            Some(file) => {
                replace(file, &out, self.mode)?;
                Ok(Report::done(String::new()).with_notes(notes))
            }
        }
    }
}

/// Puts a file in its place whole, so that whoever reads it meets the old one or the new one.
fn replace(file: &Path, text: &str, mode: u32) -> Result<(), Stop> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut temporary =
            tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        Ok(())
    };
    write().map_err(|error| Stop::failed(format!("{} can't be written: {error}", file.display())))
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & 0o400 != 0 && mode & !0o770 == 0 => Ok(mode),
        _ => Err(
            "permissions in octal with which the owner may read and others may nothing, such as 600 or 640"
                .to_owned(),
        ),
    }
}

fn host(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("a host name or an IPv4 address, without scheme and port".to_owned())
}

/// No character that would end a quoted word of a shell or a line of YAML.
fn vhost(text: &str) -> Result<String, String> {
    let good = |c: char| !c.is_control() && !matches!(c, '\'' | '"' | '\\' | '`' | '$');
    if !text.is_empty() && text.len() <= 255 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("the name of a virtual host, without quotes, backslashes, $ and control characters".to_owned())
}

fn cluster(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 63 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("the name of a RabbitmqCluster object: a to z, 0 to 9 and -".to_owned())
}
