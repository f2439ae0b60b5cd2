//! Conditional requests: entity tags, and the order in which preconditions are looked at.
//!
//! Source: RFC 9110 sections 8.8.3 and 13. Dates come in as seconds: their text is the shell's.

/// An entity tag as a request names it (RFC 9110 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    /// Written with `W/`: never equal under the strong comparison.
    pub weak: bool,
    /// What stands between the quotes.
    pub opaque: Box<[u8]>,
}

/// The value of If-Match or If-None-Match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagList {
    /// `*`: whatever there is.
    Any,
    /// One of these.
    Tags(Vec<EntityTag>),
}

/// Neither `*` nor a list of entity tags. A guess could turn a refused write into an accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected * or a list of entity tags, each in double quotes")]
pub struct TagListError;

/// How two entity tags are compared (RFC 9110 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// The preconditions of a request. Absent ones hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Only this version.
    pub if_match: Option<TagList>,
    /// Only if not written after, in seconds since the Unix epoch.
    pub if_unmodified_since_s: Option<u64>,
    /// Any version but this.
    pub if_none_match: Option<TagList>,
    /// Only if written after, in seconds since the Unix epoch.
    pub if_modified_since_s: Option<u64>,
}

/// What kind of request asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// GET or HEAD.
    Read,
    /// Any other method.
    Write,
}

/// The representation that there is at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// Its strong entity tag, without the quotes.
    pub tag: &'a str,
    /// Its Last-Modified, in seconds since the Unix epoch.
    pub modified_s: u64,
}

/// What the preconditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Do what was asked.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412: do nothing.
    Failed,
}

impl TagList {
    /// Parses the lines of one field; several are one list (RFC 9110 5.3).
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<TagList, TagListError> {
        let mut tags = Vec::new();
        let mut any = false;
        for line in lines {
            if line.trim_ascii() == b"*" {
                any = true;
            } else {
                parse_line(line, &mut tags)?;
            }
        }
        match (any, tags.is_empty()) {
            (true, true) => Ok(TagList::Any),
            (false, false) => Ok(TagList::Tags(tags)),
            _ => Err(TagListError),
        }
    }

    fn contains(&self, current: Option<Current<'_>>, comparison: Comparison) -> bool {
        let Some(current) = current else { return false };
        match self {
            TagList::Any => true,
            TagList::Tags(tags) => tags.iter().any(|tag| {
                *tag.opaque == *current.tag.as_bytes()
                    && !(tag.weak && comparison == Comparison::Strong)
            }),
        }
    }
}

/// Appends the tags of one line. Empty members of a list are allowed (RFC 9110 5.6.1.2).
fn parse_line(line: &[u8], tags: &mut Vec<EntityTag>) -> Result<(), TagListError> {
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (tag, after) = parse_tag(rest).ok_or(TagListError)?;
        tags.push(tag);
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return Err(TagListError);
        }
    }
    Ok(())
}

/// The entity tag that `text` begins with, and what follows it.
fn parse_tag(text: &[u8]) -> Option<(EntityTag, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', inner)?;
    let opaque = &inner[..end];
    let allowed = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80;
    let tag = EntityTag { weak, opaque: opaque.into() };
    opaque.iter().all(|&byte| allowed(byte)).then_some((tag, &inner[end + 1..]))
}

impl Preconditions {
    /// Whether there are none, so that nothing needs to be looked up for them.
    pub fn is_empty(&self) -> bool {
        *self == Preconditions::default()
    }

    /// Evaluates in the order of RFC 9110 13.2.2. `current` is `None` where there is nothing.
    ///
    /// A read of nothing is a 404 whatever its preconditions (13.2.1): ask only where there is
    /// something to read.
    pub fn evaluate(&self, access: Access, current: Option<Current<'_>>) -> Verdict {
        if let Some(tags) = &self.if_match {
            if !tags.contains(current, Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if let (Some(since_s), Some(current)) = (self.if_unmodified_since_s, current)
            && current.modified_s > since_s
        {
            return Verdict::Failed;
        }
        if let Some(tags) = &self.if_none_match {
            if !tags.contains(current, Comparison::Weak) {
                return Verdict::Proceed;
            }
            return match access {
                Access::Read => Verdict::NotModified,
                Access::Write => Verdict::Failed,
            };
        }
        match (access, self.if_modified_since_s, current) {
            (Access::Read, Some(since_s), Some(current)) if current.modified_s <= since_s => {
                Verdict::NotModified
            }
            _ => Verdict::Proceed,
        }
    }
}

/// Whether the value of If-Range names the current version, so that a range may be answered
/// (RFC 9110 13.1.5). `tag` is the strong entity tag without the quotes.
///
/// A date never does: two writes in one second share it, which makes it a weak validator.
pub fn if_range_holds(field: &[u8], tag: &str) -> bool {
    match parse_tag(field.trim_ascii()) {
        Some((named, [])) => !named.weak && *named.opaque == *tag.as_bytes(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
