use std::{net::SocketAddr, time::Duration};

use clap::Args;
use kingpost_outbound::{HttpClient, HttpOptions};
use kingpost_settings::http_addr;

use crate::{
    ending::{Report, Stop},
    session::Session,
    terminal::plain,
};

const AFTER_HELP: &str = "\
Exits with 0 when the answer's status is 200, else with 1 and the body of the answer, which names what is wrong. For the
health checks of containers without a shell:

  kingpost health                                  the /readyz of the worker whose HTTP_ADDR this is
  kingpost health http://127.0.0.1:9103/healthz";

/// A health check runs every few seconds; a worker that can't answer within this is not well.
const ANSWER: Duration = Duration::from_secs(4);
/// An answer names components and queues; more than this is another service.
const ANSWER_BYTES: usize = 64 * 1024;

/// Ask a worker whether it is ready
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Health {
    /// What to ask [default: /readyz at HTTP_ADDR, which has to be set then]
    #[arg(value_name = "URL")]
    url: Option<String>,
}

impl Health {
    pub(crate) async fn run(self, session: &Session) -> Result<Report, Stop> {
        let url = match self.url {
            Some(url) => url,
            None => {
                readiness(http_addr(&session.environment).map_err(|problems| Stop::settings(&problems))?)?
            }
        };
        let options = HttpOptions {
            connect_timeout: ANSWER,
            total_timeout: ANSWER,
            max_body_bytes: ANSWER_BYTES,
            ..HttpOptions::default()
        };
        let client = HttpClient::new(&options).map_err(|error| Stop::failed(error.to_string()))?;
        let answer =
            client.get(url.clone(), Vec::new()).await.map_err(|error| Stop::failed(error.to_string()))?;
        let body = plain(String::from_utf8_lossy(&answer.body).trim_end());
        if answer.status == 200 {
            return Ok(Report::done(format!("{body}\n")));
        }
        Err(Stop::failed(format!("status {}: {body}", answer.status)))
    }
}

/// The `/readyz` of the worker that listens at an address; one that listens everywhere is asked over the loopback.
fn readiness(addr: Option<SocketAddr>) -> Result<String, Stop> {
    let Some(mut addr) = addr else {
        return Err(Stop::usage(
            "nothing to ask: give a URL such as http://127.0.0.1:9101/readyz, or set HTTP_ADDR",
        ));
    };
    if addr.ip().is_unspecified() {
        let loopback =
            if addr.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        addr.set_ip(loopback);
    }
    Ok(format!("http://{addr}/readyz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_listens_everywhere_is_asked_over_the_loopback() {
        for (addr, url) in [
            ("0.0.0.0:9101", "http://127.0.0.1:9101/readyz"),
            ("[::]:9101", "http://[::1]:9101/readyz"),
            ("10.1.2.3:9103", "http://10.1.2.3:9103/readyz"),
        ] {
            assert_eq!(readiness(addr.parse().ok()).as_deref(), Ok(url));
        }
        assert!(readiness(None).is_err_and(|stop| stop.text.contains("HTTP_ADDR")));
    }
}
