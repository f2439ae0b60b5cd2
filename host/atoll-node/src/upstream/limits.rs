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
