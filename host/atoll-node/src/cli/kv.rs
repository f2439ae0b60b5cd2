//! `atoll kv`: keys from the command line.

use super::client::{Ask, Client, ClientArgs, Refusal, accepted, escape, text};
use super::output::{print, table, visible};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use ureq::SendBody;
use ureq::http::Method;

/// From this length on the node is asked before a value is sent: it may refuse it.
const EXPECT_BYTES_MIN: u64 = 1 << 20;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll kv set greeting hello              store a value
  atoll kv set session:7 abc --ttl 1800    ... for half an hour
  atoll kv set page --file index.html --type text/html
  date | atoll kv set now -                ... from stdin
  atoll kv get greeting                    the bytes, as they were stored
  atoll kv list --prefix session:
  atoll kv watch --prefix session:         changes while they happen
  atoll kv del greeting")]
pub(super) struct KvArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Bucket of the keys
    #[arg(long, short, global = true, value_name = "NAME", default_value = "default")]
    bucket: String,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    /// Print a value, byte for byte; exit code 1 where there is none
    Get {
        /// Any bytes, 1 to 1024 of them
        key: OsString,
    },
    /// Store a value
    Set(SetArgs),
    /// Delete keys; one that is not there is deleted already
    Del {
        /// Any bytes, 1 to 1024 of them
        #[arg(required = true)]
        keys: Vec<OsString>,
    },
    /// List keys by name
    List {
        /// Only names that begin with it
        #[arg(long, value_name = "PREFIX", default_value = "")]
        prefix: OsString,
        /// Print one JSON object a line, with size, version and lifetime
        #[arg(long)]
        json: bool,
    },
    /// Print changes while they happen
    Watch {
        /// Only keys that begin with it
        #[arg(long, value_name = "PREFIX", default_value = "")]
        prefix: OsString,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct SetArgs {
    /// Any bytes, 1 to 1024 of them
    key: OsString,
    /// The value, or - to read it from stdin
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Seconds until the key is gone, such as 60 or 0.5
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<String>,
    /// Media type to store with it, such as text/html
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,
}

impl SetArgs {
    /// The bytes of the value, and how many there are where that is known.
    fn source(&self) -> anyhow::Result<(Box<dyn Read + '_>, Option<u64>)> {
        match (&self.file, &self.value) {
            (Some(path), _) => {
                let cannot = || format!("cannot read {}", path.display());
                let file = File::open(path).with_context(cannot)?;
                let metadata = file.metadata().with_context(cannot)?;
                Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
            }
            (None, Some(value)) if value != "-" => {
                let value = value.as_bytes();
                Ok((Box::new(value), Some(value.len() as u64)))
            }
            _ => Ok((Box::new(io::stdin().lock()), None)),
        }
    }
}

/// Runs the command.
pub(super) fn kv(args: &KvArgs) -> anyhow::Result<()> {
    let node = Node { client: args.client.client()?, bucket: &args.bucket };
    match &args.command {
        KvCommand::Get { key } => node.get(key),
        KvCommand::Set(set) => node.set(set),
        KvCommand::Del { keys } => keys.iter().try_for_each(|key| node.delete(key)),
        KvCommand::List { prefix, json } => node.list(prefix, Form::new(*json)),
        KvCommand::Watch { prefix, json } => node.watch(prefix, Form::new(*json)),
    }
}

/// For whom the output is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Person,
    Program,
}

impl Form {
    fn new(json: bool) -> Form {
        if json { Form::Program } else { Form::Person }
    }
}

/// A bucket of a node.
struct Node<'a> {
    client: Client,
    bucket: &'a str,
}

/// A line of a listing.
#[derive(Debug, Deserialize)]
struct Listed {
    name: Option<String>,
    name_b64: Option<String>,
    size: u64,
    expires_at: Option<serde_json::Number>,
}

impl Node<'_> {
    fn bucket_path(&self) -> String {
        format!("/v1/kv/{}", escape(self.bucket.as_bytes()))
    }

    fn key_path(&self, key: &OsStr) -> String {
        format!("{}/{}", self.bucket_path(), escape(key.as_bytes()))
    }

    fn get(&self, key: &OsStr) -> anyhow::Result<()> {
        let answer =
            self.client.send(Ask::new(Method::GET, self.key_path(key)), SendBody::none())?;
        if !answer.status().is_success() {
            let refusal = Refusal::of(answer);
            if refusal.code != "no-such-key" {
                return Err(refusal.into_error());
            }
            let (key, bucket) = (visible(&key.to_string_lossy()), visible(self.bucket));
            bail!("there is no key {key} in the bucket {bucket}; see: atoll kv list");
        }
        let mut body = answer.into_body().into_reader();
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = body.read(&mut piece).context("the value was cut short")?;
            if count == 0 {
                return Ok(());
            }
            print(&piece[..count])?;
        }
    }

    fn set(&self, set: &SetArgs) -> anyhow::Result<()> {
        let mut path = self.key_path(&set.key);
        if let Some(ttl) = &set.ttl {
            path += &format!("?ttl={}", escape(ttl.as_bytes()));
        }
        let (mut source, length) = set.source()?;
        let may_be_refused = length.is_none_or(|length| length >= EXPECT_BYTES_MIN);
        let length = length.map(|length| length.to_string());
        let content_type = set.content_type.as_ref();
        let mut headers: Vec<_> =
            content_type.iter().map(|kind| ("content-type", &kind[..])).collect();
        headers.extend(length.iter().map(|length| ("content-length", &length[..])));
        headers.extend(may_be_refused.then_some(("expect", "100-continue")));
        let ask = Ask { headers: &headers, ..Ask::new(Method::PUT, path) };
        accepted(self.client.send(ask, SendBody::from_reader(&mut source))?)?;
        Ok(())
    }

    fn delete(&self, key: &OsStr) -> anyhow::Result<()> {
        self.client.fetch(Ask::new(Method::DELETE, self.key_path(key)))?;
        Ok(())
    }

    /// Prints page after page, so that a listing of any length takes little memory.
    fn list(&self, prefix: &OsStr, form: Form) -> anyhow::Result<()> {
        let mut path = format!("{}?prefix={}", self.bucket_path(), escape(prefix.as_bytes()));
        loop {
            let headers = [("accept", "application/x-ndjson")];
            let answer =
                self.client.fetch(Ask { headers: &headers, ..Ask::new(Method::GET, path) })?;
            let link = answer.headers().get("link").and_then(|link| link.to_str().ok());
            let next = link.and_then(next_page).map(str::to_owned);
            let lines = text(answer)?;
            match form {
                Form::Program => print(lines)?,
                Form::Person => print(readable(&lines)?)?,
            }
            match next {
                Some(next) => path = next,
                None => return Ok(()),
            }
        }
    }

    fn watch(&self, prefix: &OsStr, form: Form) -> anyhow::Result<()> {
        let path = format!("{}?watch={}", self.bucket_path(), escape(prefix.as_bytes()));
        let answer = self.client.fetch(Ask::new(Method::GET, path))?;
        let mut kind = String::new();
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.context("the node ended the watch; start it again to go on")?;
            if let Some(event) = line.strip_prefix("event: ") {
                kind = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                print(event_line(&kind, data, form)?)?;
            }
        }
        bail!("the node ended the watch; start it again to go on")
    }
}

/// The target of a link to the next page.
fn next_page(link: &str) -> Option<&str> {
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    (relation.contains("rel=\"next\"") && target.starts_with('/')).then_some(target)
}

/// A page of a listing, as columns.
fn readable(lines: &str) -> anyhow::Result<String> {
    let row = |line: &str| -> anyhow::Result<Vec<String>> {
        let listed: Listed =
            serde_json::from_str(line).context("what answers there is no node of this version")?;
        let name = match (listed.name, listed.name_b64) {
            (Some(name), _) => visible(&name),
            (None, name) => format!("base64:{}", visible(&name.unwrap_or_default())),
        };
        let ends = listed.expires_at.map(|at| format!("until {at}")).unwrap_or_default();
        Ok(vec![name, listed.size.to_string(), ends])
    };
    let rows = lines.lines().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(table(&rows))
}

/// An event, as a line.
fn event_line(kind: &str, data: &str, form: Form) -> anyhow::Result<String> {
    let mut event: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(data).context("what answers there is no node of this version")?;
    if form == Form::Program {
        event.insert("event".to_owned(), kind.into());
        return Ok(serde_json::Value::from(event).to_string() + "\n");
    }
    let name = match (event.get("name"), event.get("name_b64")) {
        (Some(name), _) => visible(name.as_str().unwrap_or_default()),
        (None, Some(name)) => format!("base64:{}", visible(name.as_str().unwrap_or_default())),
        (None, None) if kind == "reset" => "(changes were missed: list again)".to_owned(),
        (None, None) => String::new(),
    };
    let change = event.get("change").and_then(|change| change.as_str());
    let change = change.filter(|change| *change != "value").map(|change| format!(" ({change})"));
    let line = format!("{} {name}{}", visible(kind), change.unwrap_or_default());
    Ok(line.trim_end().to_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_so_that_it_arrives_as_it_is() {
        assert_eq!(escape(b"a/b..%\xff ~-_"), "a%2Fb%2E%2E%25%FF%20~-_");
    }

    #[test]
    fn the_next_page_is_found_and_stays_on_the_node() {
        assert_eq!(next_page("</v1/kv/b?cursor=YQ>; rel=\"next\""), Some("/v1/kv/b?cursor=YQ"));
        assert_eq!(next_page("<http://evil.example/>; rel=\"next\""), None);
        assert_eq!(next_page("</a>; rel=\"prev\""), None);
        assert_eq!(next_page(""), None);
    }

    #[test]
    fn events_are_lines_for_people_and_for_programs() {
        let line = |kind: &str, data: &str, form| event_line(kind, data, form).expect("an event");
        let put = r#"{"name":"a","change":"value","size":1}"#;
        assert_eq!(line("put", put, Form::Person), "put a\n");
        let count = r#"{"name_b64":"/w==","change":"count"}"#;
        assert_eq!(line("put", count, Form::Person), "put base64:/w== (count)\n");
        assert_eq!(line("flush", "{}", Form::Person), "flush\n");
        assert_eq!(line("reset", "{}", Form::Person), "reset (changes were missed: list again)\n");
        let json: serde_json::Value =
            serde_json::from_str(&line("put", put, Form::Program)).expect("JSON");
        assert_eq!((&json["event"], &json["name"]), (&"put".into(), &"a".into()));
    }
}
