//! What a deployment brings from outside: route patterns, grants, a record as it comes from a peer.

#![no_main]

use atoll_core::grant::Grant;
use atoll_core::manifest::HandlerRecord;
use atoll_core::route::{Pattern, RouteTable, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // What decodes has been checked, and encodes to something that decodes to the same.
    if let Ok(record) = HandlerRecord::decode(data) {
        assert_eq!(HandlerRecord::decode(&record.encode()), Ok(record));
    }
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(5, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (first, second, grant) = (part(), part(), part());
    let target = Target { method: "GET", host: part(), path: part() };
    if let Ok(grant) = grant.parse::<Grant>() {
        assert_eq!(grant.to_string().parse(), Ok(grant));
    }
    let (Ok(first), Ok(second)) = (first.parse::<Pattern>(), second.parse::<Pattern>()) else {
        return;
    };
    assert_eq!(first.to_string().parse(), Ok(first.clone()));
    assert_eq!(first.specificity(&second), second.specificity(&first).reverse());
    assert_eq!(first.conflicts_with(&second), second.conflicts_with(&first));
    assert!(first.conflicts_with(&first));
    // The order of deployment does not matter, unless the two cannot be told apart.
    let found = |routes| {
        let table: RouteTable<Pattern> = RouteTable::new(routes);
        table.find(target).cloned()
    };
    let pair = |a: &Pattern, b: &Pattern| vec![(a.clone(), a.clone()), (b.clone(), b.clone())];
    let one_way = found(pair(&first, &second));
    let other_way = found(pair(&second, &first));
    let told_apart = first.specificity(&second) != std::cmp::Ordering::Equal;
    assert!(!told_apart || one_way == other_way);
    assert_eq!(one_way.is_some(), first.matches(target) || second.matches(target));
});
