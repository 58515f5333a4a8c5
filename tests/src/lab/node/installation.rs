//! Which RabbitMQ the lab runs: the system's own, one in a directory, or one in a root directory of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Names another RabbitMQ than the system's: an unpacked generic-unix archive, or a root that `scripts/rabbitmq.sh`
/// made.
const VARIABLE: &str = "KINGPOST_LAB_RABBITMQ";

/// Where packages put the server's own scripts; the wrapper in `/usr/sbin` insists on the `rabbitmq` user.
const INSTALLED_UNDER: [&str; 2] = ["usr/lib/rabbitmq/lib", "opt/rabbitmq"];

/// Where a node's directory appears in a root; every Debian has this directory, empty.
const SEEN_AT: &str = "/mnt";

/// Becomes the given program.
const PLAIN: &str = "exec \"$@\"\n";

/// Becomes the given program in a root, in a mount namespace that ends with it. The process id stays the same. Who is
/// not root needs a user namespace too. Temporary files of a test, such as certificates, are where they are outside.
const IN_ROOT: &str = r#"
[ "$(id -u)" -eq 0 ] || user='--user --map-root-user'
exec unshare $user --mount --propagation private /bin/sh -c '
    root=$1 dir=$2 temp=$3; shift 3
    mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --bind "$dir" "$root/mnt" || exit 1
    [ ! -d "$root$temp" ] || mount --bind "$temp" "$root$temp" || exit 1
    exec chroot "$root" /bin/sh -c "cd /mnt && exec \"\$@\"" sh "$@"
' sh "$ROOT" "$DIR" "$TEMP" "$@"
"#;

/// A RabbitMQ server on this machine.
#[derive(Clone, Debug, Deserialize, Hash, Serialize)]
pub(in crate::lab) struct Installation {
    /// The directory of the server's scripts, as the server sees it.
    sbin: PathBuf,
    /// The root it runs in, unless it is the machine's own.
    root: Option<PathBuf>,
}

impl Installation {
    /// The installation that the environment names, or the newest of the system.
    pub(in crate::lab) fn chosen() -> Result<Self> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::at(Path::new(&path)).with_context(|| format!("{VARIABLE} is set")),
            None => Ok(Self {
                sbin: newest_below(Path::new("/")).with_context(|| {
                    format!(
                        "no RabbitMQ server below /{}; run scripts/setup.sh to install one",
                        INSTALLED_UNDER.join(" or /")
                    )
                })?,
                root: None,
            }),
        }
    }

    fn at(path: &Path) -> Result<Self> {
        let path = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
        // A root first: its `sbin` has a `rabbitmq-server` too, which is the wrapper.
        if let Some(found) = newest_below(&path) {
            let inside = Path::new("/").join(found.strip_prefix(&path)?);
            return Ok(Self { sbin: inside, root: (path != Path::new("/")).then_some(path) });
        }
        let sbin = path.join("sbin");
        if !sbin.join("rabbitmq-server").is_file() {
            bail!("{} holds no RabbitMQ; scripts/rabbitmq.sh makes such a directory", path.display());
        }
        Ok(Self { sbin, root: None })
    }

    /// The path of one of the server's scripts, as it is given to the launcher.
    pub(super) fn script(&self, name: &str) -> PathBuf {
        self.sbin.join(name)
    }

    /// Where a node's directory is for the node itself.
    pub(super) fn sees(&self, dir: &Path) -> PathBuf {
        if self.root.is_some() { PathBuf::from(SEEN_AT) } else { dir.to_owned() }
    }

    /// The text of a shell script that becomes the program given to it, where the node can see it.
    pub(super) fn launcher(&self, dir: &Path) -> Result<String> {
        match &self.root {
            None => Ok(PLAIN.to_owned()),
            Some(root) => {
                let temp = std::env::temp_dir();
                let (root, dir, temp) = (quoted(root)?, quoted(dir)?, quoted(&temp)?);
                Ok(format!("ROOT={root} DIR={dir} TEMP={temp}\n{IN_ROOT}"))
            }
        }
    }
}

/// The scripts of the newest server in the places of packages below a root.
fn newest_below(root: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = INSTALLED_UNDER
        .iter()
        .filter_map(|base| std::fs::read_dir(root.join(base)).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .flat_map(|path| [path.join("sbin"), path])
        .filter(|path| path.ends_with("sbin") && path.join("rabbitmq-server").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}
