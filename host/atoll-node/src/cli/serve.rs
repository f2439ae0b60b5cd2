//! `atoll serve`: flags and environment of a node.

use crate::config::{Config, FileConfig};
use crate::run;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;

/// Values are taken from flags first, then from ATOLL_* variables, then from the configuration
/// file, then from the defaults that are shown here.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  atoll serve                                  everything on 127.0.0.1, memory only
  atoll serve --data /var/lib/atoll            ... and on disk, over restarts
  atoll serve --gateway 0.0.0.0:80             handlers public, the rest on loopback
  ATOLL_API_TOKEN=... atoll serve --api 0.0.0.0:8081

atoll.toml takes the same names, with _ for -:
  gateway = \"0.0.0.0:80\"
  memory_max = \"4GiB\"
  data = \"/var/lib/atoll\"
  fsync = \"everysec\"

and routes to upstreams, which have no flags:
  [[route]]
  path = \"/*\"
  upstream = \"http://127.0.0.1:8000\"
  cache = true"
)]
pub(super) struct ServeArgs {
    /// Read this TOML file; without it ./atoll.toml is read where there is one
    #[arg(long, value_name = "FILE", env = "ATOLL_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    values: FileConfig,
    /// Print one line of JSON with the bound addresses to stdout once the node is ready
    #[arg(long)]
    ready_json: bool,
}

/// Runs a node until it is told to stop.
pub(super) fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let file = match &args.config {
        Some(path) => FileConfig::read(path)?,
        None => {
            let path = PathBuf::from("atoll.toml");
            if path.is_file() { FileConfig::read(&path)? } else { FileConfig::default() }
        }
    };
    let config = Config::resolve(args.values.over(file)).context("cannot start")?;
    let announce = if args.ready_json { run::Announce::Json } else { run::Announce::Banner };
    run::run(config, announce)
}
