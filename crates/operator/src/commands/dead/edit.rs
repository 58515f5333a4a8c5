use std::{
    collections::VecDeque,
    io::Write as _,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args, Parser};
use kingpost_broker::{Custody, Destination, Held, Letter, Posting};
use kingpost_model::{JournalStep, Route, StageName};
use kingpost_scheme::Scheme;
use serde_json::json;
use tempfile::TempDir;

use super::{
    filter::Filter,
    list::next,
    read::Places,
    replay::Replay,
    revision::{self, Change, Verdict},
};
use crate::{
    act::{Action, Actor, audited, now_ms},
    ending::{Report, Stop},
    session::Session,
    terminal::{self, counted, plain},
};

const AFTER_HELP: &str = "\
Examples:
  kingpost dead edit RK2407190003 --reason 'price agreed with the supplier'
  kingpost dead edit RK2407190003 --with corrected.json --reason 'ticket 4711'

Opens the document in $VISUAL or $EDITOR (vi if neither is set). It has to stay the same document: an order must keep its
number and be mapped by its scheme, a model must keep its number. The edited letter takes the place of the original in
the dead-letter queue under an id of its own; nothing is posted by this. Where several letters have the id and the body
of the original, all of them go. The original and what differs are kept in the
audit trail. In the source system the order stays as it is: correct it there, and the next window brings it again.";

/// The editor of every Unix.
const EDITOR: &str = "vi";
/// Bytes of an event of the audit trail; a message holds a little more.
const EVENT_BYTES: usize = 14 * 1024 * 1024;

/// Edit the document of one dead letter; the original and what differs are kept
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Edit {
    /// The document's number in the target or in the source, or the id of the message
    #[arg(value_name = "NUMBER")]
    number: String,
    /// Only this scheme
    #[arg(long, value_name = "NAME")]
    scheme: Option<String>,
    /// Only this stage
    #[arg(long, value_name = "STAGE", value_parser = crate::commands::stage())]
    stage: Option<StageName>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Take the edited document from this file instead of an editor
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Go on to send the edited letter
    #[arg(long)]
    replay: bool,
    /// Don't ask before the letter is replaced; nothing is asked with --with
    #[arg(long)]
    yes: bool,
    /// Print one JSON object of what was done
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    actor: Actor,
}

impl Edit {
    pub(super) async fn run(self, session: &Session) -> Result<Report, Stop> {
        if self.reason.trim().is_empty() {
            return Err(Stop::usage("--reason: say why, for whoever asks later"));
        }
        let (letter, places) = self.letter(session).await?;
        let scheme = scheme_of(session, &letter)?;
        let edited = match &self.with {
            Some(file) => from_file(file, &letter, &scheme)?,
            None => in_editor(session, &letter, &scheme)?,
        };
        let Some(Edited { body, changes, draft }) = edited else {
            let nothing = match self.json {
                true => "{\"edited\":null}\n",
                false => "nothing was changed, nothing was done\n",
            };
            return Ok(Report::done(nothing));
        };
        eprint!("{}", plain(&shown(&changes)));
        if self.with.is_none() && !self.yes {
            let answer = terminal::ask("put it in the place of the original? [y/N] ");
            if !answer.is_some_and(|answer| matches!(&*answer.to_lowercase(), "y" | "yes")) {
                return Err(Stop::failed(format!("nothing was replaced; {}", kept(draft))));
            }
        }
        match self.replace(&letter, &places, body, &changes).await {
            Ok(replaced) if self.replay => {
                eprintln!("{}", plain(&edited_text(&letter, &replaced.id)));
                eprint!("{}", plain(&replaced.notes()));
                Box::pin(self.replayed(&letter, &replaced.id)?.run(session)).await
            }
            Ok(replaced) if self.json => {
                let number = letter.work.key.number.as_str();
                let object =
                    json!({"edited": replaced.id, "number": number, "further_copies": replaced.twins});
                Ok(Report::done(format!("{object}\n")).with_notes(plain(&replaced.notes())))
            }
            Ok(replaced) => {
                let done = plain(&done(&letter, &replaced.id, session.width));
                Ok(Report::done(done).with_notes(plain(&replaced.notes())))
            }
            Err(stop) => Err(stop.hint(&kept(draft))),
        }
    }

    /// The command that sends the edited letter, as a person would type it.
    fn replayed(&self, letter: &Letter, id: &str) -> Result<Replay, Stop> {
        let (scheme, stage) = (&*letter.work.scheme, letter.work.stage.as_str());
        // With `=`, so that no reason is taken for an option.
        let [reason, actor] = [format!("--reason={}", self.reason), format!("--as={}", self.actor.name())];
        let mut line = vec!["replay", id, "--scheme", scheme, "--stage", stage, &*reason, &*actor, "--yes"];
        line.extend(self.json.then_some("--json"));
        Line::try_parse_from(line).map(|line| line.replay).map_err(|error| Stop::bug(error.to_string()))
    }

    /// The one letter that is meant.
    async fn letter(&self, session: &Session) -> Result<(Letter, Places), Stop> {
        let filter =
            Filter { scheme: self.scheme.clone(), stage: self.stage, ..Filter::of_key(&*self.number) };
        let places = Places::of(session, &filter)?;
        let mut found = Vec::new();
        let keep = |letter| {
            found.push(letter);
            ControlFlow::Continue(())
        };
        let reading = Box::pin(places.scan(&filter, session.now_ms, usize::MAX, keep)).await?;
        let notes = reading.notes()?;
        let alike = |letter: &Letter| {
            found.first().is_some_and(|first: &Letter| {
                first.queue == letter.queue && first.identity() == letter.identity()
            })
        };
        if !found.iter().all(alike) {
            let ids = found.iter().map(|letter| format!("\n  {} ({})", letter.work.id, letter.queue));
            let ids: std::collections::BTreeSet<String> = ids.collect();
            let text = format!("several letters have the number {}; give the id of one:", self.number);
            return Err(Stop::usage(text + &ids.into_iter().collect::<String>()));
        }
        match found.into_iter().next() {
            Some(letter) if letter.work.stage == StageName::Extract => {
                Err(Stop::failed("a window is not edited; replay it as it is"))
            }
            Some(letter) => Ok((letter, places)),
            None => {
                let looked = counted(reading.looked, "dead letter");
                Err(Stop::failed(format!("none of {looked} has the number {}\n{notes}", self.number)))
            }
        }
    }

    /// Publishes the edited letter and takes the original out, with every other of the same id and body, once the trail
    /// holds them all.
    async fn replace(
        &self,
        letter: &Letter,
        places: &Places,
        body: Vec<u8>,
        changes: &[Change],
    ) -> Result<Replaced, Stop> {
        let (stage, scheme) = (letter.work.stage, &*letter.work.scheme);
        let custody = Custody::take(&places.broker, stage, scheme).await?;
        let mut round = custody.round().await?;
        let mut twins = all_of(&mut round, letter).await?;
        let Some(held) = twins.pop_front() else {
            let text = "the letter is no longer in its queue: it was replayed, edited or discarded meanwhile";
            return Err(Stop::failed(text));
        };
        let details = details(&held.letter, &twins, changes, &body)?;
        let (letter, count) = (held.letter.clone(), 1 + twins.len());
        let action = Action::begin((&places.broker, places.journal), &self.actor, "dead edit", |event| {
            event.reason.clone_from(&self.reason);
            event.queues = vec![letter.queue.clone()];
            event.count = count as u64;
            event.letters = vec![audited(&letter); count];
            event.details = details;
        })
        .await?;
        let work = revision::work(&letter, body, action.id());
        let (id, edited) = (work.id.as_str().to_owned(), work.clone());
        let posting = Posting { destination: Destination::Dead(Route::new(stage, scheme)), work };
        let at_ms = now_ms();
        let moved = round.move_to(vec![(held, vec![posting.into()])]).await?;
        let refused = moved.into_iter().find_map(|moved| moved.refused);
        if refused.is_none() {
            action.scribe().write(&edited, JournalStep::Edited, at_ms);
            // The edited letter is confirmed; one of these that stayed would bring the old document again.
            round.remove(twins.into()).await?;
        }
        round.close().await?;
        let outcome = if refused.is_none() { "edited" } else { "refused by its queue" };
        let note = action.end([(outcome.to_owned(), count as u64)].into()).await;
        custody.release().await;
        match refused {
            None => Ok(Replaced { id, twins: count - 1, note }),
            Some(refusal) => Err(Stop::failed(format!("nothing was replaced: {refusal}\n{note}"))),
        }
    }
}

/// What came of an edit.
struct Replaced {
    /// The id of the edited letter.
    id: String,
    /// So many more letters had the id and the body of the original, and went with it.
    twins: usize,
    /// What is to be told of the audit trail.
    note: String,
}

impl Replaced {
    fn notes(&self) -> String {
        let twins = match self.twins {
            0 => String::new(),
            n => format!("note: {} of the same id and body went with it\n", counted(n, "further letter")),
        };
        twins + &self.note
    }
}

/// What the audit trail keeps: the original and those beside it whole, and what differs.
fn details(
    letter: &Letter,
    twins: &VecDeque<Held>,
    changes: &[Change],
    body: &[u8],
) -> Result<serde_json::Value, Stop> {
    let mut details = json!({
        "original": letter.to_json(),
        "changes": changes,
        "edited": String::from_utf8_lossy(body),
    });
    if let (Some(details), false) = (details.as_object_mut(), twins.is_empty()) {
        // Their body is that of the original.
        let twins = twins.iter().filter_map(|held| {
            let mut twin = held.letter.to_json();
            let members = twin.as_object_mut()?;
            members.remove("body");
            members.remove("body_base64");
            Some(twin)
        });
        details.insert("twins".to_owned(), twins.collect());
    }
    if details.to_string().len() > EVENT_BYTES {
        let text = "the document is too large for the audit trail to keep the original and the difference; \
                    correct the order in the source system";
        return Err(Stop::failed(text));
    }
    Ok(details)
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    replay: Replay,
}

/// Every letter of the same id and body.
async fn all_of(round: &mut kingpost_broker::Round<'_>, letter: &Letter) -> Result<VecDeque<Held>, Stop> {
    let wanted = letter.identity();
    let mut found = VecDeque::new();
    while let Some(held) = round.next().await? {
        if held.letter.identity() == wanted {
            found.push_back(held);
        }
    }
    Ok(found)
}

fn scheme_of(session: &Session, letter: &Letter) -> Result<Scheme, Stop> {
    let name = &letter.work.scheme;
    let found = session.schemes()?.into_iter().find(|scheme| scheme.name == *name);
    found.ok_or_else(|| {
        Stop::failed(format!("SCHEMES_DIR has no scheme `{name}`, by which an edited document is checked"))
    })
}

/// A document that may take the place of its original.
struct Edited {
    body: Vec<u8>,
    changes: Vec<Change>,
    /// Where its text is, as long as it isn't in the queue.
    draft: Option<TempDir>,
}

fn from_file(file: &Path, letter: &Letter, scheme: &Scheme) -> Result<Option<Edited>, Stop> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Stop::failed(format!("{shown} can't be read: {error}")))?;
    match revision::look(letter, scheme, &text) {
        Verdict::Unchanged => Ok(None),
        Verdict::Right { body, changes } => Ok(Some(Edited { body, changes, draft: None })),
        Verdict::Wrong(problems) => {
            Err(Stop::failed(format!("{shown} can't take the place of the original:{}", listed(&problems))))
        }
    }
}

/// Lets a person edit until the document is right, unchanged or given up; given up, its text is kept.
fn in_editor(session: &Session, letter: &Letter, scheme: &Scheme) -> Result<Option<Edited>, Stop> {
    let cannot = |error: std::io::Error| Stop::failed(format!("no draft can be kept: {error}"));
    let folder = tempfile::Builder::new().prefix("kingpost-edit-").tempdir().map_err(cannot)?;
    let stage = letter.work.stage;
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = letter.work.key.number.chars().take(80).map(safe).collect();
    let path = folder.path().join(format!("{name}.{stage}.json"));
    std::fs::write(&path, revision::draft(letter)).map_err(cannot)?;
    let editor = session.environment.editor().unwrap_or_else(|| EDITOR.to_owned());
    loop {
        if let Err(stop) = edit(&editor, &path) {
            return Err(stop.hint(&kept(Some(folder))));
        }
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return Err(cannot(error)),
        };
        match revision::look(letter, scheme, &text) {
            Verdict::Unchanged => return Ok(None),
            Verdict::Right { body, changes } => {
                return Ok(Some(Edited { body, changes, draft: Some(folder) }));
            }
            Verdict::Wrong(problems) => {
                let mut stderr = std::io::stderr();
                let _ =
                    writeln!(stderr, "it can't take the place of the original:{}", plain(&listed(&problems)));
                let answer = terminal::ask("edit again? [Y/n] ");
                if answer.is_none_or(|answer| matches!(&*answer.to_lowercase(), "n" | "no")) {
                    return Err(Stop::failed(format!("given up; {}", kept(Some(folder)))));
                }
            }
        }
    }
}

/// Runs the editor as a shell would: it may have arguments.
fn edit(editor: &str, path: &Path) -> Result<(), Stop> {
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        // What a shell says of a program that isn't there, or can't be run.
        Ok(status) if matches!(status.code(), Some(126 | 127)) => Err(Stop::failed(format!(
            "the editor `{editor}` can't be started; set EDITOR, or use --with FILE"
        ))),
        Ok(status) => Err(Stop::failed(format!("the editor `{editor}` ended with {status}"))),
        Err(error) => Err(Stop::failed(format!("the editor `{editor}` can't be started: {error}"))),
    }
}

/// Keeps a draft and says where; a file that was given is still there anyway.
fn kept(draft: Option<TempDir>) -> String {
    match draft {
        Some(folder) => format!("the edited text is kept in {}", folder.keep().display()),
        None => "the file is as it was".to_owned(),
    }
}

fn listed(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

fn shown(changes: &[Change]) -> String {
    let lines: String = changes.iter().map(Change::text).collect();
    format!("{}:\n{lines}", counted(changes.len(), "change"))
}

fn edited_text(letter: &Letter, id: &str) -> String {
    let Letter { queue, work, .. } = letter;
    format!("{} is edited: {id} lies in {queue} in the place of {}", work.key.number, work.id)
}

fn done(letter: &Letter, id: &str, width: u16) -> String {
    let commands = [
        (format!("kingpost dead show {}", super::show::shell(id)), "look at it once more"),
        (format!("kingpost dead replay {} --reason '…'", super::show::shell(id)), "send it"),
    ];
    format!("{}\n{}", edited_text(letter, id), next(&commands, width))
}

#[cfg(test)]
mod tests {
    use kingpost_model::{Failure, FailureKind};

    use super::{super::show::tests::letter, *};

    #[test]
    fn the_replay_of_an_edited_letter_is_a_right_command_line() {
        let edit = Edit {
            number: "RK1".into(),
            scheme: None,
            stage: None,
            reason: "--odd reason".into(),
            with: None,
            replay: true,
            json: false,
            yes: true,
            actor: Actor::default(),
        };
        let letter = letter(StageName::Load, "RK1", Failure::new(FailureKind::Refused, "no"), 1);
        assert!(edit.replayed(&letter, "s-RK1-edit-1").is_ok());
    }

    #[test]
    fn an_editor_may_have_arguments_and_its_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's a draft.json");
        std::fs::write(&path, "a\n").unwrap();
        edit("sed -i s/a/b/", &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n");
        assert!(edit("false", &path).unwrap_err().text.contains("`false` ended with"));
        let text = kept(Some(folder));
        let at = text.strip_prefix("the edited text is kept in ").unwrap();
        assert!(Path::new(at).is_dir(), "{text}");
        std::fs::remove_dir_all(at).unwrap();
    }
}
