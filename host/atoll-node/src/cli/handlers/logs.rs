//! `atoll logs`: what a handler says.

use super::super::client::{Ask, ClientArgs, escape, text};
use super::super::output::{print, visible};
use super::OTHER_VERSION;
use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use ureq::http::Method;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll logs counter
  atoll logs counter --tail 10 --follow
  atoll logs counter --json | jq -r .text

Each node keeps the last thousand lines of a handler, 128 KiB at most, until it ends. They are those
of this node alone: ask the others with --api.")]
pub(in crate::cli) struct LogsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Name of the handler
    name: String,
    /// Go on with what it says from now on, until this is stopped
    #[arg(long, short)]
    follow: bool,
    /// Lines to begin with
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    tail: usize,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct Lines {
    lines: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Line {
    time_ms: u64,
    level: String,
    version: u64,
    text: String,
}

/// Prints the lines, and goes on if asked to.
pub(in crate::cli) fn logs(args: &LogsArgs) -> anyhow::Result<()> {
    let client = args.client.client()?;
    let path = format!("/v1/handlers/{}/logs?tail={}", escape(args.name.as_bytes()), args.tail);
    if !args.follow {
        let answer = text(client.fetch(Ask::new(Method::GET, path))?)?;
        let answer: Lines = serde_json::from_str(&answer).context(OTHER_VERSION)?;
        return answer.lines.iter().try_for_each(|line| show(&line.to_string(), args.json));
    }
    let answer = client.fetch(Ask::new(Method::GET, path + "&follow=1"))?;
    let ended = "the node ended the log; start this again to go on";
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.context(ended)?;
        if let Some(data) = line.strip_prefix("data: ") {
            show(data, args.json)?;
        }
    }
    bail!(ended)
}

fn show(line: &str, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print(format!("{line}\n"));
    }
    let line: Line = serde_json::from_str(line).context(OTHER_VERSION)?;
    print(render(&line))
}

/// `2026-11-28T05:30:00.123Z v2 warn  nearly full`.
fn render(line: &Line) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(line.time_ms);
    let at = httpdate::HttpDate::from(at).to_string();
    let Line { time_ms, level, version, text } = line;
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
            time_ms: 1_795_843_800_123,
            level: "warn".to_owned(),
            version: 2,
            text: "full\n00:00:00.000 v2 info  fine".to_owned(),
        };
        let shown = render(&line);
        assert_eq!(shown, "05:30:00.123 v2 warn  full\\n00:00:00.000 v2 info  fine\n");
    }
}
