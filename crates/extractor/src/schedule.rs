//! Cutting windows: one extractor leads, and the cursor moves only behind confirmed windows.

use std::time::Duration;

use kingpost_model::{
    Agenda, Answer, Comparisons, Instruction, Origin, Reconciled, Route, StageName, Window, Work,
};
use kingpost_worker::now_ms;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    agenda::{self, Paces, Remedy},
    cursor::{self, Cutting, Round},
    lead::{Election, Lead},
    window::window_work,
};

/// Windows that may wait in the queue before no more are cut; a year of history must not flood the broker.
const WAITING_MAX: u32 = 200;
/// Windows per move of the cursor.
const CUT_MAX: usize = 50;
/// Pause before another extractor asks for the lead again.
const STANDBY: Duration = Duration::from_secs(3);
/// How long a cursor that can't be read, or is wrong, is left alone; a person has to act first.
const STANDSTILL: Duration = Duration::from_secs(30);
/// Pause while enough windows are waiting.
const ENOUGH: Duration = Duration::from_secs(1);
/// Pause between two looks at what people ask for, and at whether the pipeline has room.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether both books were compared again.
const RESULTS: Duration = Duration::from_secs(10);
/// Windows that are cut at a time beside the live ones, however many extractors there are.
const PERIOD_WINDOWS_MAX: usize = 8;
/// Documents that may wait in the stages behind before nothing is cut beside the live windows: what loaders have in hand
/// within half a minute.
const BEHIND_MAX: u32 = 200;

/// When and how windows of a scheme are cut.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) scheme: String,
    pub(crate) cutting: Cutting,
    /// How often a window is cut that is not full.
    pub(crate) every: Duration,
    /// When a second look is due, and at what.
    pub(crate) remedy: Option<Remedy>,
    /// Over how many queues the scheme's loading is spread.
    pub(crate) shards: u32,
}

/// Told how far behind the cursor is, how much is to be cut beside it, and how the comparisons of both books ended.
pub(crate) trait CursorObserver: Send + Sync {
    fn lag(&self, seconds: i64);
    /// Windows that are still to be cut of all periods.
    fn backlog(&self, windows: u64);
    /// The comparisons of both books.
    fn reconciled(&self, comparisons: &Comparisons);
    /// Another extractor leads and tells of all this, or may.
    fn resigned(&self);
}

/// Why windows are not cut any more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The right is gone, or the broker doesn't answer.
    Lost(String),
    /// The cursor can't be read: nothing is cut until a person has acted.
    Unreadable(String),
}

/// Leads whenever it can, until stopped.
pub(crate) async fn run<E: Election>(
    election: &E,
    schedule: &Schedule,
    observer: &dyn CursorObserver,
    stop: &CancellationToken,
) {
    let scheme = schedule.scheme.as_str();
    while !stop.is_cancelled() {
        let asked = tokio::select! {
            () = stop.cancelled() => break,
            asked = election.ask(scheme) => asked,
        };
        match asked {
            Ok(Some(mut leadership)) => {
                info!(scheme, "this extractor cuts the windows");
                let end = tokio::select! {
                    () = stop.cancelled() => None,
                    end = lead(&mut leadership, schedule, observer) => Some(end),
                };
                // Before another one can lead, so that no two tell different results. How far a cursor is behind that nobody
                // can read is told until another one leads: an alert has to see it without a break.
                if !matches!(end, Some(End::Unreadable(_))) {
                    observer.resigned();
                }
                leadership.resign().await;
                match end {
                    Some(End::Lost(error)) => {
                        warn!(scheme, error, "windows are not cut any more by this extractor");
                    }
                    // It was told, and perhaps another extractor is of the release that wrote it.
                    Some(End::Unreadable(_)) | None => {}
                }
            }
            Ok(None) => observer.resigned(),
            Err(error) => warn!(scheme, error, "can't ask for the lead in cutting windows"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(STANDBY) => {}
        }
    }
}

/// Cuts windows as long as the right is held.
async fn lead(leadership: &mut impl Lead, schedule: &Schedule, observer: &dyn CursorObserver) -> End {
    match Leading::begin(leadership, schedule, observer).await {
        Ok(mut leading) => leading.run().await,
        Err(end) => end,
    }
}

/// Waits for a person to set the cursor anew that can't be read, for a while. Nothing else is carried out without it.
async fn set_anew(
    leadership: &mut impl Lead,
    schedule: &Schedule,
    observer: &dyn CursorObserver,
    unreadable: String,
) -> Result<Agenda, End> {
    let (scheme, cutting) = (schedule.scheme.as_str(), schedule.cutting);
    error!(scheme, "no windows are cut: {unreadable}");
    let until = Instant::now() + STANDSTILL;
    while leadership.is_held() {
        // Nobody knows how far it was; the worst is what an alert should see.
        observer.lag(now_s().saturating_sub(cutting.start_s));
        while let Some(body) = leadership.instruction().await.map_err(End::Lost)? {
            let instruction = serde_json::from_slice::<Instruction>(&body).map_err(|error| error.to_string());
            let set = instruction.and_then(|instruction| {
                let agenda = agenda::anew(scheme, &instruction, now_s(), cutting)?;
                Ok((instruction.by, agenda))
            });
            if let Ok((by, agenda)) = &set {
                leadership.advance(Vec::new(), agenda.write().into()).await.map_err(End::Lost)?;
                let to = cursor::beijing(agenda.cursor_s);
                warn!(scheme, by, to, "the cursor that could not be read is set anew");
            }
            leadership.instructed().await.map_err(End::Lost)?;
            match set {
                Ok((_, agenda)) => return Ok(agenda),
                // There is no agenda that could hold an answer.
                Err(why) => error!(scheme, body = %body.escape_ascii(), "an instruction is dropped: {why}"),
            }
        }
        if Instant::now() >= until {
            return Err(End::Unreadable(unreadable));
        }
        tokio::time::sleep(TICK).await;
    }
    Err(End::Lost("the connection that held the lead is gone".to_owned()))
}

/// One leader at work.
struct Leading<'a, L> {
    leadership: &'a mut L,
    schedule: &'a Schedule,
    observer: &'a dyn CursorObserver,
    agenda: Agenda,
    /// The leader before may have died between its windows and its cursor.
    inherited: bool,
    /// When the live windows are looked at again.
    live: Instant,
    /// When it is looked again whether both books were compared.
    results: Instant,
    paces: Paces,
}

impl<'a, L: Lead> Leading<'a, L> {
    async fn begin(
        leadership: &'a mut L,
        schedule: &'a Schedule,
        observer: &'a dyn CursorObserver,
    ) -> Result<Self, End> {
        let scheme = schedule.scheme.as_str();
        let agenda = match leadership.cursor().await.map_err(End::Lost)? {
            None => agenda::first(scheme, now_s(), schedule.cutting),
            Some(body) => match Agenda::read(scheme, &body) {
                Ok(mut agenda) => {
                    agenda::begin(&mut agenda, schedule.cutting);
                    agenda
                }
                Err(text) => set_anew(leadership, schedule, observer, text).await?,
            },
        };
        observer.reconciled(&agenda.reconciled);
        let (now, paces) = (Instant::now(), Paces::default());
        Ok(Leading {
            leadership,
            schedule,
            observer,
            agenda,
            inherited: true,
            live: now,
            results: now,
            paces,
        })
    }

    async fn run(&mut self) -> End {
        while self.leadership.is_held() {
            let pause = match self.round().await {
                Ok(pause) => pause,
                Err(text) => return End::Lost(text),
            };
            tokio::time::sleep(pause).await;
        }
        End::Lost("the connection that held the lead is gone".to_owned())
    }

    /// Everything that is due, in the order of its precedence; and how long to wait for more.
    async fn round(&mut self) -> Result<Duration, String> {
        self.instructions().await?;
        if Instant::now() >= self.results {
            self.results().await?;
            self.results = Instant::now() + RESULTS;
        }
        let now_s = now_s();
        self.observer.lag(now_s.saturating_sub(self.agenda.cursor_s));
        self.observer.backlog(agenda::windows_left(&self.agenda, self.schedule.cutting));
        if Instant::now() >= self.live {
            let pause = self.cut_live(now_s).await?;
            self.live = Instant::now() + pause;
            if pause.is_zero() {
                return Ok(pause);
            }
        }
        self.cut_period(now_s).await?;
        Ok(TICK.min(self.live.saturating_duration_since(Instant::now())))
    }

    /// Carries out what people ask for. An instruction is settled behind the agenda that holds its answer.
    async fn instructions(&mut self) -> Result<(), String> {
        let scheme = self.schedule.scheme.as_str();
        while let Some(body) = self.leadership.instruction().await? {
            match serde_json::from_slice::<Instruction>(&body) {
                Err(error) => self.unknown(&body, &error).await?,
                Ok(instruction) => {
                    let mut agenda = self.agenda.clone();
                    if agenda::carry_out(&mut agenda, &instruction, now_s(), self.schedule.cutting) {
                        self.leadership.advance(Vec::new(), agenda.write().into()).await?;
                        self.agenda = agenda;
                        self.live = Instant::now();
                        let refused = self.agenda.answer(&instruction.id).and_then(|a| a.refused.as_deref());
                        let (by, act) = (instruction.by.as_str(), &instruction.act);
                        match refused {
                            None => info!(scheme, by, ?act, "an instruction is carried out"),
                            Some(why) => warn!(scheme, by, ?act, "an instruction is refused: {why}"),
                        }
                    }
                }
            }
            self.leadership.instructed().await?;
        }
        Ok(())
    }

    /// Answers an instruction that can't be read, such as one of a newer release; without a name nobody can be answered.
    async fn unknown(&mut self, body: &[u8], error: &serde_json::Error) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Named {
            id: String,
        }
        let scheme = self.schedule.scheme.as_str();
        error!(scheme, %error, body = %body.escape_ascii(), "an instruction can't be read and is dropped");
        let Ok(Named { id }) = serde_json::from_slice(body) else { return Ok(()) };
        if self.agenda.answer(&id).is_none() {
            let refused = Some(format!("this release doesn't know it: {error}"));
            let mut agenda = self.agenda.clone();
            agenda.answered(Answer { id, refused });
            self.leadership.advance(Vec::new(), agenda.write().into()).await?;
            self.agenda = agenda;
        }
        Ok(())
    }

    /// Keeps how comparisons of both books ended. A result is settled behind the agenda that holds it.
    async fn results(&mut self) -> Result<(), String> {
        let scheme = self.schedule.scheme.as_str();
        while let Some(body) = self.leadership.result().await? {
            match Reconciled::read(scheme, &body) {
                Ok(result) => {
                    let mut agenda = self.agenda.clone();
                    let joined = agenda.reconciled.add(result);
                    self.leadership.advance(Vec::new(), agenda.write().into()).await?;
                    self.agenda = agenda;
                    self.observer.reconciled(&self.agenda.reconciled);
                    if let Some((from_s, to_s)) = joined {
                        let (from, to) = (cursor::beijing(from_s), cursor::beijing(to_s));
                        warn!(
                            scheme,
                            from,
                            to,
                            "too many comparisons with differences are not ended: two are kept as one, of the period \
                             of both; mend what differs, and compare a period that covers them"
                        );
                    }
                }
                Err(error) => warn!(scheme, error, "the result of a comparison can't be read and is dropped"),
            }
            self.leadership.noted().await?;
        }
        Ok(())
    }

    /// Cuts live windows, and says when to look again.
    async fn cut_live(&mut self, now_s: i64) -> Result<Duration, String> {
        let (schedule, scheme) = (self.schedule, self.schedule.scheme.as_str());
        let cursor = agenda::cursor(&self.agenda);
        match cursor::round(cursor, now_s, schedule.cutting, CUT_MAX) {
            Round::Wait => Ok(schedule.every),
            Round::Astray(text) => {
                error!(scheme, "no windows are cut: {text}");
                Ok(schedule.every.max(STANDSTILL))
            }
            Round::Cut(windows, next) => {
                let queue = Route::new(StageName::Extract, scheme).queue();
                if self.leadership.depth(&queue).await?.is_some_and(|depth| depth.ready >= WAITING_MAX) {
                    return Ok(ENOUGH);
                }
                let mut agenda = agenda::moved(self.agenda.clone(), next);
                if next.at_s < cursor.at_s {
                    agenda::distrust(&mut agenda, now_s, schedule.cutting);
                    warn!(
                        scheme,
                        "the clock went back: windows are cut again, and the last two days get a second look; if it was \
                         wrong for longer, read that time again with `kingpost backfill`"
                    );
                }
                self.publish(&windows, Origin::Live, agenda).await?;
                self.inherited = false;
                // Another round at once where more is left to cut; none is left once the windows reach the lag.
                Ok(match cursor::round(next, now_s, schedule.cutting, CUT_MAX) {
                    Round::Cut(..) => Duration::ZERO,
                    _ => schedule.every,
                })
            }
        }
    }

    /// Cuts windows beside the live ones where nothing waits that could be held up by them.
    async fn cut_period(&mut self, now_s: i64) -> Result<(), String> {
        let (schedule, cutting) = (self.schedule, self.schedule.cutting);
        let mut agenda = self.agenda.clone();
        if schedule.remedy.is_some_and(|remedy| agenda::remedy(&mut agenda, now_s, cutting, remedy)) {
            self.leadership.advance(Vec::new(), agenda.write().into()).await?;
            self.agenda = agenda;
        }
        let next = |agenda: &Agenda, paces: &Paces, most| {
            agenda::next(agenda, cutting, most, paces, Instant::now().into())
        };
        if next(&self.agenda, &self.paces, 1).is_none() {
            return Ok(());
        }
        let Some(room) = self.room().await? else { return Ok(()) };
        let Some(cut) = next(&self.agenda, &self.paces, room) else { return Ok(()) };
        self.publish(&cut.windows, cut.period.kind.origin(), cut.agenda).await?;
        self.paces.cut(&cut.period, cut.windows.len(), Instant::now().into());
        if cut.period.is_over() {
            let (scheme, period) = (schedule.scheme.as_str(), cut.period.id.as_str());
            info!(scheme, period, "the last window of a period is cut");
        }
        Ok(())
    }

    /// How many windows may be cut beside the live ones: one per extractor when none waits and the stages behind have next
    /// to nothing to do. What waits costs nothing here, and live documents find short queues.
    async fn room(&self) -> Result<Option<usize>, String> {
        let scheme = self.schedule.scheme.as_str();
        let queue = Route::new(StageName::Extract, scheme).queue();
        let consumers = match self.leadership.depth(&queue).await? {
            Some(depth) if depth.ready > 0 => return Ok(None),
            depth => depth.map_or(1, |depth| depth.consumers),
        };
        let mut waiting = 0_u32;
        let behind = [StageName::Transform, StageName::Load];
        for route in behind.iter().flat_map(|stage| Route::all(*stage, scheme, self.schedule.shards)) {
            let depth = self.leadership.depth(&route.queue()).await?;
            waiting = waiting.saturating_add(depth.map_or(0, |depth| depth.ready));
        }
        let room = (consumers as usize).clamp(1, PERIOD_WINDOWS_MAX);
        Ok((waiting < BEHIND_MAX).then_some(room))
    }

    /// Publishes windows and moves the agenda behind them.
    async fn publish(&mut self, windows: &[Window], origin: Origin, agenda: Agenda) -> Result<(), String> {
        let scheme = self.schedule.scheme.as_str();
        let mut works: Vec<Work> = Vec::with_capacity(windows.len());
        for window in windows {
            let mut work = window_work(scheme, *window, origin).map_err(|failure| failure.to_string())?;
            work.verify = self.inherited;
            works.push(work);
        }
        self.leadership.advance(works, agenda.write().into()).await?;
        self.agenda = agenda;
        Ok(())
    }
}

fn now_s() -> i64 {
    now_ms().div_euclid(1_000)
}

#[cfg(test)]
mod tests;
