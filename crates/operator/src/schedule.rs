//! A scheme's schedule as people see it: what is cut, and telling whoever cuts what to do.

use std::{collections::BTreeMap, time::Duration};

use kingpost_broker::{Inspector, Topology, instruct};
use kingpost_model::{Act, Agenda, Answer, Instruction};
use kingpost_scheme::{Scheme, WindowSpec};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    act::{Action, Actor, new_id},
    clock,
    ending::Stop,
    session::Session,
    terminal::plain,
};

/// How long an answer is waited for: an extractor that leads looks every second.
const ANSWER: Duration = Duration::from_secs(20);
/// Pause between two looks for it.
const LOOK: Duration = Duration::from_millis(500);

/// The scheme that is meant: the one of that name, or the only one.
pub(crate) fn scheme(session: &Session, name: Option<&str>) -> Result<Scheme, Stop> {
    let mut schemes = session.schemes()?;
    let names: Vec<String> = schemes.iter().map(|scheme| scheme.name.clone()).collect();
    let names = names.join(", ");
    match name {
        Some(name) => schemes
            .into_iter()
            .find(|scheme| scheme.name == name)
            .ok_or_else(|| Stop::usage(format!("--scheme: there is no scheme `{name}`; there are: {names}"))),
        None if schemes.len() == 1 => Ok(schemes.remove(0)),
        None => Err(Stop::usage(format!("say which scheme with --scheme: {names}"))),
    }
}

/// Those that are meant: the one of that name, or all.
pub(crate) fn schemes(session: &Session, name: Option<&str>) -> Result<Vec<Scheme>, Stop> {
    match name {
        Some(_) => scheme(session, name).map(|scheme| vec![scheme]),
        None => session.schemes(),
    }
}

/// Lengths of a scheme's windows in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) start_s: i64,
    pub(crate) width_s: i64,
    pub(crate) lag_s: i64,
}

impl Cut {
    pub(crate) fn of(window: &WindowSpec) -> Self {
        let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        Cut {
            start_s: window.start.as_second(),
            width_s: seconds(window.width).max(1),
            lag_s: seconds(window.lag),
        }
    }
}

/// What a scheme's cursor queue holds.
#[derive(Clone, Debug)]
pub(crate) enum Looked {
    /// Nothing: no extractor has led yet.
    Nothing,
    /// An agenda.
    Agenda(Box<Agenda>),
    /// Something that this release can't read.
    Unreadable(Unreadable),
}

/// A cursor that can't be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    /// Why, by whom it was written, and what to do.
    pub(crate) why: String,
    /// Where it stands, if that much can be told.
    pub(crate) cursor_s: Option<i64>,
}

impl Looked {
    fn of(scheme: &str, seen: Option<(&[u8], Option<&str>)>) -> Self {
        let Some((body, writer)) = seen else { return Looked::Nothing };
        match Agenda::read(scheme, body) {
            Ok(agenda) => Looked::Agenda(Box::new(agenda)),
            Err(why) => {
                let writer = writer.unwrap_or("nobody who says so");
                let why = format!(
                    "{why}; it was written by {writer}, this is kingpost/{}",
                    env!("CARGO_PKG_VERSION")
                );
                Looked::Unreadable(Unreadable { why: plain(&why), cursor_s: Agenda::glimpse(scheme, body) })
            }
        }
    }

    /// The agenda, if it can be read.
    pub(crate) fn agenda(&self) -> Option<&Agenda> {
        match self {
            Looked::Agenda(agenda) => Some(agenda),
            Looked::Nothing | Looked::Unreadable(_) => None,
        }
    }

    /// Why there is none although there is a cursor.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Looked::Unreadable(unreadable) => Some(&unreadable.why),
            Looked::Nothing | Looked::Agenda(_) => None,
        }
    }
}

/// What a scheme's cursor queue holds, also where it can't be read.
pub(crate) async fn look(inspector: &Inspector, scheme: &str) -> Result<Looked, Stop> {
    let seen = inspector.peek_signed(&Topology::cursor_queue(scheme)).await?;
    Ok(Looked::of(scheme, seen.as_ref().map(|(body, writer)| (&**body, writer.as_deref()))))
}

/// What a scheme's cursor queue says; nothing before an extractor has led.
pub(crate) async fn agenda(inspector: &Inspector, scheme: &str) -> Result<Option<Agenda>, Stop> {
    match look(inspector, scheme).await? {
        Looked::Nothing => Ok(None),
        Looked::Agenda(agenda) => Ok(Some(*agenda)),
        Looked::Unreadable(unreadable) => Err(Stop::failed(unreadable.why)),
    }
}

/// A point in time that an option gives, in whole seconds.
pub(crate) fn point_s(option: &str, text: &str, now_ms: i64) -> Result<i64, Stop> {
    let ms = clock::point(text, now_ms).map_err(|text| Stop::usage(format!("{option}: {text}")))?;
    Ok(ms.div_euclid(1_000))
}

/// Seconds as Beijing wall time.
pub(crate) fn beijing(second: i64) -> String {
    clock::beijing(second.saturating_mul(1_000))
}

/// A length in words.
pub(crate) fn length(seconds: i64) -> String {
    clock::age(seconds.saturating_mul(1_000))
}

/// What became of an instruction.
#[derive(Debug)]
pub(crate) enum Told {
    /// It is carried out.
    Done,
    /// It waits until an extractor leads.
    Waiting,
}

/// What is to be told, by whom and why.
pub(crate) struct Telling<'a> {
    pub(crate) command: &'a str,
    pub(crate) actor: &'a Actor,
    pub(crate) reason: &'a str,
    pub(crate) act: Act,
}

/// Tells a scheme's scheduler what to do, with a line in the audit trail, and waits for the answer. Gives the name of the
/// instruction, what became of it, and a note for standard error.
pub(crate) async fn tell(
    session: &Session,
    scheme: &str,
    telling: Telling<'_>,
) -> Result<(String, Told, String), Stop> {
    let settings = session.settings()?;
    let (broker, journal) = (session.broker(&settings), Session::journal(&settings));
    let Telling { command, actor, reason, act } = telling;
    if !matches!(act, Act::Move { from_s: None, .. }) {
        carried_out_at_all(session, scheme).await?;
    }
    let id = new_id(session.now_ms, command);
    let at_s = Some(session.now_ms.div_euclid(1_000));
    let instruction = Instruction { id: id.clone(), by: actor.name(), at_s, reason: reason.to_owned(), act };
    let action = Action::begin((&broker, journal), actor, command, |event| {
        event.reason = reason.to_owned();
        event.queues = vec![Topology::instructions_queue(scheme)];
        event.details = json!({"scheme": scheme, "instruction": instruction});
    })
    .await?;
    let ended = |word: &str| BTreeMap::from([(word.to_owned(), 1_u64)]);
    match instruct(&broker, scheme, &instruction).await {
        Ok(true) => {}
        Ok(false) => {
            let notes = action.end(ended("not sent")).await;
            return Err(Stop::failed(format!(
                "{notes}there is no queue {}: no extractor of this release has started yet and `kingpost topology apply` \
                 was not run, or AMQP_URL names another virtual host",
                Topology::instructions_queue(scheme)
            )));
        }
        Err(error) => {
            let notes = action.end(ended("unconfirmed")).await;
            let stop = Stop::from(error);
            let text =
                format!("{notes}{}\nit may have arrived all the same; look before you repeat it", stop.text);
            return Err(Stop { text, ..stop });
        }
    }
    let answer = answered(session, scheme, &id).await;
    let word = match &answer {
        Ok(Some(Answer { refused: None, .. })) => "carried out",
        Ok(Some(_)) => "refused",
        Ok(None) => "waiting",
        Err(_) => "sent",
    };
    let notes = action.end(ended(word)).await;
    let sent = |stop: Stop| {
        let text = format!(
            "{notes}{}\nthe instruction {id} was sent all the same and is carried out once; don't repeat it, look at \
             `kingpost cursor show` and `kingpost backfill list`",
            stop.text
        );
        Stop { text, ..stop }
    };
    match answer.map_err(sent)? {
        Some(Answer { refused: Some(why), .. }) => Err(Stop::failed(format!("{notes}refused: {why}"))),
        Some(_) => Ok((id, Told::Done, notes)),
        None => Ok((id, Told::Waiting, notes)),
    }
}

/// Without a cursor that can be read nothing is carried out but that a new one is set; that one is unclear otherwise is no
/// reason not to ask.
async fn carried_out_at_all(session: &Session, scheme: &str) -> Result<(), Stop> {
    let inspector = session.inspector(session.settings()?).await?;
    let looked = look(&inspector, scheme).await;
    inspector.close().await;
    match looked {
        Ok(Looked::Unreadable(unreadable)) => {
            Err(Stop::failed(format!("{}; nothing was asked", unreadable.why)))
        }
        _ => Ok(()),
    }
}

async fn answered(session: &Session, scheme: &str, id: &str) -> Result<Option<Answer>, Stop> {
    let inspector = session.inspector(session.settings()?).await?;
    let until = Instant::now() + ANSWER;
    let answer = loop {
        // A reader beside us, or a leader that is just changing, is no reason to give up.
        let agenda = agenda(&inspector, scheme).await;
        match agenda {
            Ok(Some(agenda)) if agenda.answer(id).is_some() => break Ok(agenda.answer(id).cloned()),
            Ok(_) | Err(_) if Instant::now() < until => tokio::time::sleep(LOOK).await,
            Ok(_) => break Ok(None),
            Err(stop) => break Err(stop),
        }
    };
    inspector.close().await;
    answer
}

/// What to say of an instruction that nobody has carried out yet.
pub(crate) const NOBODY: &str = "nobody has answered within 20 s: no extractor of this release cuts the windows of the scheme at present; it is carried \
     out as soon as one does\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_can_not_be_read_tells_by_whom_it_was_written_and_what_to_do() {
        let body = br#"{"scheme":"s","cursor":"2026-01-01T00:00:00+08:00","periods":"none"}"#;
        let looked = Looked::of("s", Some((body, Some("kingpost-extractor/9.0.0"))));
        let why = looked.why().unwrap();
        for part in ["kingpost-extractor/9.0.0", "this is kingpost/", "kingpost cursor set --scheme s --to"] {
            assert!(why.contains(part), "{why}");
        }
        assert!(matches!(&looked, Looked::Unreadable(Unreadable { cursor_s: Some(1_767_196_800), .. })));
        assert!(looked.agenda().is_none());
    }
}
