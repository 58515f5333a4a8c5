//! Long runs: `hop --messages N` moves small orders while the broker is killed, `replay --letters N --kills N` sends dead
//! letters again while the operator's command is killed, `living --documents N --windows N` reads a history that people work
//! on while workers are killed.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

#[tokio::main]
async fn main() -> ExitCode {
    // A Ctrl-C drops everything that was started, which ends it.
    let sound = tokio::select! {
        sound = command() => sound,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; everything is stopped")),
    };
    match sound {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn command() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["hop"] => Box::pin(e2e::soak::hop(1_000_000)).await,
        ["hop", "--messages", messages] => Box::pin(e2e::soak::hop(number(messages)?)).await,
        ["replay"] => Box::pin(e2e::soak::replay(100_000, 3)).await,
        ["replay", "--letters", letters, "--kills", kills] => {
            Box::pin(e2e::soak::replay(number(letters)?, number(kills)?)).await
        }
        ["living"] => Box::pin(e2e::soak::living(20_000, 200)).await,
        ["living", "--documents", documents, "--windows", windows] => {
            Box::pin(e2e::soak::living(number(documents)?, number(windows)?)).await
        }
        _ => bail!(
            "usage: kingpost-soak hop [--messages N] | replay [--letters N --kills N] | living [--documents N --windows N]"
        ),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().ok().with_context(|| format!("`{text}` is no number"))
}
