//! `atoll logs`: what a handler says, on all nodes.

use super::super::client::{Ask, Client, ClientArgs, escape, text};
use super::super::output::{print, visible};
use super::{OTHER_VERSION, everywhere};
use anyhow::{Context, bail, ensure};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use ureq::http::Method;

/// Lines of all nodes that wait to be printed.
const WAITING_COUNT_MAX: usize = 1_000;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll logs counter
  atoll logs counter --tail 10 --follow
  atoll logs counter --json | jq -r .text
  atoll logs counter --also 10.0.0.7:8081

Each node keeps the last thousand lines of a handler, 128 KiB at most, until it ends. All nodes are
asked, and each line names its own. The node that is asked first knows where the APIs of the others
are: where they listen, or what they were told with atoll serve --api-advertise. One that is not found
there is named with --also, or asked itself. A token goes to all of them.")]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// Go on with what it says from now on, until this is stopped
    #[arg(long, short)]
    follow: bool,
    /// Lines of each node to begin with
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    tail: usize,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    /// The API of another node that is asked as well; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    also: Vec<String>,
    /// Ask no node but the one at --api
    #[arg(long, conflicts_with = "also")]
    this_node: bool,
}

#[derive(Debug, Deserialize)]
struct Lines {
    node: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    #[serde(default)]
    node: String,
    seq: u64,
    time_ms: u64,
    level: String,
    version: u64,
    text: String,
}

/// A node that is asked, and what it had to say when it was.
struct Place {
    client: Client,
    node: String,
    lines: Vec<Line>,
}

/// Prints the lines, and goes on if asked to.
pub(in crate::cli) fn logs(args: &LogsArgs) -> anyhow::Result<()> {
    let mut places = args.places()?;
    let is_one = places.len() == 1;
    let mut lines: Vec<Line> =
        places.iter_mut().flat_map(|place| std::mem::take(&mut place.lines)).collect();
    if !args.follow {
        // A stable sort: those of one node stay in their order.
        lines.sort_by_key(|line| line.time_ms);
        return lines.iter().try_for_each(|line| args.show(line, is_one));
    }
    let (sender, receiver) = sync_channel(WAITING_COUNT_MAX);
    for place in places {
        let (path, sender) = (args.path() + "&follow=1", sender.clone());
        std::thread::spawn(move || follow(&place, path, &sender));
    }
    drop(sender);
    args.print_all(&receiver, is_one)
}

impl LogsArgs {
    fn path(&self) -> String {
        format!("/v1/handlers/{}/logs?tail={}", escape(self.name.as_bytes()), self.tail)
    }

    /// The nodes to ask. The first one must answer; another that does not is told of.
    fn places(&self) -> anyhow::Result<Vec<Place>> {
        let first = self.place(self.client.client()?)?;
        if self.this_node {
            return Ok(vec![first]);
        }
        let others = everywhere::others(&first.client, &self.name)?;
        let mut places = vec![first];
        for address in &self.also {
            let place = self.place(places[0].client.at(address))?;
            places.push(place);
        }
        for other in others {
            if places.iter().any(|place| place.node == other.node) {
                continue;
            }
            match self.find(&places[0].client, &other) {
                Ok(place) => places.push(place),
                Err(error) => {
                    let node = visible(&other.node);
                    eprintln!(
                        "atoll: {node} is not asked: {error:#}; name its API with --also, or start \
                         that node with --api-advertise"
                    );
                }
            }
        }
        Ok(places)
    }

    /// Another node, if it is found where it says that it is.
    fn find(&self, client: &Client, other: &everywhere::Other) -> anyhow::Result<Place> {
        let api = other.api.as_deref().context("it has not said where its API is")?;
        let place = self.place(client.at(api))?;
        // An address such as 127.0.0.1 means another node on another machine.
        let found = visible(&place.node);
        ensure!(place.node == other.node, "at {} there is {found}", visible(api));
        Ok(place)
    }

    fn place(&self, client: Client) -> anyhow::Result<Place> {
        let answer = text(client.fetch(Ask::new(Method::GET, self.path()))?)?;
        let Lines { node, mut lines } = serde_json::from_str(&answer).context(OTHER_VERSION)?;
        lines.iter_mut().for_each(|line| line.node.clone_from(&node));
        Ok(Place { client, node, lines })
    }

    /// Prints what comes until no node is left.
    fn print_all(&self, receiver: &Receiver<Told>, is_one: bool) -> anyhow::Result<()> {
        for told in receiver {
            match told {
                Told::Line(line) => self.show(&line, is_one)?,
                Told::End(node, why) if !is_one => {
                    eprintln!("atoll: the log of {} has ended: {why:#}", visible(&node));
                }
                Told::End(_, why) => eprintln!("atoll: {why:#}"),
            }
        }
        bail!("no node goes on with the log; start this again to go on")
    }

    fn show(&self, line: &Line, is_one: bool) -> anyhow::Result<()> {
        if self.json {
            return print(serde_json::to_string(line).context("text and numbers")? + "\n");
        }
        let node = if is_one { String::new() } else { format!("{}  ", visible(&line.node)) };
        print(node + &render(line))
    }
}

/// What a followed node says.
enum Told {
    Line(Line),
    End(String, anyhow::Error),
}

fn follow(place: &Place, path: String, sender: &SyncSender<Told>) {
    let ended = match forward(place, path, sender) {
        Ok(()) => anyhow::anyhow!("the node ended it"),
        Err(error) => error,
    };
    // Whoever reads may have seen enough.
    let _ = sender.send(Told::End(place.node.clone(), ended));
}

fn forward(place: &Place, path: String, sender: &SyncSender<Told>) -> anyhow::Result<()> {
    let answer = place.client.fetch(Ask::new(Method::GET, path))?;
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.context("the node ended it")?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let line: Line = serde_json::from_str(data).context(OTHER_VERSION)?;
        let line = Line { node: place.node.clone(), ..line };
        if sender.send(Told::Line(line)).is_err() {
            break;
        }
    }
    Ok(())
}

/// `05:30:00.123 v2 warn  nearly full`.
fn render(line: &Line) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(line.time_ms);
    let at = httpdate::HttpDate::from(at).to_string();
    let Line { time_ms, level, version, text, .. } = line;
    // `Sat, 28 Nov 2026 05:30:00 GMT`: the day is known to whoever reads a log.
    let time = at.split(' ').nth(4).unwrap_or_default();
    let (ms, level, text) = (time_ms % 1_000, visible(level), visible(text));
    format!("{time}.{ms:03} v{version} {level:<5} {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_pretend_to_be_two() {
        let line = Line {
            node: "a".to_owned(),
            seq: 1,
            time_ms: 1_795_843_800_123,
            level: "warn".to_owned(),
            version: 2,
            text: "full\n00:00:00.000 v2 info  fine".to_owned(),
        };
        let shown = render(&line);
        assert_eq!(shown, "05:30:00.123 v2 warn  full\\n00:00:00.000 v2 info  fine\n");
    }
}
