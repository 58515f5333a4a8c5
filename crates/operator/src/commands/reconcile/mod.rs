mod args;
mod export;
mod page;
mod record;
mod textfile;

use std::{io::IsTerminal as _, sync::Arc};

use kingpost_broker::{BrokerConfig, ConnectError, Topology, tell_result};
use kingpost_connectors::{NoCalls, Pace, Patience, books, source, widest_window};
use kingpost_model::Reconciled;
use kingpost_scheme::Scheme;
use kingpost_settings::{Exit, operator};

pub(crate) use args::Reconcile;

use crate::{
    act,
    ending::{Report, Stop},
    reconcile::{
        Ended, Finding, Progress, RUN_BYTES, Request, Rules, Scope, Systems,
        repair::{Order, Plan, Repaired, carry_out},
        run, second_of,
    },
    sealed::Sealed as _,
    session::Session,
    terminal::{ask, counted, plain},
};

impl Reconcile {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        match &self.plan {
            Some(file) => {
                let plan = Plan::read(file)?;
                let (scheme, systems, broker) = self.systems(session, &plan.scheme, true)?;
                let reason = self.said_why()?;
                let broker = broker.ok_or_else(|| Stop::bug("no broker"))?;
                if plan.broker != broker.place()? {
                    let text = format!(
                        "the plan is for RabbitMQ at {}, and AMQP_URL names {}",
                        plan.broker,
                        broker.place()?
                    );
                    return Err(Stop::failed(text));
                }
                if !self.yes {
                    let question = format!(
                        "Send {} of {}? [y/N] ",
                        counted(plan.documents.len(), "document"),
                        plan.scheme
                    );
                    confirmed(&question)?;
                }
                let repaired = self.repair(&plan, (&scheme, &systems, &broker), reason).await?;
                let exit = if repaired.left.is_empty() { Exit::Done } else { Exit::Failed };
                Ok(Report { out: page::repaired(&repaired), notes: plain(&repaired.trail), exit })
            }
            None => self.compare(session).await,
        }
    }

    async fn compare(&self, session: &Session) -> Result<Report, Stop> {
        let name = self.scheme.as_deref().unwrap_or_default();
        let days = self.days(session.now_ms)?;
        if self.yes && self.repair.is_some() {
            self.said_why()?;
        }
        export::check(self.out.as_deref())?;
        let (scheme, systems, broker) = self.systems(session, name, !self.without_queues)?;
        let request = Request {
            rules: Rules { days, finish: scheme.target.finish },
            by: self.by,
            late: self.late,
            scope: match (self.all_numbers, self.only_prefix.is_empty()) {
                (true, _) => Scope::All,
                (false, false) => Scope::Only(self.only_prefix.clone()),
                (false, true) => Scope::Learned,
            },
            ask: self.ask,
            most: self.most,
            details: self.json || self.out.is_some(),
            now_ms: session.now_ms,
            run_bytes: RUN_BYTES,
            scheme,
        };
        let progress = Progress::new();
        let mut ended = run(&request, &systems, &progress).await;
        progress.end();
        let ended = ended.as_mut().map_err(|stop| stop.clone())?;
        let told = page::Told { request: &request, ended, width: session.width, limit: self.limit };
        let (page, mut notes) = (told.page(), told.notes());
        let result = result(&request, ended);
        if let Some(broker) = &broker {
            notes.push_str(&tell(broker, &result).await);
        }
        if let Some(file) = &self.metrics_file {
            textfile::write(file, &result)?;
        }
        if let Some(details) = ended.details.take() {
            export::write(self.out.as_deref(), self.json, &request, ended, details)?;
        }
        let mut exit = if ended.totals.agrees() { Exit::Done } else { Exit::Failed };
        let mut out = if self.json { String::new() } else { page };
        if let Some(file) = &self.repair {
            let entries = Plan::entries(&ended.verdicts);
            match broker {
                _ if entries.is_empty() => {
                    notes.push_str("note: nothing is missing, so that no plan was made\n")
                }
                Some(broker) => {
                    let repaired = self.plan_repair(file, entries, (&request, &systems, &broker)).await?;
                    if let Some(repaired) = repaired {
                        notes.push_str(&plain(&repaired.trail));
                        out.push_str(&page::repaired(&repaired));
                        if !repaired.left.is_empty() {
                            exit = Exit::Failed;
                        }
                    } else {
                        notes.push_str(&format!(
                            "the plan is in {}; to carry it out:\n  kingpost reconcile --plan {} --reason '…'\n",
                            file.display(),
                            file.display()
                        ));
                    }
                }
                None => return Err(Stop::usage("--repair needs the queues; leave --without-queues away")),
            }
        }
        Ok(Report { out, notes, exit })
    }

    /// Writes the plan, and carries it out where that was asked for or is agreed to.
    async fn plan_repair(
        &self,
        file: &std::path::Path,
        entries: Vec<crate::reconcile::repair::Entry>,
        (request, systems, broker): (&Request, &Systems, &BrokerConfig),
    ) -> Result<Option<Repaired>, Stop> {
        let name = &request.scheme.name;
        let id = act::new_id(act::now_ms(), name);
        let days = [request.rules.days.from.to_string(), request.rules.days.to.to_string()];
        let mut plan = Plan::new(id, &self.actor, name, days, broker.place()?);
        plan.documents = entries;
        plan.write(file)?;
        if !self.yes {
            return Ok(None);
        }
        let reason = self.said_why()?;
        self.repair(&plan, (&request.scheme, systems, broker), reason).await.map(Some)
    }

    async fn repair(
        &self,
        plan: &Plan,
        (scheme, systems, broker): (&Scheme, &Systems, &BrokerConfig),
        reason: &str,
    ) -> Result<Repaired, Stop> {
        let progress = Progress::new();
        let order = Order { plan, scheme, systems, broker, actor: &self.actor, reason };
        carry_out(&order, &progress).await
    }

    fn said_why(&self) -> Result<&str, Stop> {
        let reason = self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        reason.ok_or_else(|| Stop::usage("say why with --reason; it is kept in the audit trail"))
    }

    /// The scheme of a name, and both systems and the broker with their settings; connects to nothing yet.
    fn systems(
        &self,
        session: &Session,
        name: &str,
        queues: bool,
    ) -> Result<(Scheme, Systems, Option<BrokerConfig>), Stop> {
        let schemes = session.schemes()?;
        let names: Vec<&str> = schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        let Some(scheme) = schemes.iter().find(|scheme| scheme.name == name).cloned() else {
            let text = format!("no scheme is called `{name}`; there are: {}", names.join(", "));
            return Err(Stop::usage(text));
        };
        let account = scheme.account.clone();
        let settings = operator(&session.environment, &[account.as_deref()]);
        let settings = settings.map_err(|problems| Stop::settings(&problems))?;
        let (Some(wdt), Some(kingdee)) = (settings.wdt.get(&account), settings.kingdee.get(&account)) else {
            return Err(Stop::bug("an account without settings"));
        };
        let opened = kingpost_settings::both(
            source(&scheme, wdt, Arc::new(NoCalls)),
            books(&scheme, kingdee, Arc::new(NoCalls)),
        );
        let (source, books) = opened.map_err(|problems| Stop::settings(&problems))?;
        let broker = queues.then(|| session.broker(&settings.common));
        let systems = Systems {
            source,
            widest: widest_window(&scheme),
            books: Box::new(books),
            broker: broker.clone(),
            journal: Session::journal(&settings.common),
            patience: Patience::default(),
            pace: Pace::per_minute(self.rate),
        };
        Ok((scheme, systems, broker))
    }
}

/// The result in few words, for metrics.
fn result(request: &Request, ended: &Ended) -> Reconciled {
    let days = request.rules.days;
    Reconciled {
        scheme: request.scheme.name.clone(),
        from_s: second_of(days.from),
        to_s: second_of(days.to),
        finished_s: act::now_ms().div_euclid(1_000),
        agrees: agrees(ended),
        documents: counts(ended).map(|(finding, count)| (finding.as_str().to_owned(), count)).collect(),
    }
}

/// Tells the result to the extractor that leads. Both books were compared all the same where that fails, so it is a note.
async fn tell(broker: &BrokerConfig, result: &Reconciled) -> String {
    let queue = Topology::reconcile_queue(&result.scheme);
    let (why, remedy) = match tell_result(broker, result).await {
        Ok(true) => return String::new(),
        Ok(false) => (
            format!("there is no queue {queue}"),
            "start an extractor of this release, or run `kingpost topology apply`",
        ),
        Err(error @ ConnectError::Refused(_)) => {
            (error.to_string(), "give the user of AMQP_URL write on the exchange kingpost.work")
        }
        Err(error) => (error.to_string(), "run it again once RabbitMQ answers"),
    };
    let why = plain(&why);
    format!(
        "note: the result was not told to the extractors, whose metrics keep the last one: {why}; {remedy}\n"
    )
}

/// Asks a person; without one there is no answer.
fn confirmed(question: &str) -> Result<(), Stop> {
    if !std::io::stdin().is_terminal() {
        return Err(Stop::usage("there is no terminal to ask at; add --yes to send the documents unasked"));
    }
    let answer = ask(question).unwrap_or_default().to_ascii_lowercase();
    if matches!(answer.as_str(), "y" | "yes") { Ok(()) } else { Err(Stop::failed("nothing was sent")) }
}

/// How a result ended, as programs read it.
fn agrees(ended: &Ended) -> bool {
    ended.totals.agrees()
}

/// How many numbers have a word, for every word.
fn counts(ended: &Ended) -> impl Iterator<Item = (Finding, u64)> + '_ {
    Finding::ALL.into_iter().map(|finding| (finding, ended.totals.count(finding)))
}
