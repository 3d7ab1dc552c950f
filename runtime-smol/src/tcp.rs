//! Sockets: addresses, options, listening, connecting.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_lite::FutureExt;
use smol::lock::Semaphore;
use smol::{Async, Timer};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the system completes before we accept them. The usual limit of a system, more is cut to it.
const BACKLOG: i32 = 1_024;
/// Bytes that the system buffers each way for a connection that comes to us; Linux counts twice of it, for its own overhead.
/// By itself it would give up to 6 MiB one way and 4 the other to each connection whose peer stands still. Chosen freely: what
/// a tunnel's pipe holds, and enough for a megabyte a second to the other side of the world; with half of it the relay spends a
/// tenth more time on small messages.
pub const SOCKET_BYTES: usize = 256 * 1024;
/// A connection that is not there by then is given up.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Names that are looked up at once; more wait, within their [`CONNECT_LIMIT`]. A look-up holds a thread for as long as the
/// system's resolver likes, whether somebody still waits for it or not, and who is a friend says where its relays are. Chosen
/// freely: two friends' relays.
const MAX_LOOKUPS: usize = 32;
/// Bytes on their way that nobody acknowledges end the connection after this long.
const USER_TIMEOUT: Duration = Duration::from_secs(40);
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// What can be wrong with an address.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// It is not `HOST:PORT`, or the host is unknown.
    #[error("cannot resolve the address {address}: {error}")]
    Resolve {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The name exists, but has no address.
    #[error("the address {address} leads nowhere")]
    Nowhere {
        /// The address.
        address: String,
    },
    /// It cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// It cannot be reached.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
}

/// Listens on `address`, `HOST:PORT`; port 0 lets the system choose one. Looks up the host, which may take a while.
///
/// # Errors
/// If no address of the host can be listened on.
pub fn listen(address: &str) -> Result<Async<TcpListener>, TcpError> {
    let mut last = None;
    for socket_address in resolve(address)? {
        match listen_on(socket_address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let address = address.to_owned();
    Err(last.map_or(TcpError::Nowhere { address: address.clone() }, |error| TcpError::Listen { address, error }))
}

fn listen_on(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes over its port at once.
    socket.set_reuse_address(true)?;
    // What is accepted inherits them; set later, the window that the peer was told would be too large already.
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Async::new(TcpListener::from(socket))
}

/// Connects to `address`, `HOST:PORT`, trying the host's addresses in the system's order.
///
/// # Errors
/// If none answers within [`CONNECT_LIMIT`] in all.
pub async fn connect(address: &str) -> Result<Async<TcpStream>, TcpError> {
    let late = async {
        Timer::after(CONNECT_LIMIT).await;
        Err(TcpError::Connect { address: address.to_owned(), error: io::ErrorKind::TimedOut.into() })
    };
    connect_to_any(address).or(late).await
}

async fn connect_to_any(address: &str) -> Result<Async<TcpStream>, TcpError> {
    // A lookup may block for as long as the resolver likes; an address in numbers needs none.
    let addresses = match address.parse::<SocketAddr>() {
        Ok(socket_address) => vec![socket_address],
        Err(_) => {
            let name = address.to_owned();
            look_up(lookups(), move || resolve(&name)).await?
        }
    };
    let mut last = None;
    for socket_address in addresses {
        match Async::<TcpStream>::connect(socket_address).await {
            Ok(stream) => {
                configure(&stream);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    let address = address.to_owned();
    Err(last.map_or(TcpError::Nowhere { address: address.clone() }, |error| TcpError::Connect { address, error }))
}

/// Room for the look-ups of this process.
fn lookups() -> &'static Arc<Semaphore> {
    static LOOKUPS: OnceLock<Arc<Semaphore>> = OnceLock::new();
    LOOKUPS.get_or_init(|| Arc::new(Semaphore::new(MAX_LOOKUPS)))
}

/// Does `work`, which may block, on another thread once there is room. It keeps its room until it has ended, even if nobody
/// waits for it any more.
async fn look_up<T: Send + 'static>(room: &Arc<Semaphore>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let place = room.acquire_arc().await;
    smol::unblock(move || {
        let _place = place;
        work()
    })
    .await
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>, TcpError> {
    let found = address.to_socket_addrs();
    let found = found.map_err(|error| TcpError::Resolve { address: address.to_owned(), error })?;
    Ok(found.take(MAX_ADDRESSES).collect())
}

/// Sets what every connection wants: no delay for small writes, and an end for peers that vanished.
pub fn configure(stream: &Async<TcpStream>) {
    let socket = SockRef::from(stream.get_ref());
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    // An option that the system refuses costs comfort only: the channel has keepalives and deadlines of its own.
    let results = [socket.set_tcp_nodelay(true), socket.set_tcp_keepalive(&keepalive), set_user_timeout(&socket)];
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was refused");
    }
}

/// Ends a connection that is not wanted at once and without a trace: the peer sees a reset, and the system keeps nothing.
pub fn cut(stream: TcpStream) {
    // Without it the peer sees an ordinary end.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_by_number_and_by_name() {
        smol::block_on(async {
            let listener = listen("127.0.0.1:0").unwrap();
            let port = listener.get_ref().local_addr().unwrap().port();
            for host in ["127.0.0.1", "localhost"] {
                let connecting = connect(&format!("{host}:{port}")).await.unwrap();
                let (accepted, from) = listener.accept().await.unwrap();
                configure(&accepted);
                assert_eq!(connecting.get_ref().local_addr().unwrap(), from);
                assert!(accepted.get_ref().nodelay().unwrap() && connecting.get_ref().nodelay().unwrap());
            }
        });
    }

    #[test]
    fn who_comes_gets_buffers_of_a_bounded_size() {
        smol::block_on(async {
            let listener = listen("127.0.0.1:0").unwrap();
            let address = listener.get_ref().local_addr().unwrap().to_string();
            let _connecting = connect(&address).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            configure(&accepted);
            let socket = SockRef::from(accepted.get_ref());
            let sizes = [socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()];
            assert!(sizes.iter().all(|size| (SOCKET_BYTES..=2 * SOCKET_BYTES).contains(size)), "{sizes:?}");
        });
    }

    /// Found by a reviewer: look-ups that nobody waited for any more went on, and new ones began beside them.
    #[test]
    fn look_ups_that_hang_hold_their_room_and_no_more_threads() {
        let room = Arc::new(Semaphore::new(2));
        let (hang, release) = std::sync::mpsc::channel::<()>();
        let release = Arc::new(std::sync::Mutex::new(release));
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let hanging = || {
            let (release, begun) = (release.clone(), begun.clone());
            look_up(&room, move || {
                begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                release.lock().unwrap().recv().unwrap();
            })
        };
        smol::block_on(async {
            for _ in 0..5 {
                // As `connect` does when its time is up.
                let late = async {
                    Timer::after(Duration::from_millis(50)).await;
                };
                hanging().or(late).await;
            }
            assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 2);
            hang.send(()).unwrap();
            assert_eq!(look_up(&room, || 7).await, 7);
            hang.send(()).unwrap();
        });
    }

    #[test]
    fn errors_name_the_address() {
        let port = listen("127.0.0.1:0").unwrap().get_ref().local_addr().unwrap().port();
        smol::block_on(async {
            let error = connect(&format!("127.0.0.1:{port}")).await.unwrap_err();
            assert!(error.to_string().starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{error}");
        });
        assert!(matches!(listen("no port"), Err(TcpError::Resolve { .. })));
        let taken = listen("127.0.0.1:0").unwrap();
        let address = taken.get_ref().local_addr().unwrap().to_string();
        assert!(matches!(listen(&address), Err(TcpError::Listen { .. })));
    }
}
