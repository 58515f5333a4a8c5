//! Dead letters in a file: one JSON object per line, from which each comes back byte for byte.
//!
//! A head says what the file is, a line per letter holds the message with its properties, and a foot holds the count and
//! a SHA-256 over everything before it, so that a file that was cut off or touched is told from a whole one.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use kingpost_broker::{AuditLetter, Letter};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::filter::cause_code;
use crate::{act::audited, clock, ending::Stop};

/// The member of the head that names the layout, and its version.
const LAYOUT: (&str, u64) = ("kingpost-dead-letters", 1);

/// A file that is being written.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    count: usize,
}

/// A whole file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) count: usize,
    /// SHA-256 over head and letters, as the foot has it.
    pub(super) sha256: String,
}

impl Writer {
    /// Begins a file that must not exist yet and that only its owner may read.
    pub(super) fn create(path: &Path, now_ms: i64, actor: &str, what: &str) -> Result<Self, Stop> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| cannot(path, &error))?;
        let mut writer =
            Writer { path: path.to_owned(), file: BufWriter::new(file), hash: Sha256::new(), count: 0 };
        let (layout, version) = LAYOUT;
        writer.line(&json!({
            layout: version,
            "exported": clock::rfc3339(now_ms),
            "by": actor,
            "what": what,
        }))?;
        Ok(writer)
    }

    /// Writes one letter.
    pub(super) fn add(&mut self, letter: &Letter) -> Result<(), Stop> {
        let (work, failure) = (&letter.work, &letter.failure);
        // For whoever reads or searches the file; what is read back is what follows.
        let mut object = json!({
            "scheme": work.scheme,
            "stage": work.stage.as_str(),
            "number": work.key.number,
            "kind": failure.kind,
            "code": cause_code(failure.kind, &failure.cause()),
            "text": failure.text,
        });
        if let (Some(object), Value::Object(message)) = (object.as_object_mut(), letter.to_json()) {
            object.extend(message);
        }
        self.count += 1;
        self.line(&object)
    }

    /// Writes the foot, and returns when the file is on disk for good.
    pub(super) fn finish(mut self) -> Result<Written, Stop> {
        let sha256 = hex::encode(self.hash.clone().finalize());
        self.line(&json!({"end": true, "count": self.count, "sha256": sha256}))?;
        let Writer { path, file, count, .. } = self;
        let synced = file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all());
        // The name of a new file is in its folder, which has to reach the disk as well.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let synced = synced.and_then(|()| File::open(folder.unwrap_or(Path::new(".")))?.sync_all());
        synced.map_err(|error| cannot(&path, &error))?;
        Ok(Written { path, count, sha256 })
    }

    fn line(&mut self, object: &Value) -> Result<(), Stop> {
        let mut line = serde_json::to_vec(object).map_err(|error| Stop::bug(error.to_string()))?;
        line.push(b'\n');
        self.hash.update(&line);
        self.file.write_all(&line).map_err(|error| cannot(&self.path, &error))
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Stop {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Stop::failed(format!("{shown} is there already and is not overwritten; give another name"))
        }
        _ => Stop::failed(format!("{shown} can't be written: {error}")),
    }
}

/// What a file holds, every hash of it checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// SHA-256 of the foot.
    pub(super) sha256: String,
    /// Every letter, in the order of the file.
    pub(super) letters: Vec<Line>,
}

/// One letter of a file, without its body.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: String,
    pub(super) named: AuditLetter,
    /// Over all of it: see [`Letter::fingerprint`].
    pub(super) fingerprint: String,
}

/// Reads a file to its end and checks all of it.
pub(super) fn check(path: &Path) -> Result<Checked, Stop> {
    let mut reader = Reader::open(path)?;
    let mut letters = Vec::new();
    while let Some(letter) = reader.next()? {
        letters.push(Line {
            queue: letter.queue.clone(),
            named: audited(&letter),
            fingerprint: letter.fingerprint(),
        });
    }
    Ok(Checked { sha256: reader.sha256(), letters })
}

/// A file that is being read, letter by letter. That it is whole is known only when the last one was asked for.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Over every line but the foot.
    hash: Sha256,
    count: u64,
    /// The line that was read last, from 1.
    at: usize,
    ended: bool,
}

impl Reader {
    /// Opens a file and reads its head.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let file = File::open(path)
            .map_err(|error| Stop::failed(format!("{} can't be read: {error}", path.display())))?;
        let file = BufReader::new(file);
        let mut reader =
            Reader { path: path.to_owned(), file, hash: Sha256::new(), count: 0, at: 0, ended: false };
        let line = reader.line()?;
        let head = reader.object(&line)?;
        let (layout, version) = LAYOUT;
        if head.get(layout).and_then(Value::as_u64) != Some(version) {
            return Err(reader.wrong("the file is no export of dead letters that this release can read"));
        }
        reader.hash.update(&line);
        Ok(reader)
    }

    /// The next letter, its hash checked; nothing once the foot was found to be right and to be the end.
    pub(super) fn next(&mut self) -> Result<Option<Letter>, Stop> {
        if self.ended {
            return Ok(None);
        }
        let line = self.line()?;
        let object = self.object(&line)?;
        if object.get("end").is_some() {
            self.foot(&object)?;
            self.ended = true;
            return Ok(None);
        }
        self.hash.update(&line);
        self.count += 1;
        Letter::from_json(&object).map(Some).map_err(|error| self.wrong(&error.to_string()))
    }

    /// SHA-256 over what was read, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    fn foot(&mut self, object: &Value) -> Result<(), Stop> {
        if object.get("count").and_then(Value::as_u64) != Some(self.count) {
            let text = format!("the last line counts other letters than the {} above it", self.count);
            return Err(self.wrong(&text));
        }
        if object.get("sha256").and_then(Value::as_str) != Some(&*self.sha256()) {
            return Err(
                self.wrong("the file was changed: the SHA-256 of the last line is not that of the rest")
            );
        }
        match self.file.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.wrong("something follows the last line")),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Stop> {
        let mut line = Vec::new();
        self.at += 1;
        match self.file.read_until(b'\n', &mut line) {
            Ok(0) => Err(self.wrong("the file ends without its last line: it was cut off")),
            Ok(_) => Ok(line),
            Err(error) => Err(self.wrong(&error.to_string())),
        }
    }

    fn object(&self, line: &[u8]) -> Result<Value, Stop> {
        serde_json::from_slice(line).map_err(|error| self.wrong(&format!("no whole JSON object: {error}")))
    }

    fn wrong(&self, why: &str) -> Stop {
        Stop::failed(format!(
            "{}:{}: {why}; take a copy of the file that is whole",
            self.path.display(),
            self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureKind, StageName};

    use super::{super::show::tests::letter, *};

    fn sample(body: &[u8]) -> Letter {
        let mut letter =
            letter(StageName::Load, "RK1", Failure::new(FailureKind::Refused, "no"), 1_767_200_400_000);
        letter.work.body = body.to_vec().into();
        letter
    }

    fn export(path: &Path) -> Written {
        let mut writer = Writer::create(path, 1_767_200_400_000, "ops@demo", "all dead letters").unwrap();
        for body in [&b"{\"a\":1.00}"[..], b"\xff\x00", b""] {
            writer.add(&sample(body)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_comes_back_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        let written = export(&path);
        let mut bodies = Vec::new();
        let mut reader = Reader::open(&path).unwrap();
        while let Some(letter) = reader.next().unwrap() {
            assert_eq!(letter.work.key.number, "RK1");
            bodies.push(letter.work.body.to_vec());
        }
        assert_eq!(reader.sha256(), written.sha256);
        assert_eq!(bodies, [&b"{\"a\":1.00}"[..], b"\xff\x00", b""]);
        let checked = check(&path).unwrap();
        assert_eq!((checked.letters.len(), written.count), (3, 3));
        assert_eq!(checked.letters[0].queue, "load.purchase-stockin.dead");
    }

    #[test]
    fn only_its_owner_reads_a_file_and_none_is_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        export(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Err(stop) = Writer::create(&path, 0, "", "") else { panic!("it is there") };
        assert!(stop.text.contains("not overwritten"), "{}", stop.text);
    }

    #[test]
    fn a_file_that_was_cut_off_or_changed_is_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.ndjson");
        export(&path);
        let whole = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let cases = [
            (lines[..4].join("\n") + "\n", "cut off"),
            (whole[..whole.len() - 20].to_owned(), "no whole JSON object"),
            (whole.replace("1.00", "1.01"), "SHA-256"),
            (whole.replace("\"by\":\"ops@demo\"", "\"by\":\"else\""), "the file was changed"),
            ([lines[0], lines[1], lines[3], lines[4]].join("\n") + "\n", "counts other letters"),
            ([lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n") + "\n", "the file was changed"),
            (format!("{whole}{}\n", lines[1]), "something follows"),
            (whole.replace("kingpost-dead-letters\":1", "kingpost-dead-letters\":2"), "no export"),
            (String::new(), "cut off"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            let Err(stop) = check(&path) else { panic!("{expected}: it was taken") };
            assert!(stop.text.contains(expected), "{expected}: {}", stop.text);
        }
    }
}
