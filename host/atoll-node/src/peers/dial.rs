//! One peer that this node keeps dialling until it is linked with it, and again when it is not.

use super::accept::prepare;
use super::backoff::Backoff;
use super::introduction::{Purpose, Ticket};
use super::lane::End;
use super::limits::{ADDRESS_COUNT_MAX, CONNECT_WAIT, GOOD_LINK, LOOKUP_WAIT, ONESELF_RETRY};
use super::link::{self, Link};
use super::meeting::MeetError;
use super::roster::{Roster, Target, Whom};
use super::switchboard::Switchboard;
use crate::replication::peers::{DialNote, DialState};
use atoll_core::replica::{Connected, Dialler};
use atoll_core::wire::frame::Farewell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Keeps one target linked.
pub(super) struct Dialling {
    pub(super) switchboard: Rc<Switchboard>,
    pub(super) roster: Rc<Roster>,
    pub(super) target: Target,
    /// The target is no longer wanted: links with it end.
    pub(super) dropped: CancellationToken,
    /// Nothing more is to be dialled; links that are up stay as they are.
    pub(super) settled: CancellationToken,
}

/// What came of an attempt.
#[derive(Debug)]
struct Attempt {
    /// How long there was a link.
    lived: Duration,
    /// The node that answered, if one did.
    node: Option<String>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Ended(End),
    NotMet(MeetError),
}

/// When to dial again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Again {
    /// Once no link with this node is up any more.
    Unlinked(String),
    /// In a minute: this node is there itself.
    NextMinute,
    /// After a wait that grows slowly: people have something to do first.
    Slowly(String),
    /// After a wait that depends on how often it has failed.
    BackedOff(DialState),
}

impl Dialling {
    /// Dials, and dials again, until the target is dropped or all is settled.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new();
        let mut last_met = None;
        while !self.is_over() {
            let (again, node) = match self.link_with(last_met.as_deref()) {
                Some(node) => (Again::Unlinked(node.clone()), Some(node)),
                None => {
                    let attempt = self.attempt().await;
                    if self.is_over() {
                        return;
                    }
                    if attempt.lived >= GOOD_LINK {
                        backoff.reset();
                    }
                    (again(&attempt), attempt.node)
                }
            };
            last_met = node.clone().or(last_met);
            self.note(&again, node);
            tokio::select! {
                () = self.dropped.cancelled() => return,
                () = self.settled.cancelled() => return,
                () = self.wait(&again, &mut backoff) => {}
            }
        }
    }

    /// The node that was met here last, where it has dialled meanwhile. A link of our own could
    /// replace that one, and what is under way over it would be sent again.
    fn link_with(&self, last_met: Option<&str>) -> Option<String> {
        let linked = last_met.filter(|node| self.switchboard.hub.is_linked(node));
        linked.map(str::to_owned)
    }

    fn is_over(&self) -> bool {
        self.dropped.is_cancelled() || self.settled.is_cancelled()
    }

    async fn wait(&self, again: &Again, backoff: &mut Backoff) {
        let mut dice = [0; 4];
        // Without dice the waits are all alike, and that is all.
        let _ = getrandom::fill(&mut dice);
        let dice = u32::from_ne_bytes(dice);
        match again {
            Again::Unlinked(node) => {
                let started = Instant::now();
                self.unlinked(node).await;
                if started.elapsed() >= GOOD_LINK {
                    backoff.reset();
                }
                sleep(backoff.after_failure(dice)).await;
            }
            Again::NextMinute => sleep(ONESELF_RETRY).await,
            Again::Slowly(_) => sleep(backoff.after_refusal(dice)).await,
            Again::BackedOff(_) => sleep(backoff.after_failure(dice)).await,
        }
    }

    /// Completes once no link with `node` is up.
    async fn unlinked(&self, node: &str) {
        let hub = &self.switchboard.hub;
        loop {
            // Before the look: what happens after it is then not missed.
            let changed = hub.changed();
            if !hub.is_linked(node) {
                return;
            }
            changed.await;
        }
    }

    async fn attempt(&self) -> Attempt {
        let not_met =
            |error| Attempt { lived: Duration::ZERO, node: None, outcome: Outcome::NotMet(error) };
        let meet = async {
            let stream = self.connect().await?;
            let address = stream.peer_addr().map_err(failed)?;
            let met = self.switchboard.meeting.dial(stream, Purpose::Link).await?;
            Ok((met, address))
        };
        let met = tokio::select! {
            () = self.dropped.cancelled() => Err(MeetError::Failed("no longer wanted".to_owned())),
            () = self.settled.cancelled() => Err(MeetError::Failed("the node stops".to_owned())),
            met = meet => met,
        };
        let (mut met, address) = match met {
            Ok(met) => met,
            Err(error) => return not_met(error),
        };
        let hub = &self.switchboard.hub;
        let greeted = match Ticket::draw() {
            Ok(ours) => met.greet(&hub.hello(), ours).await,
            Err(error) => Err(failed(error)),
        };
        let (hello, ticket) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => return not_met(error),
        };
        let (name, node) = (hello.name.clone(), Some(hello.name.clone()));
        let dialler = Dialler::Us(self.target.endpoint.to_string());
        let connected = |link| Connected { link, hello, dialler, address: address.to_string() };
        let outlets = hub.connect(connected, met.peer.reads_zstd);
        let id = outlets.link;
        let started = Instant::now();
        let link = Link { outlets, address, live: met.messages };
        let bulk = self.second(address, ticket);
        let mut running = pin!(link::run(hub, link, bulk, || self.note_up(&name)));
        let end = tokio::select! {
            end = &mut running => end,
            () = self.dropped.cancelled() => {
                let reason = "the node there was told to link with this one no longer".to_owned();
                hub.close(id, Farewell::Later(reason));
                running.await
            }
        };
        Attempt { lived: started.elapsed(), node, outcome: Outcome::Ended(end) }
    }

    /// The first of the target's addresses that answers.
    async fn connect(&self) -> Result<TcpStream, MeetError> {
        let addresses = match self.target.address {
            Some(address) => vec![address],
            None => lookup(&self.target).await?,
        };
        let mut last = MeetError::Failed("the name stands for no address".to_owned());
        for address in addresses.into_iter().take(ADDRESS_COUNT_MAX) {
            match connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The second connection of a link.
    async fn second(
        &self,
        address: SocketAddr,
        ticket: Ticket,
    ) -> Result<super::handshake::Messages<super::channel::Stream>, String> {
        let dial = async {
            let stream = connect(address).await?;
            self.switchboard.meeting.dial(stream, Purpose::Bulk(ticket)).await
        };
        let mut met = dial.await.map_err(|error| error.to_string())?;
        super::handshake::open_up(&mut met.messages);
        Ok(met.messages)
    }

    fn note_up(&self, node: &str) {
        let hub = &self.switchboard.hub;
        hub.complaints.forget(&self.target.text);
        self.roster.mark(&self.target, Whom::Another);
        self.publish(DialState::Up, Some(node.to_owned()));
    }

    fn note(&self, again: &Again, node: Option<String>) {
        let complaints = &self.switchboard.hub.complaints;
        if *again == Again::NextMinute {
            self.roster.mark(&self.target, Whom::Oneself);
        }
        let state = match again {
            Again::Unlinked(_) => DialState::Up,
            Again::NextMinute => DialState::Itself,
            Again::Slowly(reason) => DialState::Refused(reason.clone()),
            Again::BackedOff(state) => state.clone(),
        };
        if let Some(reason) = state.reason() {
            complaints.say(&self.target.text, reason);
        }
        self.publish(state, node);
    }

    fn publish(&self, state: DialState, node: Option<String>) {
        let Target { endpoint, text, .. } = &self.target;
        let board = &self.switchboard.hub.node;
        let now_ms = board.now().millis();
        let note = DialNote { target: text.clone(), state, node, now_ms };
        board.replication().note_dial(endpoint, note);
    }
}

fn again(attempt: &Attempt) -> Again {
    let farewell = match &attempt.outcome {
        Outcome::NotMet(MeetError::Refused(reason)) => return Again::Slowly(reason.clone()),
        Outcome::NotMet(MeetError::Failed(reason)) | Outcome::Ended(End::Lost(reason)) => {
            return Again::BackedOff(DialState::Failed(reason.clone()));
        }
        Outcome::Ended(End::Told(farewell) | End::Heard(farewell)) => farewell,
    };
    let words = super::handshake::words(farewell);
    match farewell {
        Farewell::Duplicate => Again::Unlinked(attempt.node.clone().unwrap_or_default()),
        Farewell::Oneself => Again::NextMinute,
        Farewell::Refused(_) => Again::Slowly(words),
        Farewell::Later(_) => Again::BackedOff(DialState::Refused(words)),
        Farewell::Stopping => Again::BackedOff(DialState::Failed(words)),
    }
}

async fn lookup(target: &Target) -> Result<Vec<SocketAddr>, MeetError> {
    let (host, port) = (target.endpoint.host(), target.endpoint.port());
    let late = || {
        let waited_s = LOOKUP_WAIT.as_secs();
        MeetError::Failed(format!("the name {host} was not resolved within {waited_s} s"))
    };
    let found = timeout(LOOKUP_WAIT, lookup_host((host, port))).await;
    let found = found.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)));
    match found {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(late()),
        Err(error) => Err(MeetError::Failed(format!("the name {host} is not known: {error}"))),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, MeetError> {
    let stream = match timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| failed(format!("{address}: {error}")))?,
        Err(_) => {
            let waited_s = CONNECT_WAIT.as_secs();
            return Err(failed(format!("{address} does not answer within {waited_s} s")));
        }
    };
    prepare(&stream).map_err(failed)?;
    Ok(stream)
}

fn failed(error: impl std::fmt::Display) -> MeetError {
    MeetError::Failed(error.to_string())
}
