//! Connections between nodes that a test can cut.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
};

use hyper_util::rt::TokioIo;
use kv_node::raft::network::{Dial, over_http2};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::Endpoint;

use super::*;

/// What becomes of what two nodes have to say to each other over connections that the first one has made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// What is on its way stands still, as in a network that is cut.
    Still,
    /// The connection breaks.
    Broken,
}

/// By the peer ports of who connected to whom.
type Rule = Box<dyn Fn(u16, u16) -> Passage + Send>;

/// The connections of all nodes to their peers.
#[derive(Clone)]
pub(super) struct Switches(Arc<Mutex<Board>>);

struct Board {
    rule: Rule,
    waiting: Vec<Waker>,
    /// By the peer port of who gets them.
    sent_bytes: BTreeMap<u16, usize>,
}

impl Default for Switches {
    fn default() -> Switches {
        let board = Board {
            rule: Box::new(|_, _| Passage::Open),
            waiting: Vec::new(),
            sent_bytes: BTreeMap::new(),
        };
        Switches(Arc::new(Mutex::new(board)))
    }
}

impl Switches {
    /// From now on, this is what passes.
    pub(super) fn set(&self, rule: impl Fn(u16, u16) -> Passage + Send + 'static) {
        let mut board = self.0.lock().unwrap();
        board.rule = Box::new(rule);
        board.waiting.drain(..).for_each(Waker::wake);
    }

    /// Cuts a node off from all others, and nothing else.
    pub(super) fn cut_off(&self, node: u16) {
        self.set(move |from, to| match node == from || node == to {
            true => Passage::Still,
            false => Passage::Open,
        });
    }

    pub(super) fn heal(&self) {
        self.set(|_, _| Passage::Open);
    }

    /// Bytes that were sent to a node, which need not have come.
    pub(super) fn sent_bytes(&self, to: u16) -> usize {
        self.0.lock().unwrap().sent_bytes.get(&to).copied().unwrap_or(0)
    }

    fn passage(&self, from: u16, to: u16, context: &mut Context<'_>) -> Passage {
        let mut board = self.0.lock().unwrap();
        let passage = (board.rule)(from, to);
        // Who waits for the other side, too: it may never answer.
        let waker = context.waker();
        if !board.waiting.iter().any(|known| known.will_wake(waker)) {
            board.waiting.push(waker.clone());
        }
        passage
    }

    /// Connects a node to its peers through the switches.
    fn dial(&self, from: u16) -> Dial {
        let switches = self.clone();
        Arc::new(move |endpoint: Endpoint, _tls| {
            let to = endpoint.uri().port_u16().unwrap();
            let switches = switches.clone();
            over_http2(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                let switches = switches.clone();
                async move {
                    let stream = TcpStream::connect(("127.0.0.1", to)).await?;
                    stream.set_nodelay(true)?;
                    Ok::<_, io::Error>(TokioIo::new(Line {
                        stream,
                        switches,
                        from,
                        to,
                    }))
                }
            })))
        })
    }
}

/// A connection through the switches.
struct Line {
    stream: TcpStream,
    switches: Switches,
    from: u16,
    to: u16,
}

impl Line {
    fn open(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TcpStream>>> {
        let line = self.get_mut();
        match line.switches.passage(line.from, line.to, context) {
            Passage::Open => Poll::Ready(Ok(Pin::new(&mut line.stream))),
            Passage::Still => Poll::Pending,
            Passage::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (switches, to) = (self.switches.clone(), self.to);
        let sent = ready!(ready!(self.open(context))?.poll_write(context, bytes))?;
        *switches.0.lock().unwrap().sent_bytes.entry(to).or_default() += sent;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.open(context))?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

pub(super) fn port(machine: &Machine) -> u16 {
    machine.peer.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Starts a node that reaches its peers through the switches.
pub(super) async fn start_switched(config: Config, switches: &Switches, own: u16) -> Up {
    let mut running = Running::open(config).await.unwrap();
    let env = Env {
        dial: switches.dial(own),
        ..Env::real()
    };
    let node = running.start(env).await.unwrap();
    Up { running, node }
}

/// Who leads, leaving one out of account.
pub(super) fn leader_of(nodes: &[Up], except: Option<usize>) -> Option<usize> {
    nodes
        .iter()
        .enumerate()
        .position(|(i, up)| Some(i) != except && up.leads())
}
