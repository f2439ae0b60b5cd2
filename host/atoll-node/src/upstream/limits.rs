//! The bounds of exchanges with upstreams.

use std::time::Duration;

/// Longest head of a response, in bytes; a longer one is a broken response.
pub(super) const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Most fields of a response.
pub(super) const HEADER_COUNT_MAX: usize = 256;
/// Longest time for which a connection is kept without a request. Most servers close earlier.
pub(super) const IDLE_WAIT: Duration = Duration::from_secs(30);
/// Most connections that are kept without a request, for each address.
pub(super) const IDLE_COUNT_MAX: usize = 256;
/// Pause between two looks at whether a connection over HTTP/2 is idle.
pub(super) const IDLE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest time for which one is told that it ends.
pub(super) const CLOSING_WAIT: Duration = Duration::from_secs(5);
/// Most of them for each address. What finds all of them full waits.
pub(super) const CONNECTION_COUNT_MAX: usize = 8;
/// Most of them that are opened for one request.
pub(super) const OPENING_COUNT_MAX: usize = 20;
/// Most streams of each, where the server does not allow fewer.
pub(super) const STREAM_COUNT_MAX: usize = 100;
/// Bytes of one response that may come before they are read.
pub(super) const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Bytes of one request that wait for the server to take them.
pub(super) const SEND_BYTES_MAX: usize = 400 * 1024;
/// Bytes of a request's body that are kept until its upstream answers, to be sent once more.
pub(super) const KEPT_BYTES_MAX: usize = 64 * 1024;
/// How often a request is sent again that a server says it has not looked at.
pub(super) const REFUSED_COUNT_MAX: u32 = 10;
/// Longest time for which a connection that showed what a server speaks waits for its request.
pub(super) const PARKED_WAIT: Duration = Duration::from_secs(1);
/// How long it is not said again that a server's certificate is not accepted.
pub(super) const COMPLAINT_AGAIN: Duration = Duration::from_secs(60);
/// Failures in a row after which an address is left alone, where there is another.
pub(super) const FAILURES_IN_A_ROW_MAX: u32 = 3;
/// For how long.
pub(super) const EJECTED: Duration = Duration::from_secs(10);
/// Most addresses of one route.
pub(crate) const ADDRESS_COUNT_MAX: usize = 64;
/// Longest wait of each kind that can be asked for.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Waits where the route does not say.
pub(crate) const CONNECT_WAIT: Duration = Duration::from_secs(3);
pub(crate) const FIRST_BYTE_WAIT: Duration = Duration::from_secs(60);
pub(crate) const BETWEEN_BYTES_WAIT: Duration = Duration::from_secs(30);
/// Longest wait for `100 Continue` before a body is sent without it.
pub(super) const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// Time between two health checks where the route does not say.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
