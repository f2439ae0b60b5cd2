//! What the node gives a guest: [`Host`], and the values that pass between them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub mod purge;

use purge::{Purge, Purging};

/// What one call may reach, as the node grants it. One value for each call, dropped with it.
///
/// Methods are called on the guest's own stack and must not wait: the store answers from memory.
/// Grants are the implementation's business: what was not granted is [`KvError::Denied`]. Arguments
/// are the guest's and not checked, except for the number of keys, bytes and log lines (see
/// [`limits`](crate::limits)).
///
/// A clone is for a second try of the same call, on another instance.
pub trait Host: Clone + Send + 'static {
    /// An opened bucket, with whatever the implementation needs to know of the grant. A clone is
    /// another handle on the same.
    type Bucket: Clone + Send + 'static;

    /// Opens a bucket by name.
    fn open(&mut self, name: &str) -> Result<Self::Bucket, KvError>;

    /// Returns the value of a key. It is copied into the guest from here.
    fn get(&mut self, bucket: &Self::Bucket, key: &str) -> Result<Option<Bytes>, KvError>;

    /// Returns the value of a key with its version and its end.
    fn get_entry(&mut self, bucket: &Self::Bucket, key: &str) -> Result<Option<Entry>, KvError>;

    /// Returns whether a key holds something.
    fn exists(&mut self, bucket: &Self::Bucket, key: &str) -> Result<bool, KvError>;

    /// Writes a value; returns the version that it got.
    fn set(&mut self, bucket: &Self::Bucket, key: &str, set: Set) -> Result<String, KvError>;

    /// Writes a value with tags, by which a purge ends it; otherwise as [`set`](Host::set).
    fn set_tagged(
        &mut self,
        bucket: &Self::Bucket,
        key: &str,
        set: (Set, Vec<String>),
    ) -> Result<String, KvError>;

    /// Returns the tags of the value of a key, `None` where it holds nothing.
    fn tags(&mut self, bucket: &Self::Bucket, key: &str) -> Result<Option<Vec<String>>, KvError>;

    /// Deletes a key; returns whether it held something, `false` where the guest may not know.
    fn delete(&mut self, bucket: &Self::Bucket, key: &str) -> Result<bool, KvError>;

    /// Adds to a counter and returns its new value. `ttl_ms` is for a counter that this call
    /// creates; one that exists keeps its end.
    fn increment(
        &mut self,
        bucket: &Self::Bucket,
        key: &str,
        by: Increment,
    ) -> Result<i64, KvError>;

    /// Begins a page of keys.
    fn list(&mut self, bucket: &Self::Bucket, list: List) -> Result<Box<dyn Listing>, KvError>;

    /// Takes cached responses back, here and on every node. All of it is checked before any is done.
    /// The guest may be gone before the future has ended.
    fn purge(&mut self, purge: Purge) -> Purging;

    /// Returns what sends the guest's own requests. Asked once in a call, when it is first needed.
    fn fetcher(&self) -> Arc<dyn Fetcher>;

    /// Returns where the handler's log goes. Asked once in a call, when its first line is written.
    fn logger(&self) -> Arc<dyn Logger>;

    /// Returns a setting that the handler was deployed with.
    fn config(&mut self, key: &str) -> Option<String>;

    /// Returns all of them, by key.
    fn settings(&mut self) -> Vec<(String, String)>;

    /// Returns the secret of this name, `None` where there is none.
    fn secret(&mut self, name: &str) -> Result<Option<Vec<u8>>, SecretError>;

    /// Returns the time in milliseconds since 1970.
    fn now_ms(&mut self) -> u64;

    /// Fills `bytes` with randomness fit for secrets. Where there is none the guest ends: it could
    /// not tell zeros from a secret.
    fn random(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness>;

    /// Is told what a call has used, once it is over, however it ended.
    fn used(&mut self, usage: Usage) {
        let _ = usage;
    }
}

/// What one call of a guest has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, making the instance included, within 0.1 ms.
    pub cpu: Duration,
    /// Linear memory of its instance.
    pub memory_bytes: usize,
    /// Whether the instance had answered another call before.
    pub is_reused: bool,
}

/// The log of a handler. Apart from [`Host`], because a guest's output streams outlive the host call
/// that made them.
pub trait Logger: Send + Sync {
    /// Keeps a line. At most `LOG_LINES_MAX` a call, of at most `LOG_LINE_BYTES_MAX` bytes each.
    fn log(&self, level: Level, message: &str);
}

/// Sends requests for a guest. Apart from [`Host`], because an exchange goes on while the guest runs.
pub trait Fetcher: Send + Sync {
    /// Sends a request of absolute form; the body of the answer arrives as it is read.
    ///
    /// Grants are the implementation's business: what was not granted is [`FetchError::Denied`].
    fn fetch(&self, request: http::Request<FetchBody>) -> Fetching;
}

/// A body on its way, either way.
pub type FetchBody = UnsyncBoxBody<Bytes, FetchError>;
/// The future of an exchange.
pub type Fetching =
    Pin<Box<dyn Future<Output = Result<http::Response<FetchBody>, FetchError>> + Send>>;

/// Why a guest's request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The handler was not granted this; names the missing grant.
    #[error("{0}")]
    Denied(String),
    /// The name of the host leads nowhere.
    #[error("the host was not found: {0}")]
    NotFound(String),
    /// Nobody took the connection.
    #[error("no connection: {0}")]
    Refused(String),
    /// The connection is not safe.
    #[error("no TLS: {0}")]
    Tls(String),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// What came is no HTTP, or it ended early.
    #[error("the exchange broke off: {0}")]
    Broken(String),
    /// As many requests are under way as may be.
    #[error("too many requests are under way")]
    TooMany,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Bytes,
    /// Names this write: equal on every node, changed by every write.
    pub version: String,
    /// When it ends, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The bytes.
    pub value: Bytes,
    /// Lifetime from now, in milliseconds, at least 1; `None`: until it is deleted.
    pub ttl_ms: Option<u64>,
    /// What must hold.
    pub condition: Condition,
}

/// What must hold for a write to be done; if it does not, that is [`KvError::ConditionFailed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key holds nothing.
    IfAbsent,
    /// The key holds something.
    IfPresent,
    /// The key holds exactly this version.
    IfVersion(String),
}

/// An addition to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment {
    /// What to add.
    pub delta: i64,
    /// Lifetime of a counter that this creates, in milliseconds, at least 1.
    pub ttl_ms: Option<u64>,
}

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Only keys that begin with this.
    pub prefix: String,
    /// At most this many: 1 to `KEYS_MAX`.
    pub limit: usize,
    /// From the page before, as the guest gave it back.
    pub cursor: Option<String>,
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// May be empty although another page follows.
    pub keys: Vec<String>,
    /// Asks for the next page; `None`: this was the last.
    pub cursor: Option<String>,
}

/// A page of keys in the making. Dropped before its end if the guest ends.
pub trait Listing: Send {
    /// Looks at some more keys, for well under a millisecond: others run between two steps, and the
    /// guest's limits are looked at. Returns the page after the last.
    fn step(&mut self) -> Option<KeyPage>;
}

/// One that is there already.
impl Listing for Option<KeyPage> {
    fn step(&mut self) -> Option<KeyPage> {
        Some(self.take().unwrap_or_default())
    }
}

/// Why a store operation was not done. The text of a variant reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvError {
    /// There is no bucket of this name.
    NoSuchBucket,
    /// The handler was not granted this; names the missing grant.
    Denied(String),
    /// The key holds a value of another kind.
    WrongType,
    /// The key, the value or the answer is too large; has the bound.
    TooLarge(String),
    /// The memory budget is spent.
    Full,
    /// A condition did not hold.
    ConditionFailed,
    /// An argument has no sense.
    Invalid(String),
    /// The same call may work later.
    Unavailable(String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for KvError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KvError::NoSuchBucket => formatter.write_str("there is no such bucket"),
            KvError::WrongType => formatter.write_str("the key holds a value of another kind"),
            KvError::Full => formatter.write_str("the memory budget is spent"),
            KvError::ConditionFailed => formatter.write_str("the condition does not hold"),
            KvError::Denied(detail)
            | KvError::TooLarge(detail)
            | KvError::Invalid(detail)
            | KvError::Unavailable(detail)
            | KvError::Other(detail) => formatter.write_str(detail),
        }
    }
}

/// Why a secret is not given. The text reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretError {
    /// The handler was not granted it; names the missing grant.
    Denied(String),
    /// It is there, and this node cannot read it.
    Unavailable(String),
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has no randomness to give")]
pub struct NoRandomness;

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever hunts a bug in the details.
    Trace,
    /// For whoever hunts a bug.
    Debug,
    /// Worth reading on an ordinary day.
    Info,
    /// Something is wrong, and the handler coped.
    Warn,
    /// Something is wrong, and someone must act.
    Error,
}

/// A request, lent to the guest.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Begins with `/`; not decoded, no query.
    pub path: &'a str,
    /// What stood after `?`, not decoded.
    pub query: Option<&'a str>,
    /// Host and perhaps port that the client asked for.
    pub authority: Option<&'a str>,
    /// Names in lower case. The node leaves out what concerns one connection only.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body. The node bounds it.
    pub body: &'a [u8],
    /// IP address of the client.
    pub client_address: Option<&'a str>,
}

/// A checked answer of a guest: it can go out as it is.
///
/// Status and fields are valid in HTTP, the body is within its limit. The fields that frame a
/// message or concern one connection were dropped, and so was the body of a 204, 205 or 304, which
/// has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case, tokens of RFC 9110; values with no control characters but the tab.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Bytes,
}
