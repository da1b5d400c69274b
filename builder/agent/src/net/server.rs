//! The listening side: members come with requests.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Duration, Instant, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::frame::{Frame, Kind, MAX_BODY};
use super::identity::{Refusal, Side};
use super::limits::{Bucket, Sources};
use super::stream::{self, Greeting, Stream};
use super::{Event, Peer, Shared};

/// Between two attempts to listen: the address may come after the agent.
const RETRY: Duration = Duration::from_secs(1);
/// What becomes of a request that nobody answers: its place is given free.
const ANSWER: Duration = Duration::from_secs(60);

/// Listens for ever, wherever the facts say.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut material = shared.material.clone();
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let mut sources = Sources::new(shared.limits.handshakes);
    loop {
        let wanted = material.borrow_and_update().listen;
        let listener = match bind(wanted).await {
            Ok(listener) => listener,
            Err(why) => {
                tell(&shared, None, Some(why));
                tokio::select! {
                    () = sleep(RETRY) => continue,
                    changed = material.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                }
            }
        };
        let address = listener.local_addr().ok();
        tell(&shared, address.map(|address| address.to_string()), None);
        while material.borrow_and_update().listen == wanted {
            tokio::select! {
                changed = material.changed() => if changed.is_err() { return },
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => accept(&shared, stream, from, &places, &mut sources),
                    // No file descriptors or no memory: what waits in the kernel is taken later.
                    Err(_) => sleep(Duration::from_millis(100)).await,
                },
            }
        }
    }
}

fn tell(shared: &Shared, listening: Option<String>, problem: Option<String>) {
    let mut state = shared.state();
    (state.listening, state.problem) = (listening, problem);
}

async fn bind(wanted: Option<SocketAddr>) -> Result<TcpListener, String> {
    let address = wanted.ok_or("this node's private address is not known yet")?;
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn accept(
    shared: &Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    places: &Arc<Semaphore>,
    sources: &mut Sources,
) {
    let who = from.ip().to_string();
    if !sources.admit(from.ip(), shared.now()) {
        shared.refuse(&who, &Refusal::TooMuch("it opens too many connections"));
        return;
    }
    let Ok(place) = places.clone().try_acquire_owned() else {
        shared.refuse(&who, &Refusal::TooMuch("there are too many connections"));
        return;
    };
    tokio::spawn(serve(shared.clone(), stream, from, place));
}

async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let greeting = timeout(shared.limits.handshake, greet(&shared, stream, from)).await;
    let (stream, peer) = match greeting {
        Ok(Some(greeted)) => greeted,
        Ok(None) => return,
        Err(_) => {
            let refusal = Refusal::TooMuch("it did not introduce itself in time");
            shared.refuse(&from.ip().to_string(), &refusal);
            return;
        }
    };
    let kill = Arc::new(Notify::new());
    {
        let mut state = shared.state();
        state.hints.insert(peer.name.clone(), from.ip());
        if let Some(wake) = state.wake.get(&peer.name) {
            // Who can reach us can be reached.
            wake.notify_one();
        }
        let open = state.inbound.entry(peer.name.clone()).or_default();
        if open.len() >= shared.limits.connections_of_peer {
            open.remove(0).notify_one();
        }
        open.push(kill.clone());
    }
    if let Err(refusal) = converse(&shared, stream, &peer, &kill).await {
        shared.refuse(&format!("{} ({})", from.ip(), peer.name), &refusal);
    }
    let mut state = shared.state();
    if let Some(open) = state.inbound.get_mut(&peer.name) {
        open.retain(|other| !Arc::ptr_eq(other, &kill));
        if open.is_empty() {
            state.inbound.remove(&peer.name);
        }
    }
}

type Served = Stream<tokio_rustls::server::TlsStream<TcpStream>>;

/// Handshake and introductions; nothing when it came to nothing.
async fn greet(
    shared: &Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
) -> Option<(Served, Peer)> {
    let address = from.ip().to_string();
    stream::prepare(&stream).ok()?;
    let material = shared.material();
    let tls = match TlsAcceptor::from(material.server.clone())
        .accept(stream)
        .await
    {
        Ok(tls) => tls,
        Err(error) => {
            if let Some(refusal) = Refusal::from_tls(&error) {
                shared.refuse(&address, &refusal);
            }
            return None;
        }
    };
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let judged = material.book.judge(chain, Side::Client, UnixTime::now());
    let chain = chain.to_vec();
    let mut stream = Stream::new(tls, &chain);
    let refuse = |stream: &Served, who: &str, refusal: &Refusal| {
        shared.refuse(who, refusal);
        stream.writer.farewell(refusal);
        None
    };
    let (name, number) = match judged {
        Ok(member) => member,
        Err(refusal) => return refuse(&stream, &address, &refusal),
    };
    let who = format!("{address} ({name})");
    let hello = match stream.hello().await {
        Ok(hello) => hello,
        Err(Greeting::Bad(refusal)) => return refuse(&stream, &who, &refusal),
        Err(Greeting::Lost(_) | Greeting::Refused(_)) => return None,
    };
    let own = &material.identity.node;
    let admitted = if name == *own {
        // Nobody else may be this node.
        Err(Refusal::SecondMachine(name.clone()))
    } else {
        shared.admit(&name, &hello.machine)
    };
    if let Err(refusal) = admitted {
        return refuse(&stream, &who, &refusal);
    }
    stream.writer.hello(&shared.hello()).ok()?;
    let peer = Peer {
        name,
        number,
        id: hello.machine.incarnation,
    };
    Some((stream, peer))
}

/// Answers requests until the connection ends, or has to.
async fn converse(
    shared: &Arc<Shared>,
    stream: Served,
    peer: &Peer,
    kill: &Notify,
) -> Result<(), Refusal> {
    let Stream {
        mut reader,
        writer,
        chain,
    } = stream;
    let mut material = shared.material.clone();
    let mut bucket = Bucket::new(shared.limits.requests, shared.now());
    let places = Arc::new(Semaphore::new(shared.limits.in_flight));
    let mut review = interval(shared.limits.review);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            frame = reader.next() => {
                let frame = match frame {
                    Ok(Some(frame)) => frame,
                    Ok(None) | Err(super::frame::FrameError::Io(_)) => return Ok(()),
                    Err(error) => return Err(Refusal::Malformed(error.to_string())),
                };
                heard = Instant::now();
                shared.heard(peer);
                match frame.kind {
                    Kind::Request => {
                        // Who asks too much is read later; its own window fills up.
                        while let Err(wait) = bucket.take(shared.now()) {
                            sleep(Duration::from_millis(wait)).await;
                        }
                        let Ok(place) = places.clone().acquire_owned().await else {
                            return Ok(());
                        };
                        let (reply, answer) = oneshot::channel();
                        let event = Event::Request { from: peer.clone(), body: frame.body, reply };
                        if shared.events.send(event).await.is_err() {
                            return Ok(());
                        }
                        let (line, number) = (writer.line(), frame.number);
                        tokio::spawn(async move {
                            // Who is not to be answered is told so at once, by an empty body.
                            let body = match timeout(ANSWER, answer).await {
                                Ok(Ok(body)) if body.len() <= MAX_BODY => body,
                                _ => Vec::new(),
                            };
                            // A connection that broke meanwhile needs no answer.
                            let _ = line.send(Frame { kind: Kind::Response, number, body }).await;
                            drop(place);
                        });
                    }
                    Kind::Ping => {
                        if writer.send(Frame::bare(Kind::Pong, frame.number)).is_err() {
                            return Ok(());
                        }
                    }
                    Kind::Farewell => return Ok(()),
                    _ => return Err(Refusal::Malformed("it does not keep to the protocol".to_owned())),
                }
            }
            changed = material.changed() => {
                if changed.is_err() { return Ok(()) }
                judge(shared, &chain, Side::Client, peer).inspect_err(|refusal| writer.farewell(refusal))?;
            }
            _ = review.tick() => {
                judge(shared, &chain, Side::Client, peer).inspect_err(|refusal| writer.farewell(refusal))?;
            }
            () = kill.notified() => return Ok(()),
            () = sleep_until(heard + shared.limits.idle) => return Ok(()),
        }
    }
}

/// Judges an open connection by the facts and the time of now.
pub(super) fn judge(
    shared: &Shared,
    chain: &[rustls::pki_types::CertificateDer<'_>],
    side: Side,
    peer: &Peer,
) -> Result<(), Refusal> {
    let book = &shared.material().book;
    let (name, _) = book.judge_open(chain, side, UnixTime::now())?;
    if name == peer.name {
        Ok(())
    } else {
        Err(Refusal::OtherMember {
            has: name,
            wanted: peer.name.clone(),
        })
    }
}
