use clap::Args;
use kingpost_broker::{PartReport, PartState, Topology};
use kingpost_settings::Exit;
use serde_json::json;

use crate::{
    ending::{Report, Stop, both},
    session::Session,
    terminal,
};

const AFTER_HELP: &str = "\
For brokers on which the workers may not declare: run it as a user with configure permission before the workers start,
after an update, and after a scheme was added. Nothing that exists is changed, emptied or deleted.

--json prints one object per exchange, queue and binding and line. The exit code is 69 when something exists with other
arguments, or may not be declared.";

const DIFFERS: &str = "\
what differs can't be changed on a queue that exists: let it run empty, stop the workers,
delete it, and run this again; or give this installation a virtual host of its own";

const REFUSED: &str = "\
the user of AMQP_URL needs configure, write and read permission on all of these, as by
`rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'`";

/// Declare the queues and exchanges of the schemes, and say of each whether it was there
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Apply {
    /// Make nothing; say what would be made, and what differs
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object per exchange, queue or binding
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let (schemes, settings) = both(session.schemes(), session.settings())?;
        let topology =
            Topology::new(schemes.iter().map(|scheme| (scheme.name.as_str(), scheme.target.shards)));
        let broker = session.broker(&settings);
        let mut parts = topology.apply(&broker, self.dry_run).await?;
        let mut notes = remedies(&parts);
        let exit = exit(&parts, self.dry_run);
        if let Some(keep) = Session::journal(&settings) {
            // Nothing depends on it, so that whatever becomes of it is no failure.
            match keep.apply(&broker, self.dry_run).await {
                Ok(journal) => parts.extend(journal),
                Err(error) => notes.push_str(&format!(
                    "note: the journal is not there: {error}; `kingpost trace` knows less then, and all else works; \
                     JOURNAL=off says that none is wanted\n"
                )),
            }
        }
        let out = if self.json { lines(&parts) } else { table(&parts, self.dry_run, session.width) };
        Ok(Report { exit, ..Report::done(out).with_notes(notes) })
    }
}

fn exit(parts: &[PartReport], dry_run: bool) -> Exit {
    let wrong = parts.iter().any(|part| match part.state {
        PartState::Differs(_) | PartState::Refused(_) => true,
        PartState::Missing => !dry_run,
        PartState::Made | PartState::There | PartState::ThereUnseen => false,
    });
    if wrong { Exit::Refused } else { Exit::Done }
}

fn remedies(parts: &[PartReport]) -> String {
    let mut notes = String::new();
    if parts.iter().any(|part| matches!(part.state, PartState::Differs(_))) {
        notes.push_str(&format!("kingpost: {DIFFERS}\n"));
    }
    if parts.iter().any(|part| matches!(part.state, PartState::Refused(_))) {
        notes.push_str(&format!("kingpost: {REFUSED}\n"));
    }
    notes
}

/// One word for scripts, and what is to be known besides.
fn words(state: &PartState) -> (&'static str, String) {
    match state {
        PartState::Made => ("made", String::new()),
        PartState::There => ("there", String::new()),
        PartState::ThereUnseen => ("there", "arguments not compared: no right to configure it".to_owned()),
        PartState::Missing => ("missing", String::new()),
        PartState::Differs(difference) => ("differs", difference.to_string()),
        PartState::Refused(words) => ("refused", words.clone()),
    }
}

fn lines(parts: &[PartReport]) -> String {
    let object = |part: &PartReport| {
        let (state, detail) = words(&part.state);
        let mut object = json!({ "what": part.what, "name": part.name, "state": state });
        if let Some(fields) = object.as_object_mut() {
            if let PartState::Differs(difference) = &part.state {
                fields.insert("argument".into(), difference.argument.clone().into());
                fields.insert("declared".into(), difference.declared.clone().into());
                fields.insert("existing".into(), difference.existing.clone().into());
            } else if !detail.is_empty() {
                fields.insert("detail".into(), detail.into());
            }
        }
        format!("{object}\n")
    };
    parts.iter().map(object).collect()
}

fn table(parts: &[PartReport], dry_run: bool, width: u16) -> String {
    let mut table = terminal::table(width, false);
    table.set_header(["", "name", "result"]);
    let (mut made, mut there, mut bound) = (0, 0, 0);
    for part in parts {
        let (word, detail) = words(&part.state);
        match part.state {
            PartState::Made | PartState::ThereUnseen if part.what == "binding" => {
                bound += 1;
                continue;
            }
            // A binding can't be asked about, and is made without harm a second time.
            PartState::Missing if part.what == "binding" && dry_run => continue,
            PartState::Made => made += 1,
            PartState::There | PartState::ThereUnseen => there += 1,
            PartState::Missing if dry_run => made += 1,
            PartState::Missing | PartState::Differs(_) | PartState::Refused(_) => {}
        }
        let word = if dry_run && word == "missing" { "would be made" } else { word };
        let result = if detail.is_empty() { word.to_owned() } else { format!("{word}: {detail}") };
        table.add_row([part.what, part.name.as_str(), result.as_str()]);
    }
    let mut out = terminal::lines(&table);
    let summary = if dry_run {
        format!("\n{made} would be made, {there} are there; bindings can't be asked about\n")
    } else {
        format!("\n{made} made, {there} were there; {bound} bindings are there\n")
    };
    out.push_str(&summary);
    out
}

#[cfg(test)]
mod tests {
    use kingpost_broker::Difference;

    use super::*;

    fn part(what: &'static str, name: &str, state: PartState) -> PartReport {
        PartReport { what, name: name.to_owned(), state }
    }

    fn differing() -> PartReport {
        let difference = Difference {
            argument: "x-delivery-limit".into(),
            declared: "1000".into(),
            existing: "none".into(),
            words: "PRECONDITION_FAILED - inequivalent arg".into(),
        };
        part("queue", "load.s", PartState::Differs(difference))
    }

    fn sample() -> Vec<PartReport> {
        vec![
            part("exchange", "kingpost.work", PartState::There),
            part("queue", "transform.s", PartState::Made),
            part("binding", "transform.s <- kingpost.work (transform.s)", PartState::Made),
        ]
    }

    #[test]
    fn what_differs_is_spelled_out_with_a_remedy_and_ends_with_69() {
        let mut parts = sample();
        assert_eq!((exit(&parts, false).code(), remedies(&parts)), (0, String::new()));
        parts.push(differing());
        assert_eq!(exit(&parts, false).code(), 69);
        assert!(remedies(&parts).contains("delete it"));
        let text = table(&parts, false, 100);
        for words in
            ["differs: `x-delivery-limit` is none there and 1000 here", "1 made, 1 were there; 1 bindings"]
        {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
        assert!(!text.contains("<-"), "a binding that is right is no news:\n{text}");
        let line = lines(&parts).lines().last().map(str::to_owned).unwrap_or_default();
        let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        assert_eq!((&object["state"], &object["existing"]), (&"differs".into(), &"none".into()));
    }

    #[test]
    fn what_a_dry_run_misses_is_no_failure_and_what_stays_missing_is() {
        let parts = vec![part("queue", "load.s", PartState::Missing)];
        assert_eq!((exit(&parts, true).code(), exit(&parts, false).code()), (0, 69));
        assert!(table(&parts, true, 100).contains("would be made"));
        let refused = vec![part("queue", "load.s", PartState::Refused("ACCESS_REFUSED".into()))];
        assert_eq!(exit(&refused, true).code(), 69);
        assert!(remedies(&refused).contains("set_permissions"));
    }
}
