//! The network between nodes, and between clients and nodes: calls carried with delay, or not at all.
//!
//! What TCP and HTTP/2 promise holds: a stream is in order, and what was lost is sent again, later. What they do
//! not promise does not: calls overtake each other, a link that is cut keeps what is on its way until it heals, and
//! a connection breaks some time after its link was cut or its other end died, with all that was under way on it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kv_node::{
    api::ClientPort,
    bootstrap::control::{Carried, Carry, NotCarried},
    raft::network::{CarryError, Dial, Transport},
    running::PeerPort,
    switch::Port,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{ConnectError, Status, body::Body};
use tower::{Service, service_fn, util::BoxCloneSyncService};

use crate::{random::Random, trace::Trace};

/// A peer that does not answer for so long is unreachable: as the real network has it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After so long without a sign of life a connection is given up: as the real network's probes do.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// A lost packet is sent again after so long, and then after twice that.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// No message takes less.
const DELAY_MIN: Duration = Duration::from_micros(50);
/// Frames of one stream on their way.
const WINDOW_FRAMES: usize = 64;

/// One of those who talk: nodes count from 0, clients from [`CLIENTS`].
pub type Host = usize;
/// The first client.
pub const CLIENTS: Host = 1000;

/// How long messages take.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Weather {
    /// The least, in milliseconds.
    pub delay_ms_min: u64,
    /// The most, in milliseconds.
    pub delay_ms_max: u64,
    /// How many of a hundred are lost once.
    pub lost_percent: u64,
}

/// A process on a host: none answers for the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Where.
    pub host: Host,
    /// Which start of it.
    pub boot: u64,
}

/// What a process answers on.
#[derive(Clone)]
pub struct Ports {
    /// To peers.
    pub peers: Port<PeerPort>,
    /// To clients.
    pub clients: Port<ClientPort>,
}

#[derive(Clone, Copy)]
enum To {
    Peers,
    Clients,
}

/// The network. One for a run.
pub struct Net {
    trace: Arc<Trace>,
    state: Mutex<State>,
    /// Links were cut or healed.
    changed: Notify,
}

struct State {
    random: Random,
    weather: Weather,
    /// Faults that change the weather, in the order of their beginning: the last one has its way.
    storms: Vec<(u64, Weather)>,
    up: BTreeMap<Host, (u64, Ports)>,
    /// How many faults cut the link from one host to another.
    cut: BTreeMap<(Host, Host), u32>,
    /// Hosts that stand still.
    still: BTreeMap<Host, u32>,
    connections: Vec<Weak<Connection>>,
}

/// An open connection.
struct Connection {
    from: Process,
    to: Process,
    broken: CancellationToken,
}

impl State {
    fn is_cut(&self, from: Host, to: Host) -> bool {
        let is_still = |host| self.still.contains_key(&host);
        self.cut.contains_key(&(from, to)) || is_still(from) || is_still(to)
    }

    fn is_up(&self, process: Process) -> bool {
        process.host >= CLIENTS
            || self
                .up
                .get(&process.host)
                .is_some_and(|(boot, _)| *boot == process.boot)
    }

    fn delay(&mut self) -> Duration {
        let Weather {
            delay_ms_min,
            delay_ms_max,
            lost_percent,
        } = *self.storms.last().map_or(&self.weather, |(_, storm)| storm);
        let mut delay = DELAY_MIN + Duration::from_millis(self.random.among(delay_ms_min..delay_ms_max + 1));
        let mut wait = RETRANSMISSION;
        while self.random.percent(lost_percent) && wait < 8 * RETRANSMISSION {
            delay += wait;
            wait *= 2;
        }
        delay
    }
}

impl Net {
    /// A network without hosts.
    pub fn new(trace: Arc<Trace>, random: Random, weather: Weather) -> Arc<Net> {
        Arc::new(Net {
            trace,
            state: Mutex::new(State {
                random,
                weather,
                storms: Vec::new(),
                up: BTreeMap::new(),
                cut: BTreeMap::new(),
                still: BTreeMap::new(),
                connections: Vec::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// The peer URL of a node.
    pub fn peer_url(host: Host) -> String {
        format!("http://10.0.0.{}:2380", host + 1)
    }

    fn host_of(authority: &str) -> Option<Host> {
        let number: usize = authority
            .strip_prefix("10.0.0.")?
            .split(':')
            .next()?
            .parse()
            .ok()?;
        number.checked_sub(1)
    }

    /// How long messages take until [`Net::calm`] is told the number that this returns.
    pub fn storm(&self, weather: Weather) -> u64 {
        let mut state = self.state.lock();
        let number = state.storms.last().map_or(0, |(last, _)| last + 1);
        state.storms.push((number, weather));
        number
    }

    /// A storm is over, whichever else goes on.
    pub fn calm(&self, number: u64) {
        self.state.lock().storms.retain(|(storm, _)| *storm != number);
    }

    /// A process answers from now on.
    pub fn attach(&self, process: Process, ports: Ports) {
        let before = self.state.lock().up.insert(process.host, (process.boot, ports));
        assert!(before.is_none(), "a host runs one process");
    }

    /// A process is gone. The others hear of it at once where its kernel still runs, else by its silence.
    pub fn detach(self: &Arc<Net>, process: Process, is_told: bool) {
        {
            let mut state = self.state.lock();
            if !state.is_up(process) {
                return;
            }
            state.up.remove(&process.host);
        }
        let after = if is_told { Duration::ZERO } else { KEEPALIVE };
        self.break_later(after, move |net, connection| {
            let state = net.state.lock();
            !state.is_up(connection.from) || !state.is_up(connection.to)
        });
    }

    /// Breaks all connections of a host.
    pub fn reset(&self, host: Host) {
        for connection in self.connections() {
            if connection.from.host == host || connection.to.host == host {
                connection.broken.cancel();
            }
        }
    }

    /// Cuts links, each in its direction. Each cut needs its own [`Net::heal`].
    pub fn cut(self: &Arc<Net>, links: &[(Host, Host)]) {
        {
            let mut state = self.state.lock();
            for link in links {
                *state.cut.entry(*link).or_default() += 1;
            }
        }
        self.break_silent();
    }

    /// Takes cuts back.
    pub fn heal(&self, links: &[(Host, Host)]) {
        {
            let mut state = self.state.lock();
            for link in links {
                decrement(&mut state.cut, *link);
            }
        }
        self.changed.notify_waiters();
    }

    /// A host stands still: nothing reaches it, and it reaches nobody.
    pub fn freeze(self: &Arc<Net>, host: Host) {
        *self.state.lock().still.entry(host).or_default() += 1;
        self.break_silent();
    }

    /// It goes on.
    pub fn thaw(&self, host: Host) {
        decrement(&mut self.state.lock().still, host);
        self.changed.notify_waiters();
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        let mut state = self.state.lock();
        state
            .connections
            .retain(|connection| connection.strong_count() > 0);
        state.connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// Connections of links that are cut now and still are after the time of a probe break.
    fn break_silent(self: &Arc<Net>) {
        let is_silent = |net: &Net, connection: &Connection| {
            let (from, to) = (connection.from.host, connection.to.host);
            let state = net.state.lock();
            state.is_cut(from, to) || state.is_cut(to, from)
        };
        self.break_later(KEEPALIVE, is_silent);
    }

    fn break_later(
        self: &Arc<Net>,
        after: Duration,
        is_lost: impl Fn(&Net, &Connection) -> bool + Send + 'static,
    ) {
        let net = self.clone();
        let lost: Vec<_> = self
            .connections()
            .into_iter()
            .filter(|one| is_lost(&net, one))
            .collect();
        tokio::spawn(async move {
            sleep(after).await;
            for connection in lost {
                if is_lost(&net, &connection) {
                    connection.broken.cancel();
                }
            }
        });
    }

    /// Waits until a link is not cut.
    async fn passable(&self, from: Host, to: Host) {
        while self.state.lock().is_cut(from, to) {
            self.changed.notified().await;
        }
    }

    /// The time of one message.
    async fn travel(&self, from: Host, to: Host) {
        let delay = self.state.lock().delay();
        sleep(delay).await;
        self.passable(from, to).await;
    }

    async fn connect(&self, from: Process, to: Host) -> Result<Arc<Connection>, String> {
        let there_and_back = async {
            self.travel(from.host, to).await;
            self.travel(to, from.host).await;
        };
        if timeout(CONNECT_TIMEOUT, there_and_back).await.is_err() {
            return Err("connect: timed out".to_owned());
        }
        let mut state = self.state.lock();
        if !state.is_up(from) {
            return Err("this process is gone".to_owned());
        }
        let boot = state
            .up
            .get(&to)
            .map(|(boot, _)| *boot)
            .ok_or("connect: connection refused")?;
        let connection = Arc::new(Connection {
            from,
            to: Process { host: to, boot },
            broken: CancellationToken::new(),
        });
        state.connections.push(Arc::downgrade(&connection));
        Ok(connection)
    }

    /// Carries a request to the other end of a connection and its answer back.
    async fn exchange(
        self: Arc<Net>,
        connection: Arc<Connection>,
        to: To,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (here, there) = (connection.from.host, connection.to.host);
        self.travel(here, there).await;
        let ports = {
            let state = self.state.lock();
            let both = state.is_up(connection.from) && state.is_up(connection.to);
            state
                .up
                .get(&there)
                .filter(|_| both)
                .map(|(_, ports)| ports.clone())
        };
        let Some(Ports {
            mut peers,
            mut clients,
        }) = ports
        else {
            // It finds out when the connection breaks.
            return std::future::pending().await;
        };
        let request = request.map(|body| self.clone().carried(connection.clone(), (here, there), body));
        self.trace.note(&[
            here as u64,
            there as u64,
            u64::from(crc32c::crc32c(request.uri().path().as_bytes())),
        ]);
        // A task of its own: who no longer waits does not always stop it.
        let answering = tokio::spawn(match to {
            To::Peers => peers.call(request).boxed(),
            To::Clients => clients.call(request).boxed(),
        });
        let response = match answering.await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => return Err(lost()),
        };
        self.travel(there, here).await;
        self.trace
            .note(&[there as u64, here as u64, u64::from(response.status().as_u16())]);
        Ok(response.map(|body| self.carried(connection, (there, here), Body::new(body))))
    }

    /// A body as it arrives.
    fn carried(self: Arc<Net>, connection: Arc<Connection>, link: (Host, Host), body: Body) -> Body {
        let carrier = Carrier {
            net: self,
            connection,
            link,
            body: Some(body),
            on_its_way: VecDeque::new(),
            last: Instant::now(),
            is_first: true,
        };
        let frames = stream::unfold(carrier, |mut carrier| async move {
            let frame = carrier.next().await?;
            Some((frame, carrier))
        });
        Body::new(StreamBody::new(frames))
    }

    /// What `process` dials with.
    pub fn dial(self: &Arc<Net>, process: Process) -> Dial {
        let net = self.clone();
        Arc::new(move |endpoint, _| {
            let authority = endpoint
                .uri()
                .authority()
                .map_or("", |authority| authority.as_str());
            let to = Net::host_of(authority).unwrap_or(CLIENTS);
            net.transport(process, to, To::Peers)
        })
    }

    /// A client's way to a node.
    pub fn client(self: &Arc<Net>, client: Host, node: Host) -> Transport {
        self.transport(
            Process {
                host: client,
                boot: 0,
            },
            node,
            To::Clients,
        )
    }

    fn transport(self: &Arc<Net>, from: Process, host: Host, to: To) -> Transport {
        let net = self.clone();
        let open: Arc<Mutex<Option<Arc<Connection>>>> = Arc::default();
        BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
            let (net, open) = (net.clone(), open.clone());
            async move {
                let known = open
                    .lock()
                    .clone()
                    .filter(|connection| !connection.broken.is_cancelled());
                let connection = match known {
                    Some(connection) => connection,
                    None => {
                        let connected = net.connect(from, host).await;
                        let refused = |why| CarryError(ConnectError(io::Error::other(why).into()).into());
                        let connection = connected.map_err(refused)?;
                        *open.lock() = Some(connection.clone());
                        connection
                    }
                };
                let broken = connection.broken.clone();
                tokio::select! {
                    biased;
                    answer = net.exchange(connection, to, request) => answer.map_err(|status| CarryError(status.into())),
                    () = broken.cancelled() => Err(CarryError(lost().into())),
                }
            }
        }))
    }

    /// What carries the control calls of `process`.
    pub fn carry(self: &Arc<Net>, process: Process) -> Carry {
        let net = self.clone();
        Arc::new(move |request| {
            let to = request.uri().authority().and_then(|to| Net::host_of(to.as_str()));
            net.clone()
                .control(process, to.unwrap_or(CLIENTS), request)
                .boxed()
        })
    }

    async fn control(self: Arc<Net>, from: Process, to: Host, request: Request<Bytes>) -> Carried {
        let connection = self.connect(from, to).await.map_err(NotCarried::Unreached)?;
        let broken = connection.broken.clone();
        let mut request = request.map(|body| Body::new(http_body_util::Full::new(body)));
        // HTTP/1.1 names the path alone.
        *request.uri_mut() = request.uri().path().parse().unwrap_or_default();
        let answer = async {
            let response = self.exchange(connection, To::Peers, request).await?;
            let status: StatusCode = response.status();
            Ok::<_, Status>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|status| NotCarried::Unanswered(status.to_string())),
            () = broken.cancelled() => Err(NotCarried::Unanswered("the connection broke".to_owned())),
        }
    }
}

/// One body on its way, frame by frame.
struct Carrier {
    net: Arc<Net>,
    connection: Arc<Connection>,
    link: (Host, Host),
    body: Option<Body>,
    on_its_way: VecDeque<(Instant, Result<Frame<Bytes>, Status>)>,
    last: Instant,
    /// The first frame came with the head.
    is_first: bool,
}

impl Carrier {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let broken = self.connection.broken.clone();
        loop {
            let due = self.on_its_way.front().map(|(due, _)| *due);
            if self.body.is_none() && due.is_none() {
                return None;
            }
            tokio::select! {
                biased;
                frame = take(&mut self.body), if self.on_its_way.len() < WINDOW_FRAMES && self.body.is_some() => {
                    match frame {
                        Some(frame) => self.send(frame),
                        None => self.body = None,
                    }
                }
                () = sleep_until(due.unwrap_or(self.last)), if due.is_some() => {
                    return self.deliver().await;
                }
                () = broken.cancelled() => return self.give_up(),
            }
        }
    }

    fn send(&mut self, frame: Result<Frame<Bytes>, Status>) {
        let delay = match std::mem::replace(&mut self.is_first, false) {
            true => Duration::ZERO,
            // The end of a body comes with what was before it.
            false if !matches!(&frame, Ok(frame) if frame.is_data()) => Duration::ZERO,
            false => self.net.state.lock().delay(),
        };
        self.last = self.last.max(Instant::now() + delay);
        self.on_its_way.push_back((self.last, frame));
    }

    async fn deliver(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let (from, to) = self.link;
        let broken = self.connection.broken.clone();
        tokio::select! {
            biased;
            () = broken.cancelled() => return self.give_up(),
            () = self.net.passable(from, to) => {}
        }
        let is_up = {
            let state = self.net.state.lock();
            state.is_up(self.connection.from) && state.is_up(self.connection.to)
        };
        if !is_up {
            broken.cancelled().await;
            return self.give_up();
        }
        let (_, frame) = self.on_its_way.pop_front()?;
        if let Ok(frame) = &frame {
            let data = frame.data_ref().map_or(0, |data| crc32c::crc32c(data));
            self.net.trace.note(&[from as u64, to as u64, u64::from(data)]);
        }
        Some(frame)
    }

    fn give_up(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        (self.body, self.on_its_way) = (None, VecDeque::new());
        Some(Err(lost()))
    }
}

async fn take(body: &mut Option<Body>) -> Option<Result<Frame<Bytes>, Status>> {
    match body {
        Some(body) => body.frame().await,
        None => None,
    }
}

fn lost() -> Status {
    Status::unavailable("the connection broke")
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
