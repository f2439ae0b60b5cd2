//! Messages over real sockets: between clients, beside long requests, to those who do not read.

use super::{PATIENCE, Port, expect, send, until};
use atoll_core::limits::MESSAGE_BYTES_MAX;
use bytes::Bytes;
use std::io::{Read, Write};
use std::time::Instant;

#[test]
fn a_message_goes_from_one_client_to_another() {
    let port = Port::open();
    let (mut listener, mut speaker) = (port.connect(), port.connect());
    send(&mut listener, "SUBSCRIBE news\r\nPSUBSCRIBE n*\r\n");
    expect(&mut listener, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    expect(&mut listener, "*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:2\r\n");
    for round in 0..100 {
        send(&mut speaker, &format!("PUBLISH news {round}\r\n"));
        expect(&mut speaker, ":2\r\n");
        let text = format!("${}\r\n{round}\r\n", round.to_string().len());
        expect(&mut listener, &format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n{text}"));
        let head = "*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n";
        expect(&mut listener, &format!("{head}{text}"));
    }
    drop(listener);
    until(|| port.node.replication().messages().counts().listeners == 0);
    send(&mut speaker, "PUBLISH news x\r\n");
    expect(&mut speaker, ":0\r\n");
}

#[test]
fn a_message_does_not_wait_for_the_end_of_a_long_request() {
    let port = Port::open();
    let (mut listener, mut speaker) = (port.connect(), port.connect());
    send(&mut listener, "HELLO 3\r\nSUBSCRIBE news\r\n");
    until(|| port.node.replication().messages().counts().listeners == 1);
    let value = vec![b'v'; 1 << 20];
    send(&mut listener, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n");
    listener.write_all(&value[..1 << 19]).expect("half of it is sent");
    send(&mut speaker, "PUBLISH news 1\r\n");
    expect(&mut speaker, ":1\r\n");
    let mut seen = String::new();
    let want = ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\n1\r\n";
    while !seen.ends_with(want) {
        let mut byte = [0];
        listener.read_exact(&mut byte).expect("the message comes");
        seen.push(char::from(byte[0]));
    }
    listener.write_all(&value[1 << 19..]).expect("the rest is sent");
    send(&mut listener, "\r\nSTRLEN k\r\n");
    expect(&mut listener, "+OK\r\n:1048576\r\n");
}

#[test]
fn a_listener_that_does_not_read_is_closed_and_counted() {
    let port = Port::open();
    let (mut slow, mut other) = (port.connect(), port.connect());
    send(&mut slow, "SUBSCRIBE c\r\n");
    until(|| port.node.replication().messages().counts().listeners == 1);
    let (channel, payload) = (Bytes::from_static(b"c"), Bytes::from(vec![b'p'; MESSAGE_BYTES_MAX]));
    let deadline = Instant::now() + PATIENCE;
    let messages = port.node.replication().messages();
    while messages.counts().cut_off == 0 {
        assert!(Instant::now() < deadline, "it is never cut off");
        messages.deliver(&channel, &payload);
    }
    // At once, and not when its time to take a batch is over.
    until(|| messages.counts().listeners == 0);
    assert_eq!(messages.counts().queued_bytes, 0);
    send(&mut other, "INFO stats\r\n");
    let (mut text, mut piece) = (String::new(), [0; 4_096]);
    // It may come in pieces.
    while !text.contains("client_output_buffer_limit_disconnections:1\r\n") {
        let len = other.read(&mut piece).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(len > 0, "{text}");
        text += &String::from_utf8_lossy(&piece[..len]);
    }
    let mut rest = Vec::new();
    // Reset or ended: the messages that it has missed are not made up for.
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < 64 * MESSAGE_BYTES_MAX);
}

#[test]
fn a_silent_listener_is_not_idle() {
    let port = Port::open();
    let (mut listener, mut other) = (port.connect(), port.connect());
    send(&mut listener, "SUBSCRIBE c\r\n");
    expect(&mut listener, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    send(&mut other, "CONFIG SET timeout 1\r\n");
    expect(&mut other, "+OK\r\n");
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).expect("it is closed");
    port.node.replication().messages().deliver(&Bytes::from_static(b"c"), &Bytes::new());
    expect(&mut listener, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n");
}

#[test]
fn a_message_is_numbered_for_the_other_nodes() {
    let port = Port::open();
    let mut client = port.connect();
    let before = port.node.store().seq();
    send(&mut client, "PUBLISH c 1\r\n");
    expect(&mut client, ":0\r\n");
    assert_eq!(port.node.store().seq(), before + 1);
    let long = "x".repeat(1_025);
    send(&mut client, &format!("PUBLISH {long} 1\r\n"));
    expect(&mut client, "-ERR a channel of 1025 bytes exceeds the maximum of 1024 bytes\r\n");
    assert_eq!(port.node.store().seq(), before + 1);
}
