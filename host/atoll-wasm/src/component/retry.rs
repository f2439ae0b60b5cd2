//! A second try on a fresh instance, where one that was used again has failed.
//!
//! Only for a request that may be made twice, of which nothing was answered, and whose body is there
//! again: what a used instance trips over is often what it has kept from the request before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;

use crate::error::CallError;
use crate::limits::Limits;

/// Tells whether a request of this method may be made twice (RFC 9110 section 9.2.2).
pub(super) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// Tells whether a fresh instance may fare better. One that has used up its time has used up that of
/// the request.
pub(super) fn may_be_of_the_instance(error: &CallError) -> bool {
    match error {
        CallError::Trap { .. }
        | CallError::MemoryLimit { .. }
        | CallError::NoAnswer
        | CallError::InstanceLost => true,
        CallError::CpuLimit { .. }
        | CallError::WallLimit { .. }
        | CallError::ResponseLimit { .. }
        | CallError::BadResponse(_)
        | CallError::Answered(_)
        | CallError::Busy(_) => false,
    }
}

/// The limits of what is left of a request after some time.
pub(super) fn limits_after(limits: Limits, elapsed: Duration) -> Limits {
    let elapsed_ms = u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX);
    Limits { wall_ms: limits.wall_ms.saturating_sub(elapsed_ms).max(1), ..limits }
}

/// The head of a request, with a body that has no byte.
pub(super) fn without_body<B>(request: &http::Request<B>) -> http::Request<Empty<Bytes>> {
    let mut again = http::Request::new(Empty::new());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    again
}

/// Who is told how a call has ended, while it is open whether there will be another.
pub(super) struct Ending<E>(Arc<Mutex<State<E>>>);

enum State<E> {
    /// Nothing was answered, and the call goes on.
    Open(E),
    /// It has failed in a way in which a second one may help.
    Failed(E, CallError),
    /// It was answered: however it ends, that is its end.
    Answered(E),
    Told,
}

impl<E: FnOnce(Result<(), &CallError>)> Ending<E> {
    pub(super) fn new(ended: E) -> Ending<E> {
        Ending(Arc::new(Mutex::new(State::Open(ended))))
    }

    /// Another handle on the same.
    pub(super) fn share(&self) -> Ending<E> {
        Ending(Arc::clone(&self.0))
    }

    /// The call has ended. Whoever waits for that is told unless there may be another call.
    pub(super) fn call_has_ended(self, end: Result<(), &CallError>) {
        let mut state = self.state();
        let (told, kept) = match (std::mem::replace(&mut *state, State::Told), end) {
            (State::Open(ended), Err(error)) if may_be_of_the_instance(error) => {
                (None, State::Failed(ended, error.clone()))
            }
            (State::Open(ended) | State::Answered(ended), _) => (Some(ended), State::Told),
            (kept, _) => (None, kept),
        };
        *state = kept;
        drop(state);
        if let Some(ended) = told {
            ended(end);
        }
    }

    /// The call was answered.
    pub(super) fn note_answer(self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Told) {
            State::Open(ended) => *state = State::Answered(ended),
            // It was answered and then failed, before we came to say so.
            State::Failed(ended, error) => {
                drop(state);
                ended(Err(&error));
            }
            other => *state = other,
        }
    }

    /// Takes whoever is to be told, if the call has failed and a second one may help.
    pub(super) fn take_failed(self) -> Option<E> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Told) {
            State::Failed(ended, _) => Some(ended),
            other => {
                *state = other;
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Every change is one step: whoever panicked has left a whole state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn trap() -> CallError {
        CallError::Trap { reason: "x".to_owned() }
    }

    #[test]
    fn who_waits_for_the_end_is_told_once_and_not_before_it_is_the_end() {
        let (sender, ends) = channel();
        let ending = || {
            let sender = sender.clone();
            Ending::new(move |end: Result<(), &CallError>| sender.send(end.is_ok()).unwrap())
        };
        let told = || ends.try_iter().collect::<Vec<_>>();
        let first = ending();
        first.share().call_has_ended(Err(&trap()));
        assert_eq!(told(), [], "there may be another call");
        let ended = first.take_failed().unwrap();
        ended(Ok(()));
        assert_eq!(told(), [true]);
        let first = ending();
        first.share().call_has_ended(Err(&trap()));
        first.note_answer();
        assert_eq!(told(), [false], "it failed after its answer");
        let first = ending();
        first.share().note_answer();
        first.share().call_has_ended(Err(&trap()));
        assert_eq!(told(), [false]);
        assert!(first.take_failed().is_none());
        let first = ending();
        first.share().call_has_ended(Err(&CallError::CpuLimit { cpu_ms: 1 }));
        assert_eq!(told(), [false], "another call would not help");
        assert!(first.take_failed().is_none());
    }

    #[test]
    fn a_second_try_has_what_is_left_of_the_time() {
        let limits = Limits { wall_ms: 100, ..Limits::default() };
        assert_eq!(limits_after(limits, Duration::from_millis(30)).wall_ms, 70);
        assert_eq!(limits_after(limits, Duration::from_secs(1)).wall_ms, 1);
    }
}
