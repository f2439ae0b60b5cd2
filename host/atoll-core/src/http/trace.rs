//! W3C Trace Context: the trace that a request is part of, and its place in it.

use std::fmt;

/// A request within a trace. Written as the field `traceparent` of what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    /// Bit 0: the trace is recorded. Bit 1: its id is random.
    flags: u8,
    origin: TraceOrigin,
}

/// Where a trace began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceOrigin {
    /// Before this request, which names its parent: what its `tracestate` says holds.
    Caller,
    /// With this request.
    Here,
}

/// The flags that are handed on.
const FLAGS_KNOWN: u8 = 0b11;
/// Length of the field in version 00.
const FIELD_BYTES: usize = 55;

impl TraceContext {
    /// The request's place: in the trace that `traceparent` names, or, where that is missing or no
    /// trace, in one that begins here and that nobody has asked to record. `dice` are random.
    pub fn new(traceparent: Option<&[u8]>, dice: [u8; 24]) -> TraceContext {
        let [first @ .., _, _, _, _, _, _, _, _] = dice;
        let mut span = [0; 8];
        span.copy_from_slice(&dice[16..]);
        // All zeros stand for none.
        span[7] |= u8::from(span == [0; 8]);
        if let Some((trace, flags)) = traceparent.and_then(parse) {
            return TraceContext { trace, span, flags, origin: TraceOrigin::Caller };
        }
        let mut trace: [u8; 16] = first;
        trace[15] |= u8::from(trace == [0; 16]);
        TraceContext { trace, span, flags: 0b10, origin: TraceOrigin::Here }
    }

    /// Where the trace began.
    pub fn origin(&self) -> TraceOrigin {
        self.origin
    }

    /// The trace's id: 32 digits.
    pub fn trace_id(&self) -> String {
        hex(&self.trace)
    }

    /// The id of this request within it: 16 digits.
    pub fn span_id(&self) -> String {
        hex(&self.span)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 0xF)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The trace and its flags. Later versions begin like the first and may have more behind it.
fn parse(field: &[u8]) -> Option<([u8; 16], u8)> {
    let field = field.trim_ascii();
    let (head, rest) = field.split_at_checked(FIELD_BYTES)?;
    let dashes = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
    let [version] = digits::<1>(&head[..2])?;
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|&byte| byte == b'-'),
    };
    let (trace, parent) = (digits::<16>(&head[3..35])?, digits::<8>(&head[36..52])?);
    let [flags] = digits::<1>(&head[53..])?;
    let is_one = dashes && fits && trace != [0; 16] && parent != [0; 8];
    is_one.then_some((trace, flags & FLAGS_KNOWN))
}

/// Bytes from twice as many digits; capital ones are none.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DICE: [u8; 24] = [7; 24];

    #[track_caller]
    fn check(field: &str, want: &str) {
        assert_eq!(TraceContext::new(Some(field.as_bytes()), DICE).to_string(), want, "{field}");
    }

    #[test]
    fn a_request_goes_on_with_the_trace_that_it_names() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let want = format!("00-{trace}-0707070707070707-01");
        check(&format!("00-{trace}-{parent}-01"), &want);
        check(&format!(" 00-{trace}-{parent}-01 "), &want);
        check(&format!("00-{trace}-{parent}-fd"), &want);
        check(&format!("cc-{trace}-{parent}-01"), &want);
        check(&format!("cc-{trace}-{parent}-01-what-comes-later"), &want);
    }

    #[test]
    fn what_names_no_trace_begins_one() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let zeros = "0".repeat(32);
        let want = format!("00-{}-0707070707070707-02", "07".repeat(16));
        for bad in [
            "".to_owned(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("cc-{trace}-{parent}-01more"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00_{trace}_{parent}_01"),
            format!("00-{trace}-{parent}-0g"),
        ] {
            check(&bad, &want);
        }
        let unlucky = TraceContext::new(None, [0; 24]);
        assert!(unlucky.trace_id().ends_with('1') && unlucky.span_id().ends_with('1'));
        assert_eq!(unlucky.origin(), TraceOrigin::Here);
    }

    proptest! {
        #[test]
        fn any_field_gives_one_that_reads_back(field in proptest::collection::vec(any::<u8>(), 0..80)) {
            let written = TraceContext::new(Some(&field), DICE).to_string();
            prop_assert!(parse(written.as_bytes()).is_some());
        }
    }
}
