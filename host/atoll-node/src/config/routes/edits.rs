//! What a route changes in the messages that go through it, as it is written in the file.

use super::{FileRoute, OneOrSeveral};
use crate::proxy::settings::RouteEdits;
use anyhow::{Context, bail, ensure};
use atoll_core::http::edits::{CookieNames, FieldEdits, PathRewrite, may_change};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most fields, and most cookies, that one list of a route names.
const NAME_COUNT_MAX: usize = 64;

/// What is done to the fields of requests or responses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileFields {
    remove: Vec<String>,
    set: BTreeMap<String, String>,
    add: BTreeMap<String, OneOrSeveral>,
}

/// Checks what a route says of it.
pub(super) fn resolve(route: &FileRoute) -> anyhow::Result<RouteEdits> {
    Ok(RouteEdits {
        cookies: cookies(&route.drop_cookies)?,
        request: fields(&route.request_headers).context("request_headers")?,
        response: fields(&route.response_headers).context("response_headers")?,
        upgrades: upgrades(route.upgrades.as_deref())?,
        path: path(route)?,
        rewrites_location: rewrites_location(route)?,
    })
}

fn rewrites_location(route: &FileRoute) -> anyhow::Result<bool> {
    if !route.rewrite_location {
        return Ok(false);
    }
    ensure!(
        route.replace_path.is_none(),
        "rewrite_location: from the path of replace_path there is no way back to a client's"
    );
    let changes = route.strip_prefix.is_some() || route.add_prefix.is_some();
    ensure!(
        changes || route.host.as_deref() == Some("upstream"),
        "rewrite_location is for routes with strip_prefix, add_prefix or host = \"upstream\"; an \
         upstream of others knows the names that clients do"
    );
    Ok(true)
}

/// Nothing but WebSocket where the route does not say: behind an upgrade nobody looks at what goes
/// through, and over HTTP/2 there would be requests that no route has seen.
fn upgrades(names: Option<&[String]>) -> anyhow::Result<Vec<String>> {
    let Some(names) = names else { return Ok(vec!["websocket".to_owned()]) };
    ensure!(names.len() <= NAME_COUNT_MAX, "upgrades has at most {NAME_COUNT_MAX} names");
    for name in names {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b);
        ensure!(
            !name.is_empty() && name.bytes().all(is_name),
            "upgrades: {name:?} is no name of a protocol"
        );
        ensure!(
            !name.eq_ignore_ascii_case("h2c"),
            "upgrades: behind h2c there would be requests that no route has seen"
        );
    }
    Ok(names.to_vec())
}

fn cookies(names: &[String]) -> anyhow::Result<CookieNames> {
    ensure!(names.len() <= NAME_COUNT_MAX, "drop_cookies has at most {NAME_COUNT_MAX} names");
    for name in names {
        let plain = name.strip_suffix('*').unwrap_or(name);
        let is_name = plain.bytes().all(|b| b.is_ascii_graphic() && !b"=;,*\"".contains(&b));
        ensure!(
            is_name && !name.is_empty(),
            "drop_cookies: {name:?} is no name of a cookie; * may stand at its end only"
        );
    }
    Ok(CookieNames(names.to_vec()))
}

fn fields(file: &FileFields) -> anyhow::Result<FieldEdits> {
    let most = file.remove.len().max(file.set.len()).max(file.add.len());
    ensure!(
        most <= NAME_COUNT_MAX,
        "each of remove, set and add has at most {NAME_COUNT_MAX} names"
    );
    let mut edits = FieldEdits::default();
    for text in &file.remove {
        edits.remove.push(name(text)?);
    }
    for (text, line) in &file.set {
        edits.set.push((name(text)?, value(text, line)?));
    }
    for (text, lines) in &file.add {
        let lines = match lines {
            OneOrSeveral::One(line) => std::slice::from_ref(line),
            OneOrSeveral::Several(lines) => lines,
        };
        ensure!(lines.len() <= NAME_COUNT_MAX, "{text} has at most {NAME_COUNT_MAX} lines");
        for line in lines {
            edits.add.push((name(text)?, value(text, line)?));
        }
    }
    Ok(edits)
}

fn name(text: &str) -> anyhow::Result<HeaderName> {
    let name: HeaderName =
        text.parse().with_context(|| format!("{text:?} is no name of a field"))?;
    ensure!(
        may_change(&name),
        "{text} is not for routes to change: it concerns one connection, or frames the message{}",
        if name == http::header::HOST {
            "; host = \"upstream\" tells the upstream its own"
        } else {
            ""
        }
    );
    Ok(name)
}

fn value(name: &str, text: &str) -> anyhow::Result<HeaderValue> {
    HeaderValue::from_str(text)
        .with_context(|| format!("the value of {name} is not visible text of one line: {text:?}"))
}

fn path(route: &FileRoute) -> anyhow::Result<PathRewrite> {
    let check = |name: &str, text: &str| {
        let is_path = text.parse::<PathAndQuery>().is_ok_and(|path| path.query().is_none());
        let is_plain = is_path && text.starts_with('/') && !text.contains(['#', '*']);
        ensure!(is_plain, "{name} is {text:?}; it starts with / and has no query");
        Ok(())
    };
    let prefix = |name: &str, text: &Option<String>| {
        let Some(text) = text else { return Ok(Box::from("")) };
        check(name, text)?;
        let prefix = text.trim_end_matches('/');
        ensure!(
            !prefix.is_empty(),
            "{name} is {text:?}; it starts with / and has a name behind it"
        );
        Ok(Box::from(prefix))
    };
    let (strip, add) = (&route.strip_prefix, &route.add_prefix);
    match &route.replace_path {
        Some(_) if strip.is_some() || add.is_some() => {
            bail!("write either replace_path or strip_prefix and add_prefix, not both")
        }
        Some(whole) => {
            check("replace_path", whole)?;
            Ok(PathRewrite::Whole(whole.as_str().into()))
        }
        None if strip.is_none() && add.is_none() => Ok(PathRewrite::None),
        None => Ok(PathRewrite::Prefix {
            strip: prefix("strip_prefix", strip)?,
            add: prefix("add_prefix", add)?,
        }),
    }
}
