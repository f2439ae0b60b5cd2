//! What a node tells of itself over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::resp::Connection;
use crate::server::{Doors, Server};

/// No answer takes this long, unless the node hangs.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) server: Server,
    pub(super) doors: Doors,
}

impl Node {
    /// A connection to its RESP port.
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.doors.resp)
    }

    /// What it says of the cluster.
    pub(super) fn view(&self) -> anyhow::Result<Value> {
        let text = get(self.doors.api, "/v1/cluster")?;
        serde_json::from_str(&text).with_context(|| format!("/v1/cluster says {text}"))
    }

    /// The sum of its metrics of one name, whatever their labels; 0 where there is none.
    pub(super) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = get(self.doors.api, "/metrics")?;
        ensure!(text.ends_with("# EOF\n"), "/metrics breaks off");
        sum_of(&text, name).with_context(|| format!("metric {name}"))
    }
}

fn sum_of(text: &str, name: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        // Another name may begin with this one.
        if rest.starts_with([' ', '{']) {
            let value = rest.rsplit(' ').next().unwrap_or_default();
            sum += value.parse::<f64>().with_context(|| line.to_owned())?;
        }
    }
    Ok(sum)
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("GET {path}"))?;
    body_of(&answer).with_context(|| format!("GET {path}"))
}

fn body_of(answer: &str) -> anyhow::Result<String> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no head: {answer:?}") };
    ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let head = head.to_ascii_lowercase();
    ensure!(!head.contains("transfer-encoding"), "a body in chunks");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
        let text = "# HELP a Some.\na{b=\"x y\"} 2\na{b=\"c\"} 0.5\na_total 7\n# EOF\n";
        assert_eq!(sum_of(text, "a").ok(), Some(2.5));
        assert_eq!(sum_of(text, "a_total").ok(), Some(7.0));
        assert_eq!(sum_of(text, "b").ok(), Some(0.0));
        assert!(sum_of("a x\n", "a").is_err());
    }

    #[test]
    fn only_whole_answers_count() {
        assert_eq!(body_of("HTTP/1.1 200 OK\r\na: b\r\n\r\nbody").ok().as_deref(), Some("body"));
        assert!(body_of("HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(body_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4").is_err());
        assert!(body_of("HTTP/1.1 200 OK").is_err());
    }
}
