//! What the other systems have under a document's number now.

use kingpost_connectors::{Looker, looker};
use kingpost_model::{Fetched, JournalStep};
use kingpost_scheme::Scheme;
use kingpost_settings::{Problems, kingdee, wdt};

use super::{
    super::dead::source::Sources,
    story::{Asked, Findings},
};
use crate::session::Session;

/// Asks the target of each story's scheme.
pub(super) async fn target(session: &Session, schemes: &[Scheme], findings: &mut Findings) {
    for at in 0..findings.stories.len() {
        let Some(story) = findings.stories.get_mut(at) else { break };
        let Some(scheme) = schemes.iter().find(|scheme| scheme.name == story.scheme) else { continue };
        if story.is_window {
            continue;
        }
        let asked: Asked<_> = match opened(session, scheme) {
            Ok(looker) => looker.present(story.number_there()).await.map_err(|failure| {
                format!("Kingdee: asked for {} in vain: {failure}; try again", story.number_there())
            }),
            Err(problems) => Err(format!(
                "Kingdee: {}; give the KINGDEE_* settings that the loader has",
                variables(&problems)
            )),
        };
        story.present = Some(asked.clone());
        if let Err(why) = asked
            && !findings.unasked.contains(&why)
        {
            findings.unasked.push(why);
        }
    }
}

fn opened(session: &Session, scheme: &Scheme) -> Result<Looker, Problems> {
    looker(scheme, &kingdee(&session.environment, scheme.account.as_deref())?)
}

/// The variables that are wrong or missing, on one line.
fn variables(problems: &Problems) -> String {
    let names: Vec<&str> = problems.iter().map(|problem| problem.variable.as_str()).collect();
    format!("{} missing or wrong", names.join(", "))
}

/// Asks the source of each story's scheme.
pub(super) async fn source(session: &Session, schemes: &[Scheme], findings: &mut Findings) {
    for at in 0..findings.stories.len() {
        let Some(story) = findings.stories.get_mut(at) else { break };
        let Some(scheme) = schemes.iter().find(|scheme| scheme.name == story.scheme) else { continue };
        if story.is_window {
            continue;
        }
        let changed = story.events.iter().filter_map(|event| match event.step {
            JournalStep::Extracted { modified_ms, .. } | JournalStep::Pushed { modified_ms } => modified_ms,
            _ => None,
        });
        let since_ms = changed.min();
        let asked = look(session, scheme, &story.number, since_ms).await;
        let asked = asked.map_err(|why| format!("the source: {why}"));
        story.source = Some(asked.clone());
        if let Err(why) = asked
            && !findings.unasked.contains(&why)
        {
            findings.unasked.push(why);
        }
    }
}

async fn look(
    session: &Session,
    scheme: &Scheme,
    number: &str,
    since_ms: Option<i64>,
) -> Result<Fetched, String> {
    if let Err(problems) = wdt(&session.environment, scheme.account.as_deref()) {
        return Err(format!(
            "{}; give the WDT_* and QIMEN_* settings that the extractor has",
            variables(&problems)
        ));
    }
    let sources = Sources::open(session, [scheme.name.as_str()]);
    let sources = sources.map_err(|stop| stop.text.replace('\n', "; "))?;
    sources.look(&scheme.name, number, since_ms).await
}
