//! Waiting for others to hold something: the true number, in time, and nobody left behind.

use super::*;
use proptest::prelude::*;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

fn held(holders: &[(&str, u64)]) -> Held {
    let holders = holders.iter().map(|(name, seq)| (name.to_string(), *seq)).collect();
    Held { holders, vector: HashMap::new() }
}

fn progress() -> Progress {
    Progress::new("self".to_owned())
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn holders_are_counted_by_name_without_the_node_itself() {
    let progress = progress();
    assert_eq!(progress.holder_count(0), 0);
    progress.publish(held(&[("a", 5), ("b", 3), ("self", 9)]));
    let counts: Vec<_> = (0..7).map(|seq| progress.holder_count(seq)).collect();
    assert_eq!(counts, [2, 2, 2, 2, 1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_once_enough_hold_it() {
    let progress = progress();
    let mut wait = pin!(progress.wait(Wish { seq: 7, count: 2 }, None));
    assert!(poll(wait.as_mut()).is_pending());
    assert_eq!(progress.waiter_count(), 1);
    progress.publish(held(&[("a", 7), ("b", 6), ("self", 7)]));
    assert!(poll(wait.as_mut()).is_pending());
    progress.publish(held(&[("a", 8), ("b", 7), ("c", 7)]));
    assert_eq!(progress.waiter_count(), 0);
    assert_eq!(poll(wait.as_mut()), Poll::Ready(3));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_true_number_is_told() {
    let progress = progress();
    progress.publish(held(&[("a", 7)]));
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(250);
    assert_eq!(progress.wait(Wish { seq: 7, count: 2 }, Some(deadline)).await, 1);
    assert_eq!(begun.elapsed(), Duration::from_millis(250));
    assert_eq!(progress.wait(Wish { seq: 7, count: 1 }, Some(deadline)).await, 1);
    assert_eq!(progress.wait(Wish { seq: 8, count: 0 }, None).await, 0);
    assert_eq!(begun.elapsed(), Duration::from_millis(250), "neither waited");
    assert_eq!(progress.waiter_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_covered_when_its_write_is_here() {
    let progress = progress();
    let (origin, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let deadline = Instant::now() + Duration::from_millis(50);
    assert!(!progress.covers(origin, 3, deadline).await);
    let vector = HashMap::from([(origin, 3), (other, 9)]);
    progress.publish(Held { holders: BTreeMap::new(), vector });
    assert!(progress.covers(origin, 3, deadline).await);
    assert_eq!((progress.covered_seq(origin), progress.covered_seq(Uuid::nil())), (3, 0));
    let mut covers = pin!(progress.covers(origin, 4, Instant::now() + Duration::from_secs(1)));
    assert!(poll(covers.as_mut()).is_pending());
    let vector = HashMap::from([(origin, 4)]);
    progress.publish(Held { holders: BTreeMap::new(), vector });
    assert_eq!(poll(covers.as_mut()), Poll::Ready(true));
}

#[tokio::test(start_paused = true)]
async fn the_transport_hears_of_a_waiter_even_when_it_looks_later() {
    let progress = progress();
    let mut wait = pin!(progress.wait(Wish { seq: 1, count: 1 }, None));
    assert!(poll(wait.as_mut()).is_pending());
    let second = Duration::from_secs(1);
    tokio::time::timeout(second, progress.wanted()).await.expect("somebody waits");
    tokio::time::timeout(second, progress.wanted()).await.expect_err("nobody new does");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_nothing_behind() {
    let progress = progress();
    {
        let mut wait = pin!(progress.wait(Wish { seq: 1, count: 1 }, None));
        assert!(poll(wait.as_mut()).is_pending());
        assert_eq!(progress.waiter_count(), 1);
    }
    assert_eq!(progress.waiter_count(), 0);
    progress.publish(held(&[("a", 1)]));
    assert_eq!(progress.waiter_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_waiter_too_many_is_answered_at_once() {
    let progress = progress();
    let mut entries: Vec<_> = (0..WAITER_COUNT_MAX)
        .map(|_| progress.enter(Condition::Held { seq: 1, count: 1 }))
        .collect();
    let begun = Instant::now();
    assert_eq!(progress.wait(Wish { seq: 1, count: 1 }, None).await, 0);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    entries.pop();
    let mut wait = pin!(progress.wait(Wish { seq: 1, count: 1 }, None));
    assert!(poll(wait.as_mut()).is_pending());
}

/// Publications from one thread, waiters on others: none is forgotten.
#[test]
fn no_waiter_sleeps_through_a_publication() {
    let progress = progress();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime").block_on(async {
                    for seq in 1..=2_000 {
                        let deadline = Instant::now() + Duration::from_secs(30);
                        let wish = Wish { seq, count: 1 };
                        assert_eq!(progress.wait(wish, Some(deadline)).await, 1, "seq {seq}");
                    }
                });
            });
        }
        scope.spawn(|| {
            for seq in 1..=2_000 {
                progress.publish(held(&[("a", seq)]));
            }
        });
    });
    assert_eq!(progress.waiter_count(), 0);
}

proptest! {
    /// A waiter is woken by exactly those publications that fulfil its wish.
    #[test]
    fn a_waiter_is_woken_when_its_wish_is_met_and_not_before(
        seq in 1..6_u64,
        count in 0..4_usize,
        steps in prop::collection::vec(prop::collection::vec(0..6_u64, 3), 1..8),
    ) {
        let progress = progress();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let _entered = runtime.as_ref().expect("a runtime").enter();
        let mut wait = pin!(progress.wait(Wish { seq, count }, None));
        let mut told = poll(wait.as_mut());
        let mut met = count == 0;
        prop_assert_eq!(told.is_ready(), met);
        let mut best = [0_u64; 3];
        for step in steps {
            if met {
                break;
            }
            best.iter_mut().zip(&step).for_each(|(best, now)| *best = (*best).max(*now));
            progress.publish(held(&[("a", best[0]), ("b", best[1]), ("self", best[2])]));
            let holds = best[..2].iter().filter(|held| **held >= seq).count();
            met = holds >= count;
            told = poll(wait.as_mut());
            prop_assert_eq!(told, if met { Poll::Ready(holds) } else { Poll::Pending });
        }
    }
}
