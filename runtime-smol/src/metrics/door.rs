//! The socket of `--metrics`: accepts, reads one request, answers, closes.
//!
//! 1. At most [`MAX_CONNECTIONS`] at once; whoever comes beyond is closed at once, so that those who say nothing keep a
//!    scraper waiting for [`HEAD_LIMIT`] at most.
//! 2. A head has [`HEAD_LIMIT`] to come, and the whole connection [`CONNECTION_LIMIT`] to be over.
//! 3. Nothing here touches the program's own connections: neither their places nor the state thread.

use std::future::Future;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use smol::{Async, Timer};

use super::http::{Answer, Fault, Head, Page};
use crate::executor::Executor;

/// Connections at once. Chosen freely: a few scrapers and a human.
pub(super) const MAX_CONNECTIONS: usize = 16;
/// How long the head of a request may take.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// How long we listen for the peer's end after ours, so that the system does not discard what we sent last.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// How long accepting rests after an error, such as when the system has no more sockets to give.
const ERROR_REST: Duration = Duration::from_millis(100);

/// Whoever has the pages.
pub(super) trait Site: Send + Sync + 'static {
    /// One page.
    fn page(&self, page: Page) -> impl Future<Output = Answer> + Send;
}

/// Answers requests until it is dropped.
pub(super) async fn serve(listener: Async<TcpListener>, executor: Executor, site: Arc<impl Site>) {
    let place = Arc::new(());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // One is ours.
                if Arc::strong_count(&place) > MAX_CONNECTIONS {
                    tracing::debug!(%from, "too many connections for metrics, this one is closed");
                    continue;
                }
                let (place, site) = (place.clone(), site.clone());
                executor.spawn(async move {
                    let late = async {
                        Timer::after(CONNECTION_LIMIT).await;
                        Err(std::io::ErrorKind::TimedOut.into())
                    };
                    if let Err(error) = converse(stream, &*site).or(late).await {
                        tracing::debug!(%from, %error, "a request for metrics was not answered");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics was not accepted");
                Timer::after(ERROR_REST).await;
            }
        }
    }
}

async fn converse(mut stream: Async<TcpStream>, site: &impl Site) -> std::io::Result<()> {
    let late = async {
        Timer::after(HEAD_LIMIT).await;
        Ok(Some(Err(Fault::TooSlow)))
    };
    // An end before the request is asks for nothing.
    let Some(asked) = read_head(&mut stream).or(late).await? else { return Ok(()) };
    let answer = match asked {
        Ok(page) => site.page(page).await,
        Err(fault) => fault.into(),
    };
    stream.write_all(&answer.to_bytes()).await?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    let linger = async {
        Timer::after(LINGER_LIMIT).await;
        Ok(())
    };
    hear_out(&mut stream).or(linger).await
}

async fn read_head(stream: &mut Async<TcpStream>) -> std::io::Result<Option<Result<Page, Fault>>> {
    let (mut head, mut buffer) = (Head::default(), [0; 1024]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        let asked = head.push(buffer.get(..read).unwrap_or_default());
        if asked.is_some() {
            return Ok(asked);
        }
    }
}

/// Discards what the peer still says, until its end.
async fn hear_out(stream: &mut Async<TcpStream>) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::time::Instant;

    use super::*;

    struct Hello;

    impl Site for Hello {
        async fn page(&self, _page: Page) -> Answer {
            Answer::line("200 OK", "hello")
        }
    }

    struct Running {
        address: SocketAddr,
        _serving: smol::Task<()>,
        _executor: Executor,
    }

    fn start() -> Running {
        let (executor, listener) = (Executor::start().unwrap(), crate::tcp::listen("127.0.0.1:0").unwrap());
        let address = listener.get_ref().local_addr().unwrap();
        let serving = executor.spawn_owned(serve(listener, executor.clone(), Arc::new(Hello)));
        Running { address, _serving: serving, _executor: executor }
    }

    fn ask(address: SocketAddr, parts: &[&[u8]]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        for part in parts {
            // It may have an answer already, and not listen any more.
            let _ = stream.write_all(part);
        }
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn a_request_is_answered_and_the_connection_closed() {
        let running = start();
        let text = ask(running.address, &[b"GET /hea", b"lth HTTP/1.1\r\n", b"\r\n"]);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nhello\n"), "{text}");
        let text = ask(running.address, &[&[b'x'; 100_000]]);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431 "), "{text}");
    }

    #[test]
    fn who_says_nothing_is_told_so_in_time_and_gives_its_place_back() {
        let running = start();
        let begun = Instant::now();
        let mut silent: Vec<_> = (0..MAX_CONNECTIONS).map(|_| TcpStream::connect(running.address).unwrap()).collect();
        silent.iter_mut().for_each(|stream| stream.write_all(b"GET /he").unwrap());
        // All places are taken: whoever comes now is closed.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(ask(running.address, &[b"GET /health HTTP/1.1\r\n\r\n"]), "");
        for stream in &mut silent {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        }
        assert!((HEAD_LIMIT..CONNECTION_LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(silent);
        let begun = Instant::now();
        while !ask(running.address, &[b"GET /health HTTP/1.1\r\n\r\n"]).ends_with("hello\n") {
            assert!(begun.elapsed() < CONNECTION_LIMIT, "the places are not given back");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
