//! Routes: which requests of the gateway go where.
//!
//! A pattern is `[METHOD[,METHOD…] ][HOST]/PATH`. `*` as a whole segment stands for any one
//! segment; as the last one it stands for the rest, or for nothing: `/counter/*` takes `/counter`,
//! `/counter/` and everything below. A host is exact, or `*.example.com` for all names below it.
//! Paths are compared as they were sent, without decoding. Where several patterns match, the more
//! specific one wins: the host first, then segment by segment, then the methods.

use crate::limits::PATTERN_BYTES_MAX;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Most methods in one pattern.
const METHOD_COUNT_MAX: usize = 16;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Upper case, sorted, distinct; empty for all.
    methods: Vec<Box<str>>,
    host: Host,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// All names below this one, lower case, with the leading dot.
    Below(Box<str>),
    /// Lower case.
    Exact(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    One,
    Rest,
}

/// Why text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is no route: {reason}; write e.g. /counter/*, GET /hello or example.com/api/*"
)]
pub struct PatternError {
    /// The text that was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The parts of a request that a route looks at.
#[derive(Clone, Copy, Debug)]
pub struct Target<'r> {
    /// As sent, upper case by convention.
    pub method: &'r str,
    /// Without the port; empty where the request names none.
    pub host: &'r str,
    /// As sent, without the query; starts with `/`.
    pub path: &'r str,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        parse(text).map_err(|reason| PatternError { pattern: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<Pattern, &'static str> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err("it is too long");
    }
    let (methods, rest) = match text.split_once(' ') {
        Some((methods, rest)) => (parse_methods(methods)?, rest.trim_start()),
        None => (Vec::new(), text),
    };
    let slash = rest.find('/').ok_or("it has no path, which starts with /")?;
    let (host, path) = rest.split_at(slash);
    let visible = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
    if !path.bytes().all(visible) {
        return Err("a path holds visible ASCII characters other than ? and #");
    }
    Ok(Pattern { methods, host: parse_host(host)?, segments: parse_path(&path[1..])? })
}

fn parse_methods(text: &str) -> Result<Vec<Box<str>>, &'static str> {
    let mut methods = Vec::new();
    for method in text.split(',') {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            return Err("methods are upper case and separated by commas");
        }
        methods.push(method.into());
    }
    if methods.len() > METHOD_COUNT_MAX {
        return Err("it names too many methods");
    }
    methods.sort();
    methods.dedup();
    Ok(methods)
}

fn parse_host(text: &str) -> Result<Host, &'static str> {
    let plain = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
    };
    match text.strip_prefix('*') {
        _ if text.is_empty() => Ok(Host::Any),
        Some(below) if below.starts_with('.') && plain(&below[1..]) => {
            Ok(Host::Below(below.to_ascii_lowercase().into()))
        }
        None if plain(text) => Ok(Host::Exact(text.to_ascii_lowercase().into())),
        _ => Err("a host is a name such as example.com or *.example.com, without a port"),
    }
}

fn parse_path(text: &str) -> Result<Vec<Segment>, &'static str> {
    let count = text.split('/').count();
    let segments = text.split('/').enumerate().map(|(at, segment)| match segment {
        "*" if at + 1 == count => Ok(Segment::Rest),
        "*" => Ok(Segment::One),
        literal if literal.contains('*') => Err("* stands for a whole segment"),
        literal => Ok(Segment::Literal(literal.into())),
    });
    segments.collect()
}

impl Pattern {
    /// Whether the request is one for this route.
    pub fn matches(&self, target: Target<'_>) -> bool {
        self.matches_path(target.path)
            && self.host.matches(target.host)
            && (self.methods.is_empty() || self.methods.iter().any(|m| **m == *target.method))
    }

    /// Whether it takes requests for this path, of some host.
    pub fn matches_path(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/');
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Rest, _) => return true,
                (Segment::One, Some(part)) if !part.is_empty() => {}
                (Segment::Literal(literal), Some(part)) if **literal == *part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// Which of two patterns is asked first: `Less` is the more specific one.
    ///
    /// `Equal` patterns match the same requests but for their methods.
    pub fn specificity(&self, other: &Pattern) -> Ordering {
        self.host.specificity(&other.host).then_with(|| self.path_specificity(other)).then_with(
            || {
                let any = |pattern: &Pattern| pattern.methods.is_empty();
                any(self).cmp(&any(other))
            },
        )
    }

    fn path_specificity(&self, other: &Pattern) -> Ordering {
        for pair in self.segments.iter().zip(&other.segments) {
            let order = match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a.cmp(b),
                (Segment::One, Segment::One) | (Segment::Rest, Segment::Rest) => Ordering::Equal,
                (Segment::Literal(_), _) | (Segment::One, Segment::Rest) => Ordering::Less,
                (_, Segment::Literal(_)) | (Segment::Rest, Segment::One) => Ordering::Greater,
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        // One begins with the other: an exact path comes before the rest of it, and a longer path
        // takes nothing that the shorter one does.
        let shared = self.segments.len().min(other.segments.len());
        match (self.segments.get(shared), other.segments.get(shared)) {
            (None, Some(Segment::Rest)) => Ordering::Less,
            (Some(Segment::Rest), None) => Ordering::Greater,
            _ => other.segments.len().cmp(&self.segments.len()),
        }
    }

    /// Whether some request would match both, and nothing says which comes first.
    pub fn conflicts_with(&self, other: &Pattern) -> bool {
        let same_methods = match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, true) => true,
            (false, false) => self.methods.iter().any(|method| other.methods.contains(method)),
            _ => false,
        };
        same_methods && self.host == other.host && self.segments == other.segments
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Host::Any => true,
            Host::Exact(name) => name.eq_ignore_ascii_case(host),
            Host::Below(suffix) => {
                let start = host.len().checked_sub(suffix.len());
                let tail = start.filter(|&start| start > 0).and_then(|start| host.get(start..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
            }
        }
    }

    fn specificity(&self, other: &Host) -> Ordering {
        let rank = |host: &Host| match host {
            Host::Exact(_) => (0, 0),
            Host::Below(suffix) => (1, usize::MAX - suffix.len()),
            Host::Any => (2, 0),
        };
        rank(self).cmp(&rank(other))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        match &self.host {
            Host::Any => {}
            Host::Exact(name) => f.write_str(name)?,
            Host::Below(suffix) => write!(f, "*{suffix}")?,
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::One | Segment::Rest => f.write_str("/*")?,
            }
        }
        Ok(())
    }
}

/// Routes in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    routes: Vec<(Pattern, T)>,
}

impl<T> Default for RouteTable<T> {
    fn default() -> RouteTable<T> {
        RouteTable { routes: Vec::new() }
    }
}

impl<T> RouteTable<T> {
    /// A table of these routes. Where two conflict, the one that comes first is asked first.
    pub fn new(mut routes: Vec<(Pattern, T)>) -> RouteTable<T> {
        routes.sort_by(|(a, _), (b, _)| a.specificity(b));
        RouteTable { routes }
    }

    /// What the most specific matching route leads to.
    pub fn find(&self, target: Target<'_>) -> Option<&T> {
        self.find_route(target).map(|(_, to)| to)
    }

    /// The most specific matching route itself.
    pub fn find_route(&self, target: Target<'_>) -> Option<(&Pattern, &T)> {
        let route = self.routes.iter().find(|(pattern, _)| pattern.matches(target));
        route.map(|(pattern, to)| (pattern, to))
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// All routes, most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &T)> {
        self.routes.iter().map(|(pattern, to)| (pattern, to))
    }
}

#[cfg(test)]
mod tests;
