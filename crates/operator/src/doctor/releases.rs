//! What a release of RabbitMQ implies. The rows are those of `docs/rabbitmq.md`.

use super::Judgement;

/// Judges the version that a broker names.
pub(super) fn judge(version: &str) -> Judgement {
    let mut numbers = version.split(['.', '-', '+', '~']).map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        let remedy = "look whether it is RabbitMQ that AMQP_URL leads to";
        return Judgement::warning(format!("the version `{version}` tells nothing"), remedy);
    };
    let patch = numbers.next().unwrap_or(0);
    let seen = |rest: &str| format!("RabbitMQ {version}: {rest}");
    let large = "messages of 16 MiB at most, and no body beyond 15 MiB is extracted";
    match (major, minor, patch) {
        (..=2, ..) | (3, ..=9, _) => Judgement::failed(
            seen("quorum queues lack what is used here"),
            "upgrade to 3.10 or later (docs/rabbitmq.md)",
        ),
        (3, ..) => Judgement::ok(seen("no delivery limit of its own; messages of 128 MiB at most")),
        (4, 2, 6) | (4, 3, 0) => Judgement::warning(
            seen("asking whether a queue is there wants configure permission in this release"),
            "take 4.2.7, 4.3.1 or later where workers may not declare",
        ),
        (4, minor, _) => {
            let mut text =
                format!("a delivery limit of 20 by default, which every queue of ours replaces; {large}");
            if minor >= 3 {
                text.push_str("; workers that may not declare are started after `kingpost topology apply`");
            }
            Judgement::ok(seen(&text))
        }
        _ => Judgement::warning(
            seen("newer than every release that was tried (3.10.8, 4.0.5, 4.3.6)"),
            "run the tests with it first (docs/rabbitmq.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn releases_are_judged_by_what_they_imply() {
        for (version, verdict, words) in [
            ("3.9.29", Verdict::Failed, "upgrade"),
            ("3.10.8", Verdict::Ok, "128 MiB"),
            ("4.0.5", Verdict::Ok, "16 MiB"),
            ("4.2.6", Verdict::Warning, "4.2.7"),
            ("4.3.0", Verdict::Warning, "4.3.1"),
            ("4.3.6", Verdict::Ok, "topology apply"),
            ("5.0.0-rc.1", Verdict::Warning, "newer"),
            ("unknown", Verdict::Warning, "AMQP_URL"),
        ] {
            let judgement = judge(version);
            assert_eq!(judgement.verdict, verdict, "{version}: {judgement:?}");
            assert!(format!("{} {}", judgement.seen, judgement.remedy).contains(words), "{judgement:?}");
        }
    }
}
