//! The proxy fails exactly as asked, and only as long.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::lab::{Proxy, Way, Welcome, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(10);
/// Long enough that bytes which pass would have passed.
const MOMENT: Duration = Duration::from_millis(300);

/// A server that sends back what it gets.
async fn echo() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    Ok(address)
}

async fn connected() -> Result<(Proxy, TcpStream)> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut client = TcpStream::connect(proxy.address()).await?;
    client.set_nodelay(true)?;
    assert_eq!(there_and_back(&mut client, b"hello").await?, b"hello");
    Ok((proxy, client))
}

async fn there_and_back(client: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    client.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    tokio::time::timeout(SOON, client.read_exact(&mut back)).await??;
    Ok(back)
}

async fn hears_nothing(client: &mut TcpStream) -> bool {
    tokio::time::timeout(MOMENT, client.read(&mut [0; 8])).await.is_err()
}

/// How a connection ended: the kind of its error, or none where it was closed in good order.
async fn end(client: &mut TcpStream) -> Result<Option<ErrorKind>> {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await?;
    Ok(ended.err().map(|error| error.kind()))
}

#[tokio::test]
async fn a_stalled_way_keeps_its_bytes_and_its_connection() -> Result<()> {
    let (proxy, mut client) = connected().await?;
    for way in Way::BOTH {
        proxy.stall(way);
        client.write_all(b"kept").await?;
        assert!(hears_nothing(&mut client).await, "bytes passed a stall {way:?}");
        if way == Way::ToClient {
            wait_until(SOON, "the server to be reached", async || proxy.traffic().to_server == 13).await?;
        }
        proxy.flow(way);
        let mut back = [0; 4];
        tokio::time::timeout(SOON, client.read_exact(&mut back)).await??;
        assert_eq!(&back, b"kept");
    }
    let traffic = proxy.traffic();
    assert_eq!((traffic.accepted, traffic.open, traffic.reset), (1, 1, 0));
    assert_eq!((traffic.to_server, traffic.to_client), (13, 13));
    Ok(())
}

#[tokio::test]
async fn the_death_of_one_end_is_held_back_by_a_stall_too() -> Result<()> {
    let (proxy, client) = connected().await?;
    proxy.stall(Way::ToServer);
    drop(client);
    let ended = wait_until(MOMENT, "the connection to end", async || proxy.traffic().open == 0).await;
    assert!(ended.is_err(), "the end of a connection passed a stall");
    proxy.heal();
    wait_until(SOON, "the connection to end", async || proxy.traffic().open == 0).await
}

#[tokio::test]
async fn a_reset_reaches_both_ends_of_every_connection() -> Result<()> {
    let (proxy, mut first) = connected().await?;
    let mut second = TcpStream::connect(proxy.address()).await?;
    there_and_back(&mut second, b"x").await?;
    proxy.reset();
    for client in [&mut first, &mut second] {
        assert_eq!(end(client).await?, Some(ErrorKind::ConnectionReset));
    }
    wait_until(SOON, "no connection to be left", async || proxy.traffic().open == 0).await?;
    assert_eq!(proxy.traffic().reset, 2);
    let mut third = TcpStream::connect(proxy.address()).await?;
    assert_eq!(there_and_back(&mut third, b"again").await?, b"again");
    Ok(())
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes_and_once() -> Result<()> {
    let (proxy, mut client) = connected().await?;
    proxy.cut_after(Way::ToClient, 3);
    client.write_all(b"abcdef").await?;
    let mut back = [0; 3];
    tokio::time::timeout(SOON, client.read_exact(&mut back)).await??;
    assert_eq!(&back, b"abc");
    assert_eq!(end(&mut client).await?, Some(ErrorKind::ConnectionReset));
    assert!(proxy.is_cut(Way::ToClient));
    assert_eq!(proxy.traffic().to_client, 8);
    let mut next = TcpStream::connect(proxy.address()).await?;
    assert_eq!(there_and_back(&mut next, b"whole").await?, b"whole");
    Ok(())
}

#[tokio::test]
async fn new_connections_are_reset_or_wait_in_a_hole_and_open_ones_go_on() -> Result<()> {
    let (proxy, mut open) = connected().await?;
    proxy.welcome(Welcome::Reset);
    let mut refused = TcpStream::connect(proxy.address()).await?;
    assert_eq!(end(&mut refused).await?, Some(ErrorKind::ConnectionReset));

    proxy.welcome(Welcome::Hole);
    let mut lost = TcpStream::connect(proxy.address()).await?;
    lost.write_all(b"later").await?;
    assert!(hears_nothing(&mut lost).await, "something came out of a hole");
    assert_eq!(there_and_back(&mut open, b"open").await?, b"open");

    proxy.heal();
    let mut back = [0; 5];
    tokio::time::timeout(SOON, lost.read_exact(&mut back)).await??;
    assert_eq!(&back, b"later");
    Ok(())
}

#[tokio::test]
async fn latency_is_added_per_way_and_ends_with_the_healing() -> Result<()> {
    let (proxy, mut client) = connected().await?;
    let (latency, jitter) = (Duration::from_millis(150), Duration::from_millis(50));
    for way in Way::BOTH {
        proxy.delay(way, latency, jitter);
    }
    let began = Instant::now();
    there_and_back(&mut client, b"late").await?;
    assert!(began.elapsed() >= 2 * latency, "too early: {:?}", began.elapsed());

    proxy.delay(Way::ToServer, Duration::from_secs(600), Duration::ZERO);
    client.write_all(b"now").await?;
    assert!(hears_nothing(&mut client).await, "bytes came too early");
    proxy.heal();
    let mut back = [0; 3];
    tokio::time::timeout(SOON, client.read_exact(&mut back)).await??;
    assert_eq!(&back, b"now");
    Ok(())
}

#[tokio::test]
async fn slices_and_bandwidth_change_no_byte() -> Result<()> {
    let (proxy, mut client) = connected().await?;
    let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    proxy.slice(Way::ToServer, 7);
    proxy.slice(Way::ToClient, 1);
    assert_eq!(there_and_back(&mut client, &bytes).await?, bytes);
    proxy.heal();
    proxy.narrow(Way::ToServer, 40_000);
    let began = Instant::now();
    assert_eq!(there_and_back(&mut client, &bytes).await?, bytes);
    assert!(began.elapsed() >= Duration::from_millis(450), "too fast: {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_reset_and_one_that_ends_ends_the_client() -> Result<()> {
    let nobody = format!("127.0.0.1:{}", e2e::lab::free_port()?);
    let proxy = Proxy::start(nobody).await?;
    let mut client = TcpStream::connect(proxy.address()).await?;
    assert_eq!(end(&mut client).await?, Some(ErrorKind::ConnectionReset));

    let (proxy, mut client) = connected().await?;
    client.shutdown().await?;
    assert_eq!(end(&mut client).await?, None, "a close in good order became a reset");
    wait_until(SOON, "the connection to end", async || proxy.traffic().open == 0).await?;
    assert_eq!(proxy.traffic().reset, 0);
    drop(proxy);
    Ok(())
}
