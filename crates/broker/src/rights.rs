//! The users of a least-privilege installation, and what each may do. The one table: the operator's command prints it, and
//! `docs/rabbitmq.md` shows it.

use kingpost_model::StageName;

/// A user of RabbitMQ with its permissions in Kingpost's virtual host. The patterns are anchored and hold for every scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRights {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Tags, which give access to the management API.
    pub tags: &'static [&'static str],
    /// What it may declare and delete.
    pub configure: &'static str,
    /// Exchanges it may publish to, queues it may bind.
    pub write: &'static str,
    /// Queues it may consume, exchanges it may bind to.
    pub read: &'static str,
}

/// Matches no name; queues and exchanges always have one.
const NOTHING: &str = "^$";
/// The pattern of who transforms or loads: on to the next stage, back after a while, or to the dead letters.
const SENDS: &str = r"^(journal|kingpost\.(work|dead|replies)|wait\..+)$";

/// Every user, a stage's first. A name of a scheme has no dot, so that `transform\.[a-z0-9-]+` leaves dead letters out.
pub const USERS: [UserRights; 6] = [
    UserRights {
        name: "kingpost-extractor",
        purpose: "cuts windows, reads them from the source, shares limits",
        tags: &[],
        configure: r"^(scheduler|prober|notices)\..+$",
        // Queues of other stages are only asked for their depth, for which any one permission will do.
        write: r"^(journal|kingpost\.(work|dead|replies|notices)|(wait|notices|extract|transform|load)\..+)$",
        read: r"^(kingpost\.notices|(extract|cursor|instructions|reconcile)\.[a-z0-9-]+|notices\..+)$",
    },
    UserRights {
        name: "kingpost-transformer",
        purpose: "maps documents",
        tags: &[],
        configure: NOTHING,
        write: SENDS,
        read: r"^transform\.[a-z0-9-]+$",
    },
    UserRights {
        name: "kingpost-loader",
        purpose: "posts documents to the target",
        tags: &[],
        configure: NOTHING,
        write: SENDS,
        read: r"^(load\.[a-z0-9-]+(\.[0-9]+)?|loaders\.[a-z0-9-]+)$",
    },
    UserRights {
        name: "kingpost-operator",
        purpose: "the `kingpost` command: reads and moves dead letters, keeps the audit trail",
        tags: &[],
        configure: r"^(journal|kingpost\.(audit|replies)|(replay|custody)\..+)$",
        write: r"^(journal|kingpost\.(work|dead|audit|replies|unroutable)|(wait|replay|extract|transform|load|instructions|reconcile)\..+)$",
        read: r"^(journal|kingpost\.(audit|replies)|(replay|cursor)\..+|.+\.dead)$",
    },
    UserRights {
        name: "kingpost-topology",
        purpose: "`kingpost topology apply`: declares queues and exchanges, reads and publishes nothing but what declaring needs",
        tags: &[],
        configure: r"^(journal|kingpost\.(work|dead|resume|replies|notices|unroutable)|(extract|transform|load|loaders|cursor|instructions|reconcile|wait)\..+)$",
        write: r"^(journal|kingpost\.(dead|resume|unroutable)|(extract|transform|load|cursor|instructions|reconcile|wait)\..+)$",
        read: r"^(journal|kingpost\.(work|dead|resume|unroutable)|(extract|transform|load)\.[a-z0-9-]+(\.[0-9]+)?|wait\..+)$",
    },
    UserRights {
        name: "kingpost-monitor",
        purpose: "the management API for KEDA, Prometheus and MANAGEMENT_URL: sees depths and policies, touches no message",
        tags: &["monitoring"],
        // With no row of permissions at all the API hides the virtual host.
        configure: NOTHING,
        write: NOTHING,
        read: NOTHING,
    },
];

impl UserRights {
    /// The user of a stage.
    pub const fn of(stage: StageName) -> &'static UserRights {
        match stage {
            StageName::Extract => &USERS[0],
            StageName::Transform => &USERS[1],
            StageName::Load => &USERS[2],
        }
    }

    /// The user of a name.
    pub fn named(name: &str) -> Option<&'static UserRights> {
        USERS.iter().find(|user| user.name == name)
    }
}

/// Every user with its rights, as text with one pattern a line, so that a pattern is never broken.
pub fn users_text() -> String {
    let mut text = String::new();
    for user in USERS {
        let tags = if user.tags.is_empty() { String::new() } else { format!(" [{}]", user.tags.join(", ")) };
        text.push_str(&format!("{}{tags}: {}\n", user.name, user.purpose));
        for (right, names) in [("configure", user.configure), ("write", user.write), ("read", user.read)] {
            text.push_str(&format!("  {right:<10} {names}\n"));
        }
    }
    text
}

/// The same for a page.
pub fn users_page() -> String {
    format!("```text\n{}```", users_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_user() {
        for (stage, name) in [
            (StageName::Extract, "kingpost-extractor"),
            (StageName::Transform, "kingpost-transformer"),
            (StageName::Load, "kingpost-loader"),
        ] {
            assert_eq!(UserRights::of(stage).name, name);
        }
    }

    #[test]
    fn every_pattern_is_anchored_at_both_ends() {
        let patterns = USERS.iter().flat_map(|user| [user.configure, user.write, user.read]);
        for pattern in patterns {
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern} matches parts of names");
            assert!(!pattern.contains('\''), "{pattern} can't stand between quotes");
        }
    }

    #[test]
    fn the_text_names_each_user_and_pattern_once() {
        let text = users_text();
        assert_eq!(text.lines().count(), USERS.len() * 4);
        assert!(text.contains("kingpost-monitor [monitoring]: "), "{text}");
    }
}
