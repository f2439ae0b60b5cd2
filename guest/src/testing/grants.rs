//! What the handler under test may do, written and refused as on a node.

use crate::bindings::atoll::edge::kv::Error;

/// Grants for keys. What is not among them is denied.
#[derive(Debug)]
pub(super) struct Grants {
    keys: Vec<KeyGrant>,
}

#[derive(Debug)]
struct KeyGrant {
    bucket: String,
    prefix: String,
    reads: bool,
    writes: bool,
}

impl Grants {
    /// Reads grants as `atoll deploy` does. Panics at what is none.
    #[track_caller]
    pub(super) fn new(texts: &[&str]) -> Grants {
        let keys = texts.iter().map(|text| {
            parse(text).unwrap_or_else(|| {
                panic!(
                    "{text:?} is no grant: write kv:BUCKET=rw or kv:BUCKET/PREFIX=r (r, w or rw)"
                )
            })
        });
        Grants { keys: keys.collect() }
    }

    pub(super) fn check_open(&self, bucket: &str) -> Result<(), Error> {
        match self.keys.iter().any(|grant| grant.bucket == bucket) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}=r is not granted"))),
        }
    }

    pub(super) fn reads(&self, bucket: &str, key: &str) -> bool {
        self.covering(bucket, key).any(|grant| grant.reads)
    }

    pub(super) fn check_read(&self, bucket: &str, key: &str) -> Result<(), Error> {
        match self.reads(bucket, key) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{key}=r is not granted"))),
        }
    }

    pub(super) fn check_write(&self, bucket: &str, key: &str) -> Result<(), Error> {
        match self.covering(bucket, key).any(|grant| grant.writes) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{key}=w is not granted"))),
        }
    }

    /// Denied where not one key with the prefix may be read.
    pub(super) fn check_list(&self, bucket: &str, prefix: &str) -> Result<(), Error> {
        let mut readable = self.keys.iter().filter(|grant| grant.bucket == bucket && grant.reads);
        let overlaps = |grant: &KeyGrant| {
            prefix.starts_with(&grant.prefix) || grant.prefix.starts_with(prefix)
        };
        match readable.any(overlaps) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{prefix}=r is not granted"))),
        }
    }

    fn covering<'a>(&'a self, bucket: &'a str, key: &'a str) -> impl Iterator<Item = &'a KeyGrant> {
        let keys = self.keys.iter();
        keys.filter(move |grant| grant.bucket == bucket && key.starts_with(&grant.prefix))
    }
}

fn parse(text: &str) -> Option<KeyGrant> {
    let (scope, access) = text.strip_prefix("kv:")?.rsplit_once('=')?;
    let (bucket, prefix) = scope.split_once('/').unwrap_or((scope, ""));
    let (reads, writes) = match access {
        "r" => (true, false),
        "w" => (false, true),
        "rw" => (true, true),
        _ => return None,
    };
    super::store::check_bucket(bucket).ok().filter(|()| !bucket.starts_with('_'))?;
    Some(KeyGrant { bucket: bucket.to_owned(), prefix: prefix.to_owned(), reads, writes })
}
