//! Passwords and URLs of the users, a file each, made once.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kingpost_broker::{USERS, UserRights};
use sha2::{Digest as _, Sha256};

use crate::{ending::Stop, management::encoded, terminal::counted};

/// Random bytes of a password; as hexadecimal digits they need no escaping anywhere.
const PASSWORD_BYTES: usize = 32;
/// A password or URL is far shorter; a limit so that a wrong path can't fill the memory.
const FILE_BYTES: u64 = 4_096;

/// Where RabbitMQ is, as it stands in a URL.
pub(super) struct Place {
    scheme: &'static str,
    host: String,
    port: u16,
    management_port: Option<u16>,
    vhost: String,
}

impl Place {
    pub(super) fn new(
        host: &str,
        port: Option<u16>,
        management_port: Option<u16>,
        tls: bool,
        vhost: &str,
    ) -> Self {
        let (scheme, usual) = if tls { ("amqps", 5671) } else { ("amqp", 5672) };
        let port = port.unwrap_or(usual);
        Place { scheme, host: host.to_owned(), port, management_port, vhost: encoded(vhost) }
    }

    fn url(&self, user: &str, password: &str) -> String {
        let Place { scheme, host, port, vhost, .. } = self;
        format!("{scheme}://{user}:{}@{host}:{port}/{vhost}", encoded(password))
    }

    /// What `MANAGEMENT_URL` takes.
    fn management_url(&self, user: &str, password: &str) -> String {
        let (scheme, usual) = if self.scheme == "amqps" { ("https", 15_671) } else { ("http", 15_672) };
        let port = self.management_port.unwrap_or(usual);
        format!("{scheme}://{user}:{}@{}:{port}", encoded(password), self.host)
    }
}

/// The passwords of all users, and what was done for them.
pub(super) struct Secrets {
    passwords: Vec<(&'static str, String)>,
    made: usize,
    there: usize,
    others: Vec<PathBuf>,
}

impl Secrets {
    /// Reads what is in a directory, and makes what is missing.
    ///
    /// # Errors
    /// A file that can't be read or made, or a URL whose password is missing.
    pub(super) fn at(dir: &Path, mode: u32, place: &Place) -> Result<Self, Stop> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Stop::failed(format!("{} can't be made: {error}", dir.display())));
            }
            _ => {}
        }
        let mut secrets = Secrets { passwords: Vec::new(), made: 0, there: 0, others: Vec::new() };
        for user in USERS {
            secrets.of(&user, dir, mode, place)?;
        }
        Ok(secrets)
    }

    fn of(&mut self, rights: &UserRights, dir: &Path, mode: u32, place: &Place) -> Result<(), Stop> {
        let user = rights.name;
        let (password_file, url_file) =
            (dir.join(format!("{user}.password")), dir.join(format!("{user}.amqp-url")));
        let (password, url) = (read(&password_file)?, read(&url_file)?);
        let password = match (password, &url) {
            (Some(password), _) => {
                self.there += 1;
                password
            }
            (None, Some(_)) => {
                let text = format!(
                    "{} is there and {} isn't: a new password wouldn't be the one of that URL\n\
                     remedy: put the password file back, or remove the URL's as well and give the user the new password",
                    url_file.display(),
                    password_file.display()
                );
                return Err(Stop::failed(text));
            }
            (None, None) => {
                let password = fresh()?;
                write(&password_file, &password, mode)?;
                self.made += 1;
                password
            }
        };
        self.url(url_file, url, &place.url(user, &password), mode)?;
        if !rights.tags.is_empty() {
            let file = dir.join(format!("{user}.management-url"));
            let url = read(&file)?;
            self.url(file, url, &place.management_url(user, &password), mode)?;
        }
        self.passwords.push((user, password));
        Ok(())
    }

    /// Makes the file of a URL where there is none.
    fn url(&mut self, file: PathBuf, held: Option<String>, wanted: &str, mode: u32) -> Result<(), Stop> {
        let Some(held) = held else {
            write(&file, wanted, mode)?;
            self.made += 1;
            return Ok(());
        };
        self.there += 1;
        if held != wanted {
            self.others.push(file);
        }
        Ok(())
    }

    /// What should be known of the files, without what is in them.
    pub(super) fn notes(&self) -> String {
        let mut notes = format!("{} made, {} were there\n", counted(self.made, "file"), self.there);
        for file in &self.others {
            notes.push_str(&format!(
                "note: {} holds another URL than --host, the ports, --tls, --vhost and the password would give; it is left as it is\n",
                file.display()
            ));
        }
        notes
    }

    /// The hash of a user's password as RabbitMQ keeps it: base64 of a salt of four bytes and SHA-256 over salt and
    /// password (<https://www.rabbitmq.com/docs/passwords>). The salt is made of user and password, so that the same
    /// password gives the same file again; that serves because passwords are random.
    pub(super) fn hash(&self, user: &str) -> Option<String> {
        let (name, password) = self.passwords.iter().find(|(name, _)| *name == user)?;
        let drawn = Sha256::digest(format!("kingpost definitions {name} {password}"));
        Some(hash(drawn.first_chunk()?, password))
    }
}

fn hash(salt: &[u8; 4], password: &str) -> String {
    let mut salted = salt.to_vec();
    salted.extend_from_slice(password.as_bytes());
    let mut bytes = salt.to_vec();
    bytes.extend_from_slice(&Sha256::digest(&salted));
    STANDARD.encode(bytes)
}

fn fresh() -> Result<String, Stop> {
    let mut bytes = [0; PASSWORD_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Stop::failed(format!("the system gives no random numbers: {error}")))?;
    Ok(hex::encode(bytes))
}

fn read(path: &Path) -> Result<Option<String>, Stop> {
    let wrong = |what: String| Stop::failed(format!("{} {what}", path.display()));
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("can't be read: {error}"))),
        Ok(file) => file
            .take(FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(format!("can't be read: {error}")))?,
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong("isn't UTF-8 text".to_owned()))?;
    let text = text.trim();
    if text.is_empty() || text.lines().count() > 1 || text.len() as u64 > FILE_BYTES {
        return Err(wrong(
            "doesn't hold one line of text\nremedy: mend it, or remove it to have a new one made".to_owned(),
        ));
    }
    Ok(Some(text.to_owned()))
}

/// Makes a file that isn't there, whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Stop> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = made.and_then(|mut file| {
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(path);
        }
        written
    });
    written.map_err(|error| Stop::failed(format!("{} can't be made: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_rabbitmq_documents_it() {
        // The example of https://www.rabbitmq.com/docs/passwords: salt 908DC60A, password test12.
        let hashed = hash(&[0x90, 0x8d, 0xc6, 0x0a], "test12");
        assert_eq!(hashed, "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
    }

    #[test]
    fn a_virtual_host_is_escaped_and_the_port_follows_the_scheme() {
        let place = Place::new("mq.example", None, None, true, "/");
        assert_eq!(place.url("kingpost-loader", "ab"), "amqps://kingpost-loader:ab@mq.example:5671/%2f");
        assert_eq!(place.management_url("u", "ab"), "https://u:ab@mq.example:15671");
        let place = Place::new("mq.example", Some(5), Some(6), false, "a b");
        assert_eq!(place.url("u", "p@"), "amqp://u:p%40@mq.example:5/a%20b");
        assert_eq!(place.management_url("u", "p@"), "http://u:p%40@mq.example:6");
    }
}
