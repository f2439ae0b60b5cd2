//! W3C Trace Context: the trace that a request is part of, and its place in it.

use super::sampling::Sampled;
use crate::hex::{hex, write_hex};
use std::fmt;

/// A request within a trace. Written as the field `traceparent` of what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    parent: Option<[u8; 8]>,
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
/// That of a trace which somebody records.
const SAMPLED: u8 = 0b01;
/// Length of the field in version 00.
const FIELD_BYTES: usize = 55;

impl TraceContext {
    /// The request's place: in the trace that `traceparent` names, or, where that is missing or no
    /// trace, in one that begins here and that nobody has asked to record. `dice` are random.
    pub fn new(traceparent: Option<&[u8]>, dice: [u8; 24]) -> TraceContext {
        let [first @ .., _, _, _, _, _, _, _, _] = dice;
        let mut last = [0; 8];
        last.copy_from_slice(&dice[16..]);
        let span = span_of(last);
        if let Some((trace, parent, flags)) = traceparent.and_then(parse) {
            let (parent, origin) = (Some(parent), TraceOrigin::Caller);
            return TraceContext { trace, span, parent, flags, origin };
        }
        let mut trace: [u8; 16] = first;
        trace[15] |= u8::from(trace == [0; 16]);
        TraceContext { trace, span, parent: None, flags: 0b10, origin: TraceOrigin::Here }
    }

    /// The place of something that this request leads to.
    #[must_use]
    pub fn child(&self, dice: [u8; 8]) -> TraceContext {
        TraceContext { span: span_of(dice), parent: Some(self.span), ..*self }
    }

    /// The same place, in a trace that is recorded or not.
    #[must_use]
    pub fn sampled(self, sampled: Sampled) -> TraceContext {
        let flags = match sampled {
            Sampled::Yes => self.flags | SAMPLED,
            Sampled::No => self.flags & !SAMPLED,
        };
        TraceContext { flags, ..self }
    }

    /// Whether the trace is recorded, as far as its caller or [`TraceContext::sampled`] has said.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The ids as bytes: of the trace, of this place, and of the one that led to it.
    pub fn ids(&self) -> (&[u8; 16], &[u8; 8], Option<&[u8; 8]>) {
        (&self.trace, &self.span, self.parent.as_ref())
    }

    /// The flags, as they are handed on.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Where the trace began.
    pub fn origin(&self) -> TraceOrigin {
        self.origin
    }

    /// The field `traceparent`.
    pub fn field(&self) -> [u8; FIELD_BYTES] {
        let mut field = [b'-'; FIELD_BYTES];
        write_hex(&[0], &mut field[..2]);
        write_hex(&self.trace, &mut field[3..35]);
        write_hex(&self.span, &mut field[36..52]);
        write_hex(&[self.flags], &mut field[53..]);
        field
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
        // Digits and dashes.
        f.write_str(std::str::from_utf8(&self.field()).unwrap_or_default())
    }
}

/// All zeros stand for none.
fn span_of(dice: [u8; 8]) -> [u8; 8] {
    let mut span = dice;
    span[7] |= u8::from(span == [0; 8]);
    span
}

/// The trace, the caller's place and the flags. Later versions begin like the first and may have more
/// behind it.
fn parse(field: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
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
    is_one.then_some((trace, parent, flags & FLAGS_KNOWN))
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

    #[test]
    fn what_a_request_leads_to_is_below_it_in_the_same_trace() {
        let field = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = TraceContext::new(Some(field.as_bytes()), DICE);
        let (trace, span, parent) = request.ids();
        assert_eq!(parent, Some(&[0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        let child = request.child([0; 8]);
        assert_eq!(child.ids(), (trace, &[0, 0, 0, 0, 0, 0, 0, 1], Some(span)));
        assert_eq!((child.is_sampled(), child.flags()), (true, 1));
        let unsampled = child.sampled(Sampled::No);
        assert_eq!((unsampled.is_sampled(), unsampled.flags()), (false, 0));
        assert_eq!(unsampled.sampled(Sampled::Yes), child);
        assert_eq!(TraceContext::new(None, DICE).ids().2, None);
    }

    proptest! {
        #[test]
        fn any_field_gives_one_that_reads_back(field in proptest::collection::vec(any::<u8>(), 0..80)) {
            let written = TraceContext::new(Some(&field), DICE).to_string();
            prop_assert!(parse(written.as_bytes()).is_some());
        }
    }
}
