//! Plans as files: what is to be done is frozen, can be read by a person, and is refused when it was changed.

use std::{fs::File, io::Write as _, mem::take, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::ending::Stop;

/// A plan with a list of entries, which is its last member.
pub(crate) trait Sealed: Clone + Serialize + DeserializeOwned {
    type Entry: Serialize;
    /// The layout of the file; another one is refused.
    const VERSION: u32;
    /// What the file is to be.
    const WHAT: &'static str;

    fn version(&self) -> u32;
    /// SHA-256 over the whole plan, with nothing in the place of this.
    fn digest(&mut self) -> &mut String;
    fn entries(&mut self) -> &mut Vec<Self::Entry>;

    /// What is wrong with a plan that nobody has changed.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Puts the digest of what the plan is now into it. It guards against changes by mistake: whoever wants to change a plan
    /// can make a new digest too; the one in the audit trail tells what was carried out.
    fn seal(&mut self) -> Result<(), Stop> {
        self.digest().clear();
        let bytes = serde_json::to_vec(self).map_err(|error| Stop::bug(error.to_string()))?;
        *self.digest() = hex::encode(Sha256::digest(bytes));
        Ok(())
    }

    /// The file: one member per line, and one entry per line.
    fn to_text(&self) -> Result<String, Stop> {
        let bug = |error: serde_json::Error| Stop::bug(error.to_string());
        let mut head = self.clone();
        let entries = take(head.entries());
        let head = serde_json::to_string_pretty(&head).map_err(bug)?;
        let Some(head) = head.strip_suffix("[]\n}") else {
            return Err(Stop::bug("a plan doesn't end with its entries"));
        };
        let lines = entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(bug)?;
        Ok(format!("{head}[\n    {}\n  ]\n}}\n", lines.join(",\n    ")))
    }

    /// Seals the plan and writes a file that must not be there yet.
    ///
    /// # Errors
    /// The file is there already, or can't be written.
    fn write(&mut self, path: &Path) -> Result<(), Stop> {
        self.seal()?;
        let text = self.to_text()?;
        let write = || -> std::io::Result<()> {
            let mut file = File::create_new(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| {
            Stop::failed(format!("the plan can't be written to {}: {error}", path.display()))
        })
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// It can't be read, or is no plan as it was made.
    fn read(path: &Path) -> Result<Self, Stop> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Stop::failed(format!("the plan {shown} can't be read: {error}")))?;
        Self::parse(&text).map_err(|text| {
            let what = Self::WHAT;
            Stop::failed(format!(
                "{shown} is not a {what} that this release can carry out: {text}; make a new one"
            ))
        })
    }

    /// Reads its text; an error says what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        let mut plan: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if plan.version() != Self::VERSION {
            return Err(format!("its version is {}, not {}", plan.version(), Self::VERSION));
        }
        let written = plan.digest().clone();
        plan.seal().map_err(|stop| stop.text)?;
        if *plan.digest() != written {
            return Err("it was changed since it was made (the digest differs)".to_owned());
        }
        plan.check()?;
        Ok(plan)
    }
}
