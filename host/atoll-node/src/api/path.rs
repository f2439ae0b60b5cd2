//! Paths of the key-value API: a bucket, a batch, or a key that may hold any byte.
//!
//! Works on the path as it was sent: it is decoded exactly once, and nothing is normalised.

use crate::problem::Problem;
use atoll_core::key::{BucketName, check_key};
use http::StatusCode;

/// Where all of them begin.
pub(super) const ROOT: &str = "/v1/kv/";
/// What follows a bucket's name in the path of a batch.
const BATCH: &str = ":batch";

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/v1/kv/{bucket}/{key...}`
    Key(BucketName, Vec<u8>),
    /// `/v1/kv/{bucket}`
    Bucket(BucketName),
    /// `/v1/kv/{bucket}:batch`
    Batch(BucketName),
}

impl Target {
    /// Parses a path that begins with [`ROOT`].
    pub(super) fn parse(path: &str) -> Result<Target, Problem> {
        let rest = path.strip_prefix(ROOT).unwrap_or_default();
        let (bucket, key) = match rest.split_once('/') {
            Some((bucket, key)) => (bucket, Some(key)),
            None => (rest, None),
        };
        let bucket = decode(bucket.as_bytes())?;
        let bucket = String::from_utf8_lossy(&bucket);
        match key {
            Some(key) => {
                let key = decode(key.as_bytes())?;
                check_key(&key)
                    .map_err(|error| Problem::bad_request("bad-key", error.to_string()))?;
                Ok(Target::Key(open(&bucket)?, key))
            }
            None => match bucket.strip_suffix(BATCH) {
                Some(bucket) => Ok(Target::Batch(open(bucket)?)),
                None => Ok(Target::Bucket(open(&bucket)?)),
            },
        }
    }
}

/// The bucket of this name, if clients may use it.
fn open(name: &str) -> Result<BucketName, Problem> {
    let name = BucketName::new(name)
        .map_err(|error| Problem::bad_request("bad-bucket", error.to_string()))?;
    if name.is_internal() {
        let detail = "buckets whose name starts with _ belong to the node";
        return Err(Problem::new(StatusCode::FORBIDDEN, "bucket-closed", detail));
    }
    Ok(name)
}

/// Percent-decodes once. A `%` that begins no escape is an error: taken as it stands, two spellings
/// of a path would name one key in one client and two in another.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let escape = after.get(..2).and_then(|digits| Some((hex(digits[0])?, hex(digits[1])?)));
        let Some((high, low)) = escape else {
            let detail = "a % is followed by two hexadecimal digits; write %25 for the sign itself";
            return Err(Problem::bad_request("bad-escape", detail));
        };
        bytes.push(high << 4 | low);
        rest = &after[2..];
    }
    Ok(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_key_of(path: &str, want: &[u8]) {
        let target = Target::parse(&format!("/v1/kv/b/{path}")).expect("a key");
        assert_eq!(target, Target::Key(BucketName::new("b").expect("valid"), want.to_vec()));
    }

    #[test]
    fn a_key_is_decoded_once_and_nothing_is_normalised() {
        check_key_of("a", b"a");
        check_key_of("a/b", b"a/b");
        check_key_of("a%2Fb", b"a/b");
        check_key_of("a%252Fb", b"a%2Fb");
        check_key_of("/a//b/", b"/a//b/");
        check_key_of("../..", b"../..");
        check_key_of("%00%ff+%20", b"\0\xff+ ");
        check_key_of(":batch", b":batch");
        check_key_of("ä", "ä".as_bytes());
        check_key_of(&"%61".repeat(1_024), &[b'a'; 1_024]);
    }

    #[track_caller]
    fn check_refused(path: &str, want_status: u16, want_code: &str) {
        let problem = Target::parse(path).expect_err("should be refused");
        assert_eq!((problem.status().as_u16(), problem.code()), (want_status, want_code), "{path}");
    }

    #[test]
    fn what_names_no_key_is_refused() {
        check_refused("/v1/kv/b/", 400, "bad-key");
        check_refused(&format!("/v1/kv/b/{}", "a".repeat(1_025)), 400, "bad-key");
        check_refused("/v1/kv/b/%", 400, "bad-escape");
        check_refused("/v1/kv/b/%4", 400, "bad-escape");
        check_refused("/v1/kv/b/%g0", 400, "bad-escape");
        check_refused("/v1/kv/b/%+1", 400, "bad-escape");
        check_refused("/v1/kv//a", 400, "bad-bucket");
        check_refused("/v1/kv/", 400, "bad-bucket");
        check_refused("/v1/kv/a%2Fb", 400, "bad-bucket");
        check_refused("/v1/kv/_sys/a", 403, "bucket-closed");
        check_refused("/v1/kv/%5Fsys", 403, "bucket-closed");
        check_refused("/v1/kv/_sys:batch", 403, "bucket-closed");
    }

    #[test]
    fn a_bucket_and_its_batches_are_told_apart() {
        let bucket = BucketName::new("b").expect("valid");
        assert_eq!(Target::parse("/v1/kv/b").ok(), Some(Target::Bucket(bucket.clone())));
        assert_eq!(Target::parse("/v1/kv/b:batch").ok(), Some(Target::Batch(bucket.clone())));
        assert_eq!(Target::parse("/v1/kv/b%3Abatch").ok(), Some(Target::Batch(bucket)));
        check_refused("/v1/kv/b:other", 400, "bad-bucket");
    }
}
