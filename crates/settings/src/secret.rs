//! Secrets, and the files they may be read from.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// More than any key, password or URL; a limit so that a wrong path can't fill the memory.
const FILE_BYTES: u64 = 64 * 1024;

/// Where a secret comes from. `Debug` shows the path of a file and never a value.
#[derive(Clone)]
pub enum SecretSource {
    /// The variable holds it.
    Value(SecretString),
    /// A file holds it, and may hold another one tomorrow.
    File(PathBuf),
}

impl SecretSource {
    /// The secret as it is now: a file is read again, so that a rotated secret is used from the next call on.
    ///
    /// # Errors
    /// A lowercase fragment that says what is wrong with the file: missing, unreadable, empty, not one line.
    pub fn current(&self) -> Result<SecretString, String> {
        match self {
            SecretSource::Value(secret) => Ok(secret.clone()),
            SecretSource::File(path) => read_value(path).map(SecretString::from),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::Value(_) => f.write_str("Value(***)"),
            SecretSource::File(path) => write!(f, "File({})", shown(path)),
        }
    }
}

/// The one line of text in a file, without surrounding blanks.
pub(crate) fn read_value(path: &Path) -> Result<String, String> {
    let shown = shown(path);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("the file {shown} can't be read ({})", reason(&error)))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!("the file {shown} holds more than {FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("the file {shown} isn't UTF-8 text"))?;
    // Editors on Windows put a byte order mark before the first character.
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.lines().count() {
        0 => Err(format!("the file {shown} is empty")),
        1 => Ok(text.to_owned()),
        lines => Err(format!("the file {shown} holds {lines} lines instead of one")),
    }
}

/// Checks that a path leads to certificates, so that a wrong one is told at the start and not at the first call.
pub(crate) fn check_certificates(path: &Path) -> Result<(), String> {
    let shown = shown(path);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(16 * FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| format!("the file {shown} can't be read ({})", reason(&error)))?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    if bytes.windows(marker.len()).any(|part| part == marker) {
        Ok(())
    } else {
        Err(format!("the file {shown} holds no certificate in PEM form"))
    }
}

/// The path, unless it doesn't look like one: a secret put into `NAME_FILE` by mistake must not be shown.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let looks_like_a_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    if looks_like_a_path && !text.contains("://") && !text.contains('@') {
        text.into_owned()
    } else {
        format!("(a relative path of {} characters, not shown)", text.chars().count())
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
