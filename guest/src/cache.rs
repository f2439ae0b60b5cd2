//! Values that are dear to make: one request makes it, the others wait for it; and purges of what HTTP
//! caches hold.

mod purge;

pub use purge::{Error as PurgeError, Purge};

use std::time::Duration;

use crate::kv::{self, options};
use crate::node::cache::{Filling, Found, get_or_fill as ask};

/// Returns the value of a key, or makes it with `fill` and keeps it for `ttl`.
///
/// Where several requests of this handler on this node ask for a key that holds nothing, one of them
/// makes the value and the others wait for it, for as long as they may run. If `fill` fails, or the
/// request ends in any other way, the next one tries. Do not ask for the same key within `fill`.
///
/// ```
/// use atoll_guest::{Request, Response, cache, handler, kv};
/// use std::time::Duration;
///
/// #[handler]
/// fn handle(request: Request) -> Result<Response, kv::Error> {
///     let report = cache::get_or_fill("default", "report", Duration::from_secs(10), || {
///         let keys = kv::open("default")?.keys("order:").count();
///         Ok::<_, kv::Error>(format!("{keys} orders\n").into_bytes())
///     })?;
///     Ok(Response::bytes(report))
/// }
///
/// let node = atoll_guest::testing::Node::start();
/// assert_eq!(node.run(handle, Request::new("GET", "/")).body_text(), "0 orders\n");
/// node.bucket("default").set("order:1", "")?;
/// assert_eq!(node.run(handle, Request::new("GET", "/")).body_text(), "0 orders\n");
/// node.advance(Duration::from_secs(10));
/// assert_eq!(node.run(handle, Request::new("GET", "/")).body_text(), "1 orders\n");
/// # Ok::<(), kv::Error>(())
/// ```
pub fn get_or_fill<E: From<kv::Error>>(
    bucket: &str,
    key: &str,
    ttl: Duration,
    fill: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    match ask(bucket, key).map_err(kv::Error::from)? {
        Found::Value(value) => Ok(value),
        Found::Missing(filling) => {
            let value = fill()?;
            let ttl_ms = Some(options::whole_ms(ttl));
            Filling::finish(filling, &value, ttl_ms).map_err(kv::Error::from)?;
            Ok(value)
        }
    }
}
