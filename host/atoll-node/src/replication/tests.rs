//! The board fed by hand: what follows for clients from what the transport says.

use super::peers::{DialNote, DialState};
use super::*;
use atoll_core::messages::Interest;
use atoll_core::messages::subscriber::Subscriber;
use atoll_core::permission::Refusal;
use atoll_core::replica::status::Readiness;

fn board(settings: Settings) -> Replication {
    let identity = Identity { name: "self".to_owned(), origin: Uuid::from_u128(7) };
    Replication::new(identity, settings).expect("a few peers")
}

fn endpoint(number: usize) -> Endpoint {
    Endpoint::new("peer", 7_000 + number as u16).expect("an endpoint")
}

fn set_dial(board: &Replication, number: usize, state: DialState) {
    let target = endpoint(number).to_string();
    board.note_dial(&endpoint(number), DialNote { target, state, node: None, now_ms: 1 });
}

#[test]
fn a_node_says_who_it_is_before_any_transport_runs() {
    let board = board(Settings { role: Role::Replica, ..Settings::default() });
    let status = board.status();
    assert_eq!((status.name.as_str(), status.role), ("self", Role::Replica));
    assert_eq!(status.origin, Uuid::from_u128(7));
    assert_eq!(board.permission().write(), Err(Refusal::ReadOnly));
    assert_eq!(board.permission().read(), Ok(()));
}

#[test]
fn a_node_with_peers_is_not_ready_before_any_transport_runs() {
    assert_eq!(board(Settings::default()).status().readiness, Readiness::Ready);
    let peers = vec![endpoint(1)];
    let board = board(Settings { peers, ..Settings::default() });
    assert_eq!(board.status().readiness, Readiness::Joining);
}

#[test]
fn readiness_decides_over_writes_as_it_is_published() {
    let board = board(Settings::default());
    assert_eq!(board.permission().write(), Ok(()));
    for (readiness, want) in [
        (Readiness::Skewed, Err(Refusal::Skewed)),
        (Readiness::Superseded, Err(Refusal::Superseded)),
        (Readiness::Joining, Ok(())),
        (Readiness::Ready, Ok(())),
    ] {
        board.publish_status(Status { readiness, ..Status::clone(&board.status()) });
        assert_eq!(board.permission().write(), want, "{readiness:?}");
        assert_eq!(board.status().readiness, readiness);
    }
}

#[test]
fn four_nodes_that_serve_nothing_stale_need_three() {
    let peers = (1..=3).map(endpoint).collect();
    let board = board(Settings { stale_reads: StaleReads::Refused, peers, ..Settings::default() });
    let served = |want: bool| {
        let wanted = if want { Ok(()) } else { Err(Refusal::NoQuorum) };
        assert_eq!((board.permission().read(), board.permission().write()), (wanted, wanted));
    };
    served(false);
    set_dial(&board, 1, DialState::Up);
    served(false);
    set_dial(&board, 2, DialState::Up);
    served(false);
    board.publish_status(Status { readiness: Readiness::Ready, ..Status::clone(&board.status()) });
    served(true);
    set_dial(&board, 1, DialState::Failed("cut".to_owned()));
    served(false);
    board.remove_peer(&endpoint(1)).expect("it is there");
    served(true);
    board.add_peer(endpoint(1)).expect("there is room");
    served(false);
    board.clear_peers();
    served(true);
}

/// As PUBLISH does it.
fn publish(board: &Replication, channel: &Bytes, payload: &Bytes) -> Result<usize, PublishError> {
    board.check_message(channel, payload)?;
    board.tell_others(channel, payload);
    Ok(board.messages().deliver(channel, payload))
}

#[test]
fn a_published_message_is_heard_here_and_handed_on_once() {
    let board = board(Settings::default());
    let mut listener = Subscriber::new(Arc::clone(board.messages()));
    listener.subscribe(Interest::Channel, b"news").expect("there is room");
    let sent = Arc::new(Mutex::new(Vec::new()));
    let outlet = Arc::clone(&sent);
    board.set_outlet(Box::new(move |channel, payload| {
        outlet.lock().unwrap().push((channel.clone(), payload.clone()));
    }));
    let (channel, payload) = (Bytes::from_static(b"news"), Bytes::from_static(b"hello"));
    assert_eq!(publish(&board, &channel, &payload), Ok(1));
    assert_eq!(*sent.lock().unwrap(), [(channel.clone(), payload.clone())]);
    assert_eq!(board.deliver(&channel, &payload), 1);
    assert_eq!(sent.lock().unwrap().len(), 1, "what comes from others is not sent back");
    assert_eq!(listener.take().map(|message| message.payload), Some(payload.clone()));
    assert_eq!(listener.take().map(|message| message.payload), Some(payload));
    assert_eq!(listener.take(), None);
}

#[test]
fn messages_of_a_replica_stay_on_it() {
    let board = board(Settings { role: Role::Replica, ..Settings::default() });
    board.set_outlet(Box::new(|_, _| panic!("a replica originates nothing")));
    assert_eq!(publish(&board, &Bytes::from_static(b"c"), &Bytes::new()), Ok(0));
}

#[test]
fn who_others_would_not_listen_to_is_told() {
    let board = board(Settings::default());
    board.set_outlet(Box::new(|_, _| panic!("the others would not take it")));
    board.publish_status(Status { readiness: Readiness::Skewed, ..Status::default() });
    let refused = Err(PublishError::Refused(Refusal::Skewed));
    assert_eq!(publish(&board, &Bytes::from_static(b"c"), &Bytes::new()), refused);
}

#[test]
fn a_message_that_is_too_long_reaches_nobody() {
    let board = board(Settings::default());
    board.set_outlet(Box::new(|_, _| panic!("too long to be sent")));
    let channel = Bytes::from(vec![b'c'; CHANNEL_BYTES_MAX + 1]);
    let len = channel.len();
    assert_eq!(publish(&board, &channel, &Bytes::new()), Err(PublishError::Channel { len }));
    let payload = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let len = payload.len();
    assert_eq!(publish(&board, &Bytes::new(), &payload), Err(PublishError::Message { len }));
}
