//! `atoll dev`: builds a handler, runs it on a node of its own, and again on every change.
//!
//! The node runs in this process, so that nothing is left behind however it ends.

mod build;
mod project;
mod tools;
mod watch;

use super::handlers::{self, DeployArgs, logs::LogsArgs};
use super::output::{self, print};
use crate::config::{Config, FileConfig};
use crate::listen::Addresses;
use crate::run::{self, Announce};
use anyhow::Context;
use build::{Build, Builder};
use clap::{Args, FromArgMatches};
use project::Project;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

/// Pause before a log is followed again that ended.
const LOG_PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll new shop && atoll dev shop
  atoll dev shop --gateway 127.0.0.1:9000
  atoll dev shop --api 10.0.0.5:8081       deploy to a node that runs already

The folder's handler.toml says how it is built and deployed; `atoll new` writes one. What the build
says and what the handler logs is shown here. The node keeps nothing on disk; its API and RESP ports
are the usual ones where they are free. Ctrl-C ends it.")]
pub(super) struct DevArgs {
    /// Folder of the handler, with a handler.toml
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Where the handler answers
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    gateway: String,
    /// Deploy to the node with this API, and run none
    #[arg(long, value_name = "ADDRESS", conflicts_with = "gateway")]
    api: Option<String>,
    /// Token of that node's API; better given by variable than by flag
    #[arg(long, value_name = "TOKEN", env = "ATOLL_API_TOKEN", hide_env_values = true)]
    token: Option<crate::config::Secret>,
}

/// Builds and deploys until it is told to stop.
pub(super) fn dev(args: &DevArgs) -> anyhow::Result<()> {
    let project = Project::read(&args.folder)?;
    tools::check(project.language)?;
    let builder = Arc::new(Builder::default());
    let session = Session {
        project,
        builder: Arc::clone(&builder),
        api: args.api.clone().unwrap_or_default(),
        token: args.token.clone(),
        // Of a node of our own all that was ever said: a request may be faster than this.
        first_tail: if args.api.is_none() { "1000" } else { "0" },
        is_followed: false,
    };
    let ended = match args.api {
        Some(_) => beside_a_node(session),
        None => with_a_node(session, own_node(&args.gateway)?),
    };
    builder.stop();
    ended
}

/// What is set of a node that is for one person and one evening.
fn own_node(gateway: &str) -> anyhow::Result<Config> {
    let api = free_or_any("127.0.0.1:8081");
    let resp = free_or_any("127.0.0.1:6379");
    let values = [
        ("name", "dev"),
        ("gateway", gateway),
        ("api", &api),
        ("resp", &resp),
        ("peers_listen", "off"),
        // What handlers say is shown by their log; that of the node would show it twice.
        ("log", "warn,atoll::handlers=off"),
    ];
    let values = values.map(|(key, value)| (key.to_owned(), toml::Value::String(value.to_owned())));
    let values: FileConfig = toml::Table::from_iter(values).try_into()?;
    Config::resolve(values).context("cannot start a node")
}

/// An address, or one with another port on the same interface where that one is taken.
fn free_or_any(address: &str) -> String {
    match TcpListener::bind(address) {
        Ok(_) => address.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

/// Runs a node, and the session beside it in a thread of its own.
fn with_a_node(mut session: Session, config: Config) -> anyhow::Result<()> {
    let (tell, told) = mpsc::channel::<Addresses>();
    let worker = thread::Builder::new().name("atoll-dev".to_owned()).spawn(move || {
        // Nobody tells where the node could not start: that error is shown.
        let Ok(addresses) = told.recv() else { return Ok(()) };
        session.api = addresses.api.map(|api| api.to_string()).unwrap_or_default();
        let ended = welcome(&session.project, &addresses).and_then(|()| session.run());
        end_the_node();
        ended
    });
    let worker = worker.context("cannot start a thread")?;
    run::run(config, Announce::Tell(tell))?;
    // Where it still runs the node was told to end, and so the process.
    if worker.is_finished() { finished(worker.join()) } else { Ok(()) }
}

/// Deploys to a node that somebody else runs, until a signal comes.
fn beside_a_node(mut session: Session) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut signals = run::Signals::listen()?;
        let worker = tokio::task::spawn_blocking(move || session.run());
        tokio::select! {
            ended = worker => ended.context("the session broke off")?,
            () = signals.received() => Ok(()),
        }
    });
    // It may be waiting for the node, or for a change.
    runtime.shutdown_background();
    ended
}

fn finished(ended: thread::Result<anyhow::Result<()>>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|_| anyhow::bail!("the session broke off"))
}

/// Tells this process what Ctrl-C would.
fn end_the_node() {
    let this = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(this, rustix::process::Signal::TERM) {
        tracing::error!(%error, "the node cannot be told to end");
    }
}

fn welcome(project: &Project, addresses: &Addresses) -> anyhow::Result<()> {
    let door = |scheme: &str, address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| "off".to_owned(), |address| format!("{scheme}{address}"))
    };
    let (name, folder) = (&project.name, project.folder.display());
    print(format!(
        "atoll dev · {name} in {folder}\n\n  gateway  {}\n  API      {}\n  RESP     {}\n\nCtrl-C ends \
         it; a saved file is built and deployed at once.\n\n",
        door("http://", addresses.gateway),
        door("http://", addresses.api),
        door("redis://", addresses.resp),
    ))
}

/// One handler, from its sources to a node, over and over.
struct Session {
    project: Project,
    builder: Arc<Builder>,
    api: String,
    token: Option<crate::config::Secret>,
    /// How many lines that were said before are shown.
    first_tail: &'static str,
    /// Whether its log is shown already.
    is_followed: bool,
}

impl Session {
    /// Goes on until the output is closed or the build is told to stop.
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            // Before the build, so that a change while it runs is seen.
            let seen = watch::fingerprint(&self.project);
            match self.round() {
                Ok(Build::Stopped) => return Ok(()),
                Ok(Build::Done | Build::Failed) => {}
                Err(error) if error.is::<output::Closed>() => return Err(error),
                Err(error) => say(&format!("{error:#}"))?,
            }
            if !watch::wait_for_change(&self.project, seen, &self.builder) {
                return Ok(());
            }
        }
    }

    /// Builds and deploys once.
    fn round(&mut self) -> anyhow::Result<Build> {
        self.project = Project::read(&self.project.folder)?;
        say(&self.project.build)?;
        let began = std::time::Instant::now();
        match self.builder.run(&self.project)? {
            Build::Done => say(&format!("built in {:.1} s", began.elapsed().as_secs_f64()))?,
            Build::Failed => {
                say("the build failed; what is live stays live, the next change is tried")?;
                return Ok(Build::Failed);
            }
            Build::Stopped => return Ok(Build::Stopped),
        }
        handlers::deploy(&self.deployment()?)?;
        self.follow_log();
        Ok(Build::Done)
    }

    /// What `atoll deploy` would be given by hand.
    fn deployment(&self) -> anyhow::Result<DeployArgs> {
        let component = self.project.component().display().to_string();
        let mut typed = vec![component, "--name".to_owned(), self.project.name.clone()];
        typed.extend(self.node_flags());
        typed.extend(self.project.deploy.iter().cloned());
        parse("deploy", &typed).context("handler.toml: deploy")
    }

    fn node_flags(&self) -> Vec<String> {
        let mut flags = vec!["--api".to_owned(), self.api.clone()];
        if let Some(token) = &self.token {
            flags.extend(["--token".to_owned(), token.reveal().to_owned()]);
        }
        flags
    }

    /// Shows what the handler says from now on, in a thread that ends with the process.
    fn follow_log(&mut self) {
        if std::mem::replace(&mut self.is_followed, true) {
            return;
        }
        let (name, flags) = (self.project.name.clone(), self.node_flags());
        let mut tail = self.first_tail;
        let is_stopped = self.builder.is_stopped();
        let follow = move || {
            while !is_stopped.load(Ordering::Relaxed) {
                let mut typed: Vec<String> =
                    [&name, "--follow", "--tail", tail].map(str::to_owned).into();
                typed.extend(flags.iter().cloned());
                let Ok(args) = parse::<LogsArgs>("logs", &typed) else { return };
                tail = "0";
                // The node ends it when it ends itself, or the handler was taken away.
                let ended = handlers::logs::logs(&args);
                if ended.is_err_and(|error| error.is::<output::Closed>()) {
                    return;
                }
                thread::sleep(LOG_PAUSE);
            }
        };
        if let Err(error) = thread::Builder::new().name("atoll-dev-log".to_owned()).spawn(follow) {
            tracing::error!(%error, "the log cannot be followed");
        }
    }
}

/// Arguments as if they had been typed.
fn parse<T: Args + FromArgMatches>(command: &'static str, typed: &[String]) -> anyhow::Result<T> {
    let named = clap::Command::new(command).bin_name(format!("atoll {command}"));
    let command = T::augment_args(named.no_binary_name(true));
    let matches = command.try_get_matches_from(typed);
    let parsed = matches.and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|error| anyhow::anyhow!(super::one_line(&error.to_string())))
}

/// A line of our own, with the time, as the handler's log has it.
fn say(text: &str) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let of_day = now.as_secs() % 86_400;
    let (hours, minutes, seconds) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    print(format!("{hours:02}:{minutes:02}:{seconds:02} {text}\n"))
}

/// Whether a session is over; shared with what waits.
type Stopped = Arc<AtomicBool>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_project_that_are_none_point_to_the_help_that_there_is() {
        let error = parse::<DeployArgs>("deploy", &["a.wasm".to_owned(), "--rout".to_owned()]);
        let text = error.expect_err("a flag that is none").to_string();
        assert!(text.ends_with("see: atoll deploy --help"), "{text}");
    }
}
