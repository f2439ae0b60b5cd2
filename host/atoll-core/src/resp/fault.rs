//! Refusals, in the very words that Redis 7 uses: clients match them.

use crate::limits::KEY_BYTES_MAX;
use crate::permission::Refusal;

/// Why a command was refused. What it names is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Options that do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// Not a 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// Not a number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// An increment that leaves 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// An increment that leaves the numbers.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// A position before the first byte.
    #[error("ERR offset is out of range")]
    Offset,
    /// A value that would exceed the maximum.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    ValueLength,
    /// A time to live that is not positive, or past what can be counted.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// Too many or too few arguments for the command, or for `command|subcommand`.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// No such database.
    #[error("ERR DB index is out of range")]
    Database,
    /// Not a cursor of SCAN.
    #[error("ERR invalid cursor")]
    Cursor,
    /// A key that the store does not hold.
    #[error("ERR invalid key: a key has 1 to {KEY_BYTES_MAX} bytes")]
    Key,
    /// The memory budget is spent.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    Memory,
    /// The node still reads what it saved.
    #[error("LOADING Redis is loading the dataset in memory")]
    Loading,
    /// The disk takes no writes, and none is taken that would not be saved.
    #[error(
        "MISCONF the node's disk takes no writes, so commands that may modify the data set are \
         disabled (--on-disk-error refuse); INFO persistence says why"
    )]
    Disk,
    /// A reply that would exceed `REPLY_BYTES_MAX`.
    #[error("ERR reply exceeds the maximum size; ask for less at a time")]
    ReplyLength,
    /// Nobody is logged in.
    #[error("NOAUTH Authentication required.")]
    Stranger,
    /// HELLO before AUTH.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
         <user> <pass> option can be used to authenticate the client and select the RESP protocol \
         version at the same time"
    )]
    Hello,
    /// The wrong password, or a user that does not exist.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    Password,
    /// A protocol version that is neither 2 nor 3.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// A write on a node that only follows.
    #[error("READONLY You can't write against a read only replica.")]
    ReadOnly,
    /// A node that serves nothing stale, and is cut off.
    #[error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")]
    MasterDown,
    /// Any other state in which a node refuses writes: a word for programs, then words for people.
    #[error("{code} {refusal}")]
    Refused {
        /// In capitals.
        code: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// A transaction with a command that was refused when it was queued.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    Spoilt,
    /// A transaction that could not be executed as a whole.
    #[error("EXECABORT Transaction discarded because of: {0}")]
    Discarded(Box<Fault>),
    /// Anything with words of its own.
    #[error("ERR {0}")]
    Other(String),
}

impl Fault {
    /// A fault whose text is `ERR` and the given words.
    pub fn other(words: impl Into<String>) -> Fault {
        Fault::Other(words.into())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        match refusal {
            Refusal::ReadOnly => Fault::ReadOnly,
            Refusal::NoQuorum => Fault::MasterDown,
            Refusal::Skewed => Fault::Refused { code: "SKEWED", refusal },
            Refusal::Superseded => Fault::Refused { code: "SUPERSEDED", refusal },
        }
    }
}

/// At most `bytes_max` bytes of what a client sent, fit for an error line.
pub fn excerpt(bytes: &[u8], bytes_max: usize) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)]).into_owned()
}
