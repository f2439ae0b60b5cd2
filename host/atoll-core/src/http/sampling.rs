//! Which traces are recorded: the samplers that OpenTelemetry names.

use super::trace::{TraceContext, TraceOrigin};

/// Whether a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Decides which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Of traces that begin here, and of all where callers are not asked.
    share: Share,
    callers: Callers,
}

/// Whether it counts what a caller has decided for its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    Decide,
    AreNotAsked,
}

/// How many traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    All,
    None,
    /// Those whose number is below this, of 2^63.
    Below(u64),
}

/// No sampler has this name, or its share is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// The name is unknown.
    #[error("{0:?} is no sampler; write {NAMES}")]
    Name(String),
    /// Not from 0 to 1.
    #[error("{0:?} is no share of traces; write a number from 0 to 1")]
    Ratio(String),
}

/// What [`Sampler::named`] takes.
pub const NAMES: &str = "parentbased_always_on, parentbased_always_off, parentbased_traceidratio, \
                         always_on, always_off or traceidratio";

impl Sampler {
    /// The sampler of this name, as `OTEL_TRACES_SAMPLER` has them. `ratio` is the share of those
    /// that end in `traceidratio`, 1 where it is missing; the others do not look at it.
    pub fn named(name: &str, ratio: Option<&str>) -> Result<Sampler, SamplerError> {
        let (callers, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (Callers::Decide, root),
            None => (Callers::AreNotAsked, name),
        };
        let share = match root {
            "always_on" => Share::All,
            "always_off" => Share::None,
            "traceidratio" => share(ratio)?,
            _ => return Err(SamplerError::Name(name.to_owned())),
        };
        Ok(Sampler { share, callers })
    }

    /// Decides about the trace of a request. All nodes with the same share decide the same.
    pub fn decide(&self, request: &TraceContext) -> Sampled {
        let is_decided = self.callers == Callers::Decide && request.origin() == TraceOrigin::Caller;
        let is_taken = match self.share {
            _ if is_decided => request.is_sampled(),
            Share::All => true,
            Share::None => false,
            Share::Below(bound) => {
                let (trace, _, _) = request.ids();
                let mut last = [0; 8];
                last.copy_from_slice(&trace[8..]);
                u64::from_be_bytes(last) >> 1 < bound
            }
        };
        if is_taken { Sampled::Yes } else { Sampled::No }
    }
}

impl Default for Sampler {
    /// `parentbased_always_on`.
    fn default() -> Sampler {
        Sampler { share: Share::All, callers: Callers::Decide }
    }
}

fn share(ratio: Option<&str>) -> Result<Share, SamplerError> {
    let Some(text) = ratio else { return Ok(Share::All) };
    let ratio = text.trim().parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let ratio = ratio.ok_or_else(|| SamplerError::Ratio(text.to_owned()))?;
    // From 0 to 2^63: both ends can be written.
    Ok(Share::Below((ratio * (1_u64 << 63) as f64) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[track_caller]
    fn check(name: &str, ratio: Option<&str>, want: [Sampled; 3]) {
        let sampler = Sampler::named(name, ratio).expect("a sampler");
        let of = |field: Option<&str>| {
            sampler.decide(&TraceContext::new(field.map(str::as_bytes), [7; 24]))
        };
        assert_eq!([of(Some(SAMPLED)), of(Some(NOT_SAMPLED)), of(None)], want, "{name} {ratio:?}");
    }

    #[test]
    fn a_caller_decides_unless_it_is_not_asked() {
        use Sampled::{No, Yes};
        check("parentbased_always_on", None, [Yes, No, Yes]);
        check("parentbased_always_off", None, [Yes, No, No]);
        check("parentbased_traceidratio", Some("0"), [Yes, No, No]);
        check("parentbased_traceidratio", Some(" 1.0 "), [Yes, No, Yes]);
        check("parentbased_traceidratio", None, [Yes, No, Yes]);
        check("always_on", Some("0"), [Yes, Yes, Yes]);
        check("always_off", None, [No, No, No]);
        check("traceidratio", Some("1"), [Yes, Yes, Yes]);
        check("traceidratio", Some("0"), [No, No, No]);
        let default = Sampler::named("parentbased_always_on", None);
        assert_eq!(default, Ok(Sampler::default()));
    }

    #[test]
    fn a_quarter_of_the_traces_is_about_a_quarter_and_the_same_on_every_node() {
        let sampler = Sampler::named("traceidratio", Some("0.25")).expect("a sampler");
        let mut number = 1_u64;
        let taken = (0..10_000).filter(|_| {
            // A generator with a known good spread (Steele and Vigna, 2021).
            number = number.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            let mut dice = [1; 24];
            dice[8..16].copy_from_slice(&number.to_be_bytes());
            let request = TraceContext::new(None, dice);
            let told = TraceContext::new(Some(request.to_string().as_bytes()), [3; 24]);
            assert_eq!(sampler.decide(&request), sampler.decide(&told));
            sampler.decide(&request) == Sampled::Yes
        });
        let taken = taken.count();
        assert!((2_300..2_700).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_no_sampler_is_told_what_to_write() {
        let error = Sampler::named("jaeger_remote", None).expect_err("unknown");
        assert!(error.to_string().contains("write parentbased_always_on, "), "{error}");
        for ratio in ["1.1", "-0.1", "NaN", "half", ""] {
            let error = Sampler::named("traceidratio", Some(ratio)).expect_err("no share");
            assert!(error.to_string().contains("from 0 to 1"), "{error}");
        }
    }
}
