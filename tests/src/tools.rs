//! The programs that check what is deployed, where `scripts/tools.sh` puts them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// A program such as `promtool`. An error says how to get it.
pub fn tool(name: &str) -> Result<PathBuf> {
    installed(&format!("bin/{name}"))
}

/// A validator of `tests/python/validators.txt`, or `python` with them.
pub fn validator(name: &str) -> Result<PathBuf> {
    installed(&format!("python/bin/{name}"))
}

fn installed(relative: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let path = cache.join("kingpost/tools").join(relative);
    ensure!(
        path.exists(),
        "{} is missing; scripts/tools.sh fetches it, and `make test` calls that",
        path.display()
    );
    Ok(path)
}

/// Runs a program in the root of the repository and returns what it printed to its standard output. One that fails is
/// an error with all that it said.
pub fn output<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Result<String> {
    let run = Command::new(program)
        .args(arguments)
        .current_dir(repository())
        .output()
        .with_context(|| format!("{} could not start", program.display()))?;
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        bail!("{} failed ({})\n{printed}{said}", program.display(), run.status);
    }
    Ok(printed)
}
