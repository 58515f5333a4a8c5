//! A broker that refuses what releases at hand permit: it stands before a real one and understands just enough frames.

use std::collections::HashSet;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

/// Type, channel, and size of what follows.
const HEAD: usize = 7;
/// The first bytes of a client, which are no frame.
const GREETING: usize = 8;
/// `queue.declare` with its reserved word, and the two methods that close a channel.
const DECLARE: [u8; 6] = [0, 50, 0, 10, 0, 0];
const CLOSE: [u8; 4] = [0, 20, 0, 40];
const CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// Refuses to say how much is in a queue, as 4.2.6 and 4.3.0 do where the user may not configure it. Returns the URL of the
/// vhost behind it; it ends with the test.
///
/// # Errors
/// No port is free.
pub async fn refusing_depth_of(queue: &'static str, url: &str) -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let (_, behind) = url.split_once('@').unwrap_or_default();
    let (upstream, _) = behind.split_once('/').unwrap_or_default();
    let (upstream, address) = (upstream.to_owned(), listener.local_addr()?.to_string());
    let theirs = url.replace(&upstream, &address);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&upstream).await else { continue };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let (answer, answers) = mpsc::channel(64);
            tokio::spawn(write(answers, to_client));
            tokio::spawn(answers_of(from_server, answer.clone()));
            tokio::spawn(questions(from_client, to_server, answer, queue));
        }
    });
    Ok(theirs)
}

async fn write(mut frames: mpsc::Receiver<Vec<u8>>, mut to: OwnedWriteHalf) -> Result<()> {
    while let Some(frame) = frames.recv().await {
        to.write_all(&frame).await?;
    }
    Ok(())
}

async fn frame(from: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame).await?;
    let size = u32::from_be_bytes(frame[3..HEAD].try_into()?);
    // With the byte that ends it.
    frame.resize(HEAD + usize::try_from(size)? + 1, 0);
    from.read_exact(&mut frame[HEAD..]).await?;
    Ok(frame)
}

async fn answers_of(mut from: OwnedReadHalf, to: mpsc::Sender<Vec<u8>>) -> Result<()> {
    loop {
        to.send(frame(&mut from).await?).await?;
    }
}

async fn questions(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answer: mpsc::Sender<Vec<u8>>,
    queue: &str,
) -> Result<()> {
    let mut greeting = [0; GREETING];
    from.read_exact(&mut greeting).await?;
    to.write_all(&greeting).await?;
    let mut refused = HashSet::new();
    loop {
        let frame = frame(&mut from).await?;
        let (channel, method) = ([frame[1], frame[2]], &frame[HEAD..]);
        if frame[0] == 1 && is_question(method, queue) {
            refused.insert(channel);
            answer.send(refusal(channel, queue)?).await?;
        } else if !(refused.contains(&channel) && method.starts_with(&CLOSE_OK)) {
            to.write_all(&frame).await?;
        }
    }
}

/// A passive declare of that queue.
fn is_question(method: &[u8], queue: &str) -> bool {
    let rest = method.strip_prefix(&DECLARE).and_then(|rest| rest.split_first());
    let Some((_, flags)) = rest.and_then(|(_, name)| Some((name, name.strip_prefix(queue.as_bytes())?)))
    else {
        return false;
    };
    flags.first().is_some_and(|flags| flags & 1 == 1)
}

fn refusal(channel: [u8; 2], queue: &str) -> Result<Vec<u8>> {
    let text = format!("ACCESS_REFUSED - configure access to queue '{queue}' refused");
    let mut method = CLOSE.to_vec();
    method.extend(403_u16.to_be_bytes());
    method.push(u8::try_from(text.len())?);
    method.extend(text.as_bytes());
    method.extend(&DECLARE[..4]);
    let mut frame = vec![1, channel[0], channel[1]];
    frame.extend(u32::try_from(method.len())?.to_be_bytes());
    frame.extend(method);
    frame.push(0xCE);
    Ok(frame)
}
