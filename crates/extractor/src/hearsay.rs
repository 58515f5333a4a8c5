//! What extractors tell each other of their accounts, over the broker. Without it everything goes on, and each extractor
//! learns of limits by itself.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kingpost_broker::{Broker, ConnectError, Ear, Lock, Locks, Voice};
use kingpost_model::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::account::{Account, Company, Right, Turn, Word};

/// How long others are given to say what they know before the first call is made.
const ANSWERS: Duration = Duration::from_millis(300);
/// How long the first call waits for a connection over which they can.
const JOINING: Duration = Duration::from_secs(3);
/// Pause before the connection is built anew.
const AGAIN: Duration = Duration::from_secs(5);
/// The same where the broker refuses.
const REFUSED: Duration = Duration::from_secs(60);
/// How long a notice of our own may take to come back.
const ECHO: Duration = Duration::from_secs(2);

/// One notice. What a later release adds is not understood and passed over.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Notice {
    /// Which account, as [`Account::key`] gives it.
    account: String,
    /// Who tells.
    from: String,
    /// What is told; nothing where it is sent to be heard by its sender.
    word: Option<Word>,
    /// The how manieth of its sender, if it waits to hear it.
    echo: Option<u64>,
}

/// The other extractors, as long as the broker lets us reach them.
struct Others {
    from: String,
    voice: Mutex<Option<Voice>>,
    locks: Locks,
    /// Echoes asked for.
    asked: AtomicU64,
    /// The last one heard.
    heard: watch::Sender<u64>,
    told: AtomicBool,
}

/// Keeps the accounts in touch with those of other extractors until `stop`.
pub(crate) async fn run(broker: &Broker, accounts: Vec<Arc<Account>>, stop: CancellationToken) {
    let others = Arc::new(Others {
        from: format!("{:016x}", RandomState::new().build_hasher().finish()),
        voice: Mutex::new(None),
        locks: broker.locks(),
        asked: AtomicU64::new(0),
        heard: watch::Sender::new(0),
        told: AtomicBool::new(false),
    });
    for account in &accounts {
        account.join(Some(Arc::clone(&others) as Arc<dyn Company>));
        account.hush(Some(Instant::now() + JOINING));
    }
    let mut told = false;
    while !stop.is_cancelled() {
        let joined = tokio::select! {
            () = stop.cancelled() => break,
            joined = broker.notices() => joined,
        };
        let pause = match joined {
            Ok((voice, ear)) => {
                if told {
                    info!("extractors hear of each other's limits again");
                }
                told = false;
                others.set_voice(Some(voice));
                let lost = listen(&others, &accounts, ear, &stop).await;
                others.set_voice(None);
                debug!(lost, "the connection for notices ended");
                AGAIN
            }
            Err(error) => {
                if !told {
                    tell_why(&error);
                }
                told = true;
                if matches!(error, ConnectError::Refused(_)) { REFUSED } else { AGAIN }
            }
        };
        accounts.iter().for_each(|account| account.hush(None));
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
    accounts.iter().for_each(|account| account.join(None));
}

fn tell_why(error: &ConnectError) {
    warn!(
        %error,
        "extractors can't tell each other of limits, so each has to meet them by itself; give the user of AMQP_URL \
         configure, write and read permission on `^notices\\.` and write and read on `kingpost.notices`, and have \
         `kingpost topology apply` run if that exchange is missing"
    );
}

/// Asks what the others know, and hears them until the connection ends; returns why.
async fn listen(
    others: &Others,
    accounts: &[Arc<Account>],
    mut ear: Ear,
    stop: &CancellationToken,
) -> String {
    for account in accounts {
        others.tell_of(account, Some(Word::Asks), None).await;
    }
    let answered = Instant::now() + ANSWERS;
    let mut hushed = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                ear.close().await;
                return "stopped".to_owned();
            }
            () = sleep_until(answered), if hushed => {
                hushed = false;
                accounts.iter().for_each(|account| account.hush(None));
            }
            heard = ear.hear() => match heard {
                Ok(body) => others.hear(accounts, &body).await,
                Err(error) => return error.to_string(),
            },
        }
    }
}

impl Others {
    fn set_voice(&self, voice: Option<Voice>) {
        *self.voice.lock().unwrap_or_else(PoisonError::into_inner) = voice;
    }

    /// Returns whether it was told.
    async fn tell_of(&self, account: &Account, word: Option<Word>, echo: Option<u64>) -> bool {
        let voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(voice) = voice else { return false };
        let notice = Notice { account: account.key(), from: self.from.clone(), word, echo };
        let Ok(body) = serde_json::to_vec(&notice) else { return false };
        match voice.tell(body.into()).await {
            Ok(()) => true,
            Err(error) => {
                debug!(%error, "a notice was not told");
                false
            }
        }
    }

    async fn hear(&self, accounts: &[Arc<Account>], body: &[u8]) {
        let notice: Notice = match serde_json::from_slice(body) {
            Ok(notice) => notice,
            Err(error) => return debug!(%error, "a notice that is not understood"),
        };
        if notice.from == self.from {
            if let Some(echo) = notice.echo {
                self.heard.send_if_modified(|heard| {
                    let newer = echo > *heard;
                    *heard = echo.max(*heard);
                    newer
                });
            }
            return;
        }
        let Some(word) = notice.word else { return };
        for account in accounts.iter().filter(|account| account.key() == notice.account) {
            account.hear(&word).await;
        }
    }

    /// Waits until all is heard that was told so far.
    async fn catch_up(&self, account: &Account) {
        let echo = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut heard = self.heard.subscribe();
        if self.tell_of(account, None, Some(echo)).await {
            let _ = timeout(ECHO, heard.wait_for(|heard| *heard >= echo)).await;
        }
    }
}

impl Company for Others {
    fn tell<'a>(&'a self, account: &'a Account, word: Word) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.tell_of(account, Some(word), None).await;
        })
    }

    fn turn<'a>(&'a self, account: &'a Account) -> BoxFuture<'a, Turn> {
        Box::pin(async move {
            match self.locks.take(&format!("prober.{}", account.key())).await {
                Ok(Some(lock)) => {
                    // Whoever had it before has told what came of it, and that is on its way to us.
                    self.catch_up(account).await;
                    Turn::Ours(Box::new(Held(lock)))
                }
                Ok(None) => Turn::Theirs,
                Err(error) => {
                    if !self.told.swap(true, Ordering::Relaxed) {
                        warn!(
                            %error,
                            "who may make the first call after a limit can't be settled, so each extractor makes one; \
                             give the user of AMQP_URL configure permission on `^prober\\.`"
                        );
                    }
                    Turn::Untold
                }
            }
        })
    }
}

struct Held(Lock);

impl Right for Held {
    fn give_back(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.0.release())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_written_and_one_of_a_later_release_is_not_understood() {
        let notice = Notice {
            account: "wdt.default.0f3c9a5e1b77".to_owned(),
            from: "0123456789abcdef".to_owned(),
            word: Some(Word::Closed { for_ms: 65_000, met: true, times: 1 }),
            echo: None,
        };
        let text = serde_json::to_string(&notice).unwrap();
        assert_eq!(
            text,
            r#"{"account":"wdt.default.0f3c9a5e1b77","from":"0123456789abcdef","word":{"is":"closed","for_ms":65000,"met":true,"times":1},"echo":null}"#
        );
        assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), notice);
        assert!(serde_json::from_str::<Notice>(&text.replace("closed", "sold")).is_err());
        assert!(serde_json::from_str::<Notice>(&text.replace("\"met\"", "\"more\":1,\"met\"")).is_ok());
    }
}
