//! What is configured about traces, checked.

use atoll_core::http::sampling::Sampler;
use http::{HeaderName, HeaderValue, Uri};
use std::time::Duration;

/// How spans are told to a collector.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where they are sent, absolute.
    pub(crate) endpoint: Uri,
    /// What goes with each request to the collector. The values are marked sensitive.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) sampler: Sampler,
    /// What the node says of itself: `service.name` and others, no name twice.
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) batches: Batches,
}

/// How spans are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batches {
    /// Spans that may wait; what comes while so many do is dropped and counted. At least 1.
    pub(crate) waiting_max: usize,
    /// Most spans in one request, from 1 to `waiting_max`.
    pub(crate) spans_max: usize,
    /// Longest wait of the first span of a batch for more of them.
    pub(crate) delay: Duration,
    /// Longest wait for the collector's answer.
    pub(crate) answer_wait: Duration,
}

impl Default for Batches {
    /// What OpenTelemetry's specification has.
    fn default() -> Batches {
        Batches {
            waiting_max: 2_048,
            spans_max: 512,
            delay: Duration::from_secs(5),
            answer_wait: Duration::from_secs(10),
        }
    }
}
