//! Changes that need no new component: bringing a version back, other routes.
//!
//! Each is a version of its own, written as one record, so that every node makes it live at once and
//! `atoll rollback` undoes it.

use super::Handlers;
use super::deploy::DeployError;
use super::deployed::Release;
use atoll_core::manifest::canary::Canary;
use atoll_core::manifest::{HandlerRecord, ManifestError};
use atoll_core::route::{Pattern, PatternError};

/// What becomes of a handler's routes.
#[derive(Debug)]
pub(crate) enum Rerouting {
    /// These and no others.
    Replace(Vec<String>),
    /// The ones that it has, without some and with others.
    Edit { remove: Vec<String>, add: Vec<String> },
}

impl Rerouting {
    /// The routes that a handler called `name` has afterwards.
    fn apply(self, name: &str, current: &[String]) -> Result<Vec<String>, DeployError> {
        let (remove, add) = match self {
            Rerouting::Replace(routes) => return Ok(routes),
            Rerouting::Edit { remove, add } => (remove, add),
        };
        let mut routes = parse(current)?;
        for route in parse(&remove)? {
            let place = routes.iter().position(|had| *had == route);
            let unknown = || DeployError::NoRoute {
                name: name.to_owned(),
                route: route.clone(),
                routes: current.join(", "),
            };
            routes.remove(place.ok_or_else(unknown)?);
        }
        for route in parse(&add)? {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        Ok(routes.iter().map(Pattern::to_string).collect())
    }
}

fn parse(routes: &[String]) -> Result<Vec<Pattern>, DeployError> {
    let parsed: Result<_, PatternError> = routes.iter().map(|route| route.parse()).collect();
    Ok(parsed.map_err(ManifestError::Route)?)
}

impl Handlers {
    /// Brings back the version before, or the one that is named, as a new one. Where a canary is on
    /// trial and none is named, the live version goes on without it.
    pub(crate) async fn roll_back(
        &self,
        name: &str,
        to: Option<u64>,
    ) -> Result<Release, DeployError> {
        let _turn = self.turns.of(name).await;
        let current = self.kept(name)?;
        if let (None, Some(_)) = (to, &current.canary) {
            let restores = Some(current.content_version());
            let content = HandlerRecord { restores, canary: None, ..current.clone() };
            return self.make_live(&current, content).await;
        }
        let mut versions = self.records.versions(name).into_iter().rev();
        let wanted = versions.find(|version| match to {
            Some(to) => version.version == to,
            None => version.content_version() < current.content_version(),
        });
        let missing = || DeployError::NoVersion {
            name: name.to_owned(),
            version: to.map_or_else(|| "before".to_owned(), |to| to.to_string()),
        };
        let wanted = wanted.ok_or_else(missing)?;
        let restores = Some(wanted.content_version());
        self.make_live(&current, HandlerRecord { restores, canary: None, ..wanted }).await
    }

    /// Gives a handler's canary all requests.
    pub(crate) async fn promote(&self, name: &str) -> Result<Release, DeployError> {
        let _turn = self.turns.of(name).await;
        let current = self.kept(name)?;
        let canary = current.canary.clone();
        let canary = canary.ok_or_else(|| DeployError::NoCanary(name.to_owned()))?.record;
        let restores = Some(canary.content_version());
        self.make_live(&current, HandlerRecord { restores, ..*canary }).await
    }

    /// Changes the requests that a handler answers. Its component and its instances stay.
    pub(crate) async fn reroute(
        &self,
        name: &str,
        change: Rerouting,
    ) -> Result<Release, DeployError> {
        let _turn = self.turns.of(name).await;
        let current = self.kept(name)?;
        let routes = change.apply(name, &current.routes)?;
        let patterns = parse(&routes)?;
        patterns.iter().try_for_each(Pattern::check_new).map_err(ManifestError::Route)?;
        match self.get(name).filter(|live| live.record == current) {
            Some(live) if routes == current.routes => return Ok(Release::clone(&live)),
            _ => {}
        }
        let canary = current.canary.clone().map(|Canary { share, mut record }| {
            record.routes.clone_from(&routes);
            Canary { share, record }
        });
        let content = HandlerRecord { routes, restores: None, canary, ..current.clone() };
        self.make_live(&current, content).await
    }

    fn kept(&self, name: &str) -> Result<HandlerRecord, DeployError> {
        self.records.get(name).ok_or_else(|| DeployError::Unknown(name.to_owned()))
    }

    /// Makes what a record says live, as a version of its own, of a component that is kept. It is a
    /// change of `current`, and of nothing else that may have come from another node meanwhile.
    async fn make_live(
        &self,
        current: &HandlerRecord,
        content: HandlerRecord,
    ) -> Result<Release, DeployError> {
        let record = HandlerRecord {
            version: self.next_version(&content.name),
            deployed_ms: self.node.now().millis(),
            ..content
        };
        let (patterns, _) = record.check()?;
        self.check_room(&record.name, &patterns)?;
        let release = self.release(record).await?;
        match self.commit(Some(current), &release, None)? {
            true => Ok(release),
            false => Err(DeployError::Overtaken(current.name.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(routes: &[&str]) -> Vec<String> {
        routes.iter().map(|route| (*route).to_owned()).collect()
    }

    #[track_caller]
    fn check(remove: &[&str], add: &[&str], want: Result<&[&str], &str>) {
        let change = Rerouting::Edit { remove: texts(remove), add: texts(add) };
        let routes = change.apply("a", &texts(&["GET,HEAD /x", "/y/*"]));
        match (routes, want) {
            (Ok(routes), Ok(want)) => assert_eq!(routes, texts(want)),
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (got, want) => panic!("{got:?} in the place of {want:?}"),
        }
    }

    #[test]
    fn routes_are_added_and_removed_as_patterns_and_not_as_text() {
        check(&[], &["/z"], Ok(&["GET,HEAD /x", "/y/*", "/z"]));
        check(&["HEAD,GET /x"], &[], Ok(&["/y/*"]));
        check(&["/y/*"], &["/y/*"], Ok(&["GET,HEAD /x", "/y/*"]));
        check(&[], &["HEAD,GET /x"], Ok(&["GET,HEAD /x", "/y/*"]));
        check(&["/x"], &[], Err("handler a has no route /x; it has GET,HEAD /x, /y/*"));
        check(&["x"], &[], Err("write e.g. /counter/*"));
    }
}
