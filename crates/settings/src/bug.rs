//! Deliberate bugs, one at a time, to show that the tests notice them. They exist only in a build with
//! `--cfg kingpost_bugs`, which no release build can have; `KINGPOST_BUG` names the one to commit.

#[cfg(not(debug_assertions))]
compile_error!(
    "deliberate bugs must never be in a release build: remove `--cfg kingpost_bugs` from RUSTFLAGS"
);

/// Every bug that can be committed, in the order of `tests/seeded-bugs.txt`.
pub const BUGS: &[&str] = &[
    "ack-before-confirm",
    "ignore-returned",
    "ignore-stale-session",
    "cursor-before-windows",
    "no-look-up-after-time-out",
    "no-settle-window",
    "any-document-will-do",
    "updates-with-any-version",
    "one-refusal-refuses-the-batch",
    "one-key-twice-in-flight",
    "forgets-doubt",
    "posts-without-lease",
    "retry-data-errors",
    "outage-kills",
    "no-drain",
    "replay-without-confirm",
];

/// Whether a bug is to be committed.
///
/// # Panics
/// When the bug is not in [`BUGS`], or `KINGPOST_BUG` names none of them.
pub fn bug(name: &str) -> bool {
    let wanted = std::env::var("KINGPOST_BUG").unwrap_or_default();
    assert!(BUGS.contains(&name), "unknown bug in the code: {name}");
    assert!(wanted.is_empty() || BUGS.contains(&wanted.as_str()), "unknown bug in KINGPOST_BUG: {wanted}");
    wanted == name
}
