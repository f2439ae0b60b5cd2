//! Frames come back as they went, and garbage is an error.

use super::*;
use crate::limits::{AUDIT_GROUP_COUNT, AUDIT_GROUPS_ASKED_MAX};
use crate::replica::vector::Mark;
use crate::wire::audit::Terms;
use proptest::prelude::*;

fn any_vector() -> impl Strategy<Value = Vector> {
    let mark = (any::<u128>(), any::<u64>(), any::<u64>());
    proptest::collection::vec(mark, 0..5).prop_map(|marks| {
        let mark =
            |(id, seq, head)| (Uuid::from_u128(id), Mark { seq, head: Hlc::from_bits(head) });
        marks.into_iter().map(mark).collect()
    })
}

fn any_member() -> impl Strategy<Value = Member> {
    (any::<u128>(), "[!-~]{0,20}", any::<bool>()).prop_map(|(id, name, writes)| Member {
        origin: Uuid::from_u128(id),
        name: name.into(),
        role: if writes { Role::Master } else { Role::Replica },
    })
}

fn any_audit() -> impl Strategy<Value = Audit> {
    let terms = || {
        (any::<u64>(), any::<u64>())
            .prop_map(|(cut, until_ms)| Terms { cut: Hlc::from_bits(cut), until_ms })
    };
    let sums = || proptest::collection::vec(any::<u64>(), 0..=AUDIT_GROUP_COUNT);
    let groups = proptest::collection::vec(any::<u8>(), 0..=AUDIT_GROUPS_ASKED_MAX);
    let leaves = proptest::collection::vec(any::<u16>(), 0..20);
    let bytes = || proptest::collection::vec(any::<u8>(), 0..50);
    prop_oneof![
        terms().prop_map(Audit::Ask),
        Just(Audit::Decline),
        terms().prop_map(Audit::Agree),
        sums().prop_map(Audit::Groups),
        groups.prop_map(Audit::WantLeaves),
        sums().prop_map(Audit::Leaves),
        leaves.prop_map(Audit::WantKeys),
        Just(Audit::WantMore),
        (any::<u64>(), bytes(), any::<bool>()).prop_map(|(floor, keys, done)| {
            Audit::Keys { floor: Hlc::from_bits(floor), keys, done }
        }),
        (any::<u64>(), bytes())
            .prop_map(|(floor, keys)| Audit::Check { floor: Hlc::from_bits(floor), keys }),
        (bytes(), bytes()).prop_map(|(keys, entries)| Audit::Checked { keys, entries }),
        Just(Audit::Done),
        Just(Audit::Differs),
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let id = || any::<u128>().prop_map(Uuid::from_u128);
    let ids = || proptest::collection::vec(any::<u128>().prop_map(Uuid::from_u128), 0..4);
    let members = || proptest::collection::vec(any_member(), 0..4);
    let bytes = || proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
    let report = (any_member(), any::<u64>(), any_vector(), ids(), ids(), members(), any::<bool>())
        .prop_map(|(member, version, vector, links, gone, members, holds)| {
            let readiness = Readiness::Stale;
            let forgotten = gone.iter().map(|id: &Uuid| (*id, version)).collect();
            Report { member, version, vector, links, gone, forgotten, members, holds, readiness }
        });
    let begin = (any_vector(), any::<u64>(), members(), ids()).prop_map(
        |(vector, floor, members, gone)| {
            let (floor, freshness) = (Hlc::from_bits(floor), Freshness::Stale);
            SyncBegin { vector, floor, freshness, members, gone }
        },
    );
    prop_oneof![
        (any::<u32>(), any_member()).prop_map(|(index, member)| Frame::Origin { index, member }),
        (any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>(), bytes()).prop_map(
            |(index, first_seq, base, count, run)| {
                Frame::Ops { index, first_seq, base: Hlc::from_bits(base), count, run }
            }
        ),
        (any::<u32>(), any_member(), any::<u64>(), bytes()).prop_map(
            |(index, member, seq, run)| Frame::Large { index, member, seq, base: Hlc::ZERO, run }
        ),
        (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<(u32, u64)>(), 0..4))
            .prop_map(|(live, bulk, marks)| Frame::Ack { live, bulk, marks }),
        id().prop_map(Frame::Prune),
        (id(), any::<u64>()).prop_map(|(id, after)| Frame::Graft(id, after)),
        (id(), any::<u64>()).prop_map(|(id, ms)| Frame::Nack(id, ms)),
        report.prop_map(|report| Frame::Report(Box::new(report))),
        Just(Frame::NeedSync),
        any_vector().prop_map(|vector| Frame::SyncRequest(vector, Freshness::Current)),
        Just(Frame::SyncRefused),
        begin.prop_map(|begin| Frame::SyncBegin(Box::new(begin))),
        bytes().prop_map(Frame::Chunk),
        ids().prop_map(Frame::SyncEnd),
        any_vector().prop_map(Frame::SyncDone),
        any::<(u64, u64)>().prop_map(|(wall_us, at_ms)| Frame::Ping(wall_us, at_ms)),
        any::<(u64, u64)>().prop_map(|(wall_us, at_ms)| Frame::Pong(wall_us, at_ms)),
        (any::<u64>(), any_audit()).prop_map(|(n, audit)| Frame::Audit(n, Box::new(audit))),
        ".{0,20}".prop_map(|why| Frame::Bye(Farewell::Refused(why))),
        Just(Frame::Bye(Farewell::Duplicate)),
    ]
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went(frame in any_frame()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        prop_assert_eq!(Frame::decode(&Bytes::from(bytes)), Ok(frame));
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::decode(&Bytes::from(bytes.clone()));
        let _ = Hello::decode(&bytes);
    }

    #[test]
    fn a_frame_with_a_byte_changed_is_a_frame_or_an_error(
        frame in any_frame(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Frame::decode(&Bytes::from(bytes));
    }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        cluster: "atoll".to_owned(),
        name: "a".to_owned(),
        origin: Uuid::from_u128(1),
        boot: 2,
        role: Role::Master,
        wall_us: 3,
        vector: Vector::default(),
    }
}

#[test]
fn a_hello_may_say_more_in_a_later_version() {
    #[derive(Serialize)]
    struct Later {
        #[serde(flatten)]
        now: Hello,
        more: &'static str,
    }
    let later = rmp_serde::to_vec_named(&Later { now: hello(), more: "of it" });
    let bytes = later.expect("memory takes everything");
    assert_eq!(Hello::decode(&bytes), Ok(hello()));
    let mut bytes = Vec::new();
    hello().encode(&mut bytes);
    assert_eq!(Hello::decode(&bytes), Ok(hello()));
}

#[test]
fn versions_have_a_newest_in_common_or_none() {
    let versions = |oldest, newest| Versions { oldest, newest };
    assert_eq!(versions(1, 2).common(versions(2, 3)), Some(2));
    assert_eq!(versions(1, 1).common(versions(1, 9)), Some(1));
    assert_eq!(versions(1, 1).common(versions(2, 3)), None);
}

#[test]
fn an_audit_of_more_than_there_can_be_is_an_error() {
    let mut bytes = Vec::new();
    let audit = Audit::Groups(vec![1; AUDIT_GROUP_COUNT + 1]);
    Frame::Audit(1, Box::new(audit)).encode(&mut bytes);
    assert!(matches!(Frame::decode(&Bytes::from(bytes)), Err(FrameError::Content(_))));
}
