//! Calls every function of the store and says the first that did not do what it should.

use std::time::Duration;

use atoll_guest::kv::{self, Bucket, Error, SetOptions};
use atoll_guest::{Response, clock};

/// Answers `ok`, or a 500 with the claim that did not hold. The keys `try:*` must be free.
pub(crate) fn try_everything() -> Response {
    match kv::open("default")
        .map_err(|error| error.to_string())
        .and_then(|bucket| try_bucket(&bucket))
    {
        Ok(()) => Response::text("ok\n"),
        Err(claim) => Response::text(format!("{claim}\n")).status(500),
    }
}

fn try_bucket(bucket: &Bucket) -> Result<(), String> {
    let failed = |error: Error| error.to_string();
    values(bucket).map_err(failed).and_then(holds)?;
    conditions(bucket).map_err(failed).and_then(holds)?;
    counters(bucket).map_err(failed).and_then(holds)?;
    tags(bucket).map_err(failed).and_then(holds)?;
    lists(bucket).map_err(failed).and_then(holds)
}

/// Claims with whether they hold.
type Claims = Vec<(&'static str, bool)>;

fn holds(claims: Claims) -> Result<(), String> {
    match claims.into_iter().find(|claim| !claim.1) {
        Some((claim, _)) => Err(format!("does not hold: {claim}")),
        None => Ok(()),
    }
}

fn values(bucket: &Bucket) -> Result<Claims, Error> {
    let before = bucket.get("try:a")?;
    bucket.set("try:a", "one")?;
    let entry = bucket.get_entry("try:a")?;
    let ttl = Duration::from_secs(60);
    bucket.set_with("try:b", [0xff], SetOptions::new().ttl(ttl))?;
    let ends_in_ms = bucket
        .get_entry("try:b")?
        .and_then(|entry| entry.expires_at_ms)
        .map(|expires_at_ms| expires_at_ms.saturating_sub(clock::now_ms()));
    Ok(vec![
        ("a free key holds nothing", before.is_none()),
        ("a value is read as written", bucket.get_text("try:a")?.as_deref() == Some("one")),
        (
            "an entry with no lifetime has no end",
            entry.is_some_and(|entry| entry.expires_at_ms.is_none()),
        ),
        ("a lifetime becomes an end", ends_in_ms.is_some_and(|ms| (50_000..=60_000).contains(&ms))),
        ("bytes are no text", matches!(bucket.get_text("try:b"), Err(Error::Invalid(_)))),
        ("a key that is written exists", bucket.exists("try:a")?),
        ("delete says that there was something", bucket.delete("try:a")?),
        ("delete says that there was nothing", !bucket.delete("try:a")?),
        ("a deleted key holds nothing", !bucket.exists("try:a")?),
        ("an empty key is refused", matches!(bucket.set("", ""), Err(Error::Invalid(_)))),
    ])
}

fn conditions(bucket: &Bucket) -> Result<Claims, Error> {
    let absent = || SetOptions::new().if_absent();
    let present = || SetOptions::new().if_present();
    let refused = |answer: Result<String, Error>| answer == Err(Error::ConditionFailed);
    let present_before = bucket.set_with("try:c", "0", present());
    let first = bucket.set_with("try:c", "1", absent())?;
    let second = bucket.set_with("try:c", "2", SetOptions::new().if_version(first.as_str()))?;
    let stale = bucket.set_with("try:c", "3", SetOptions::new().if_version(first.as_str()));
    let version = bucket.get_entry("try:c")?.map(|entry| entry.version);
    Ok(vec![
        ("if-present on a free key is refused", refused(present_before)),
        ("if-absent on a taken key is refused", refused(bucket.set_with("try:c", "4", absent()))),
        ("an older version is refused", refused(stale)),
        ("each write has a version of its own", first != second),
        ("a write returns the version that is read", version == Some(second)),
        ("a refused write writes nothing", bucket.get_text("try:c")?.as_deref() == Some("2")),
        ("if-present on a taken key writes", bucket.set_with("try:c", "5", present()).is_ok()),
    ])
}

fn counters(bucket: &Bucket) -> Result<Claims, Error> {
    let minute = Duration::from_secs(60);
    let counted = bucket.increment_within("try:n", 5, minute)?;
    let end = bucket.get_entry("try:n")?.and_then(|entry| entry.expires_at_ms);
    let counted_again = bucket.increment_within("try:n", -2, minute * 60)?;
    let end_again = bucket.get_entry("try:n")?.and_then(|entry| entry.expires_at_ms);
    bucket.set("try:t", "text")?;
    Ok(vec![
        ("a counter begins at 0", counted == 5),
        ("a counter goes down too", counted_again == 3),
        ("a counter that was created with a lifetime has an end", end.is_some()),
        ("a later increment leaves the end alone", end == end_again),
        ("text is no counter", matches!(bucket.increment("try:t", 1), Err(Error::WrongType))),
    ])
}

fn tags(bucket: &Bucket) -> Result<Claims, Error> {
    let tagged =
        |tags: &[&str]| tags.iter().fold(SetOptions::new(), |options, tag| options.tag(*tag));
    let none = bucket.tags("try:tag")?;
    bucket.set_with("try:tag", "1", tagged(&["a", "b", "a"]))?;
    let two = bucket.tags("try:tag")?;
    bucket.increment("try:tag", 1)?;
    let counted = bucket.tags("try:tag")?;
    let refused = |tags: &[&str]| {
        matches!(bucket.set_with("try:tag", "3", tagged(tags)), Err(Error::Invalid(_)))
    };
    let many = refused(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let (spaced, empty) = (refused(&["a b"]), refused(&[""]));
    let absent = bucket.set_with("try:tag", "4", tagged(&["c"]).if_absent());
    let kept = bucket.get_text("try:tag")?;
    bucket.set("try:tag", "5")?;
    let ab = Some(vec!["a".to_owned(), "b".to_owned()]);
    Ok(vec![
        ("a free key has no tags", none.is_none()),
        ("tags are read as written, each once", two == ab),
        ("an increment leaves them", counted == ab),
        ("nine tags are refused", many),
        ("a tag is visible ASCII", spaced && empty),
        ("a condition holds with tags too", absent == Err(Error::ConditionFailed)),
        ("what is refused writes nothing", kept.as_deref() == Some("2")),
        ("a write without tags has none", bucket.tags("try:tag")? == Some(Vec::new())),
    ])
}

fn lists(bucket: &Bucket) -> Result<Claims, Error> {
    let names: Vec<String> = (0..5).map(|number| format!("try:list:{number}")).collect();
    let entries: Vec<(String, Vec<u8>)> =
        names.iter().map(|name| (name.clone(), name.as_bytes().to_vec())).collect();
    bucket.set_many(&entries)?;
    let mut listed = bucket.keys("try:list:").collect::<Result<Vec<_>, _>>()?;
    listed.sort();
    let asked = ["try:list:1".to_owned(), "try:none".to_owned(), "try:list:0".to_owned()];
    let many = bucket.get_many(&asked)?;
    let too_many = vec!["try:none".to_owned(); 1_001];
    Ok(vec![
        ("a prefix lists its keys", listed == names),
        (
            "values come in the order of the keys",
            many == [Some(b"try:list:1".to_vec()), None, Some(b"try:list:0".to_vec())],
        ),
        (
            "too many keys are refused",
            matches!(bucket.get_many(&too_many), Err(Error::TooLarge(_))),
        ),
    ])
}
