//! The upper tier is away, and comes back: what is remembered of it meanwhile, and what it is asked.

use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::cacheproxy::store::Now;

async fn set_all(tiers: &Tiers, keys: &[Key], value: &'static str) {
    join_all(keys.iter().map(async |key| tiers.ask(&set(key, value)).await)).await;
}

fn scripted(tier: &Tier) -> &Scripted {
    let Tier::Scripted(scripted) = tier else { panic!("it is scripted") };
    scripted
}

/// Doubts are bounded: were every key doubted that is read meanwhile, no write would be taken.
#[test]
fn reads_past_an_upper_tier_that_is_away_doubt_nothing_that_was_right() {
    on_a_shard(0, async || {
        let (tiers, _clock) = two_tiers(Policy::Fill);
        let [read, written] = ["read", "written"].map(key);
        tiers.ask(&set(&read, "value")).await;
        let Tier::Scripted(upper) = &tiers.upper else { panic!("it is scripted") };
        upper.close();
        assert!(matches!(tiers.ask(&plain_get(&read)).await, Outcome::Hit(_)));
        assert_eq!(tiers.n_doubts(), 0);
        // What is above now is old.
        tiers.ask(&set(&written, "value")).await;
        tiers.ask(&plain_get(&written)).await;
        assert_eq!(tiers.n_doubts(), 1);
    });
}

/// An upper tier that is asked by nobody but what ends doubts.
#[test]
fn doubts_end_without_anybody_asking_once_the_upper_tier_is_back() {
    on_a_shard(0, async || {
        let (tiers, clock) = two_tiers(Policy::Fill);
        let keys: Vec<_> = (0..2_000).map(|number| key(&format!("key{number}"))).collect();
        set_all(&tiers, &keys, "old").await;
        scripted(&tiers.upper).close();
        set_all(&tiers, &keys, "new").await;
        assert_eq!(tiers.n_doubts(), keys.len());
        tiers.work_off_steps(1).await;
        assert_eq!(tiers.n_doubts(), keys.len());
        scripted(&tiers.upper).open();
        tiers.work_off_steps(2).await;
        assert_eq!(tiers.n_doubts(), 0);
        assert!(keys.iter().all(|key| peek(&tiers.upper, clock, key).is_none()));
        let read = tiers.ask(&plain_get(&keys[0])).await;
        assert!(matches!(read, Outcome::Hit(entry) if entry.value == "new"));
        assert!(peek(&tiers.upper, clock, &keys[0]).is_some());
    });
}

#[test]
fn a_tier_that_does_not_answer_is_asked_for_two_batches_a_step() {
    on_a_shard(0, async || {
        let (tiers, _clock) = two_tiers(Policy::Fill);
        scripted(&tiers.upper).close();
        let keys: Vec<_> = (0..1_000).map(|number| key(&format!("key{number}"))).collect();
        set_all(&tiers, &keys, "value").await;
        scripted(&tiers.upper).open();
        fail(&tiers.upper, 1_000);
        let n_before = scripted(&tiers.upper).n_changes();
        tiers.work_off_steps(1).await;
        let n_asked = scripted(&tiers.upper).n_changes() - n_before;
        assert!((1..=256).contains(&n_asked), "{n_asked}");
    });
}

/// More keys are doubted than may be: no write is refused for it, and none is remembered.
#[test]
fn where_too_many_keys_are_doubted_the_upper_tier_is_passed_by_until_it_is_flushed() {
    on_a_shard(0, async || {
        let (tiers, clock) = two_tiers(Policy::Fill);
        let [hot, other] = ["hot", "other"].map(key);
        tiers.ask(&set(&hot, "old")).await;
        scripted(&tiers.upper).close();
        tiers.ask(&set(&hot, "new")).await;
        for number in 0..=doubts::DOUBTS_MAX {
            let outcome = tiers.ask(&set(&key(&format!("key{number}")), "value")).await;
            assert!(matches!(outcome, Outcome::Stored(_)), "{outcome:?}");
        }
        assert!(tiers.is_passing());
        assert_eq!(tiers.n_doubts(), 0);
        tiers.work_off_steps(2).await;
        assert!(tiers.is_passing(), "it is still away");
        scripted(&tiers.upper).open();
        let n_changes = scripted(&tiers.upper).n_changes();
        assert!(matches!(tiers.ask(&set(&other, "value")).await, Outcome::Stored(_)));
        let read = tiers.ask(&plain_get(&hot)).await;
        assert!(matches!(read, Outcome::Hit(entry) if entry.value == "new"));
        assert_eq!(scripted(&tiers.upper).n_changes(), n_changes);
        tiers.work_off_steps(1).await;
        assert!(tiers.is_passing(), "one flush is not enough");
        tiers.work_off_steps(1).await;
        assert!(!tiers.is_passing());
        assert_eq!(peek(&tiers.upper, clock, &hot), None);
        tiers.ask(&plain_get(&hot)).await;
        let copy = peek(&tiers.upper, clock, &hot).map(|entry| entry.value);
        assert_eq!(copy, Some("new".into()));
    });
}

/// Whoever is to make a copy must not be in anybody's way, nor anybody in its.
#[test]
fn overlapping_writes_of_a_key_are_below_all_at_once() {
    on_a_shard(0, async || {
        let (tiers, clock) = above_scripted();
        let key = key("key");
        let writes: Vec<_> = (0..100).map(|number| set(&key, number.to_string())).collect();
        join_all(writes.iter().map(|write| tiers.ask(write))).await;
        assert_eq!(scripted(&tiers.lower).n_under_way_max(), 100);
        assert_eq!(tiers.n_doubts(), 0);
        let copy = peek(&tiers.upper, clock, &key).map(|entry| entry.value);
        assert!(copy.is_none() || copy == Some("99".into()), "{copy:?}");
    });
}

#[test]
fn of_equal_misses_one_makes_the_copy() {
    on_a_shard(0, async || {
        let (tiers, _clock) = two_tiers(Policy::Fill);
        let key = key("key");
        tiers.lower.apply(&set(&key, "value")).await;
        let read = plain_get(&key);
        let reads = join_all((0..100).map(|_| tiers.ask(&read))).await;
        assert!(reads.iter().all(|outcome| matches!(outcome, Outcome::Hit(_))));
        assert_eq!(scripted(&tiers.upper).n_changes(), 1);
    });
}

/// The lower tier takes its time.
#[test]
fn a_copy_expires_no_later_than_its_item() {
    on_a_shard(0, async || {
        let (tiers, clock) = two_tiers(Policy::Fill);
        let key = key("key");
        let what = Copied::after_write(
            Policy::Fill,
            Now(clock.now().0 - 3),
            &What::Set(Set::new(SetMode::Set, 0, ExpTime(10), "value".into())),
            &Outcome::Stored(0),
        );
        let what = what.into_change().expect("it is stored");
        tiers.make_right(&key, what).await.unwrap();
        let left_s = peek(&tiers.upper, clock, &key).map(|entry| entry.ttl_s);
        assert_eq!(left_s, Some(Some(7)));
    });
}

#[test]
fn a_flush_below_leaves_no_copy_to_be_read_at_once_or_when_it_is_due() {
    on_a_shard(0, async || {
        for delay_s in [0, 3] {
            let (tiers, clock) = two_tiers(Policy::Fill);
            let key = key("key");
            tiers.ask(&set(&key, "value")).await;
            // A new store takes what is as old as a flush for newer.
            sleep(Duration::from_secs(2)).await;
            let delay = ExpTime(delay_s);
            flush(&tiers, delay).await.unwrap();
            if delay_s > 0 {
                let read = tiers.ask(&plain_get(&key)).await;
                assert!(matches!(read, Outcome::Hit(_)), "not yet");
            }
            sleep(Duration::from_secs(delay_s.unsigned_abs().into())).await;
            assert_eq!(tiers.ask(&plain_get(&key)).await, Outcome::Miss);
            tiers.nothing_is_left().await.unwrap();
            assert_eq!(peek(&tiers.upper, clock, &key), None);
        }
    });
}

fn above_scripted() -> (Tiers, Clock) {
    let clock = Clock::set();
    let upper = Tier::embedded(store(ITEM_BYTES_MAX), clock);
    let lower = tier(Kind::Scripted, store(ITEM_BYTES_MAX), clock, 0);
    (Tiers::new(upper, lower, Policy::Fill, clock), clock)
}

#[test]
fn a_flush_that_fails_forgets_none_that_is_due() {
    on_a_shard(0, async || {
        let (tiers, _clock) = above_scripted();
        let key = key("key");
        // A new store takes what is as old as a flush for newer.
        sleep(Duration::from_secs(2)).await;
        tiers.ask(&set(&key, "value")).await;
        flush(&tiers, ExpTime(10)).await.unwrap();
        scripted(&tiers.lower).close();
        flush(&tiers, ExpTime(0)).await.unwrap_err();
        flush(&tiers, ExpTime(30)).await.unwrap_err();
        scripted(&tiers.lower).open();
        tiers.nothing_is_left().await.unwrap();
        assert!(matches!(tiers.ask(&plain_get(&key)).await, Outcome::Hit(_)), "not yet");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(tiers.ask(&plain_get(&key)).await, Outcome::Miss);
    });
}

#[test]
fn a_flush_that_is_answered_late_is_due_when_it_was_before() {
    on_a_shard(0, async || {
        let (tiers, _clock) = above_scripted();
        let key = key("key");
        sleep(Duration::from_secs(2)).await;
        tiers.ask(&set(&key, "value")).await;
        let delay = ExpTime(3);
        tiers.flush_begins(delay);
        tiers.lower.flush_all(delay).await.unwrap();
        // Another server takes its time.
        sleep(Duration::from_millis(1_900)).await;
        tiers.flush_begins(delay);
        sleep(Duration::from_millis(1_200)).await;
        assert_eq!(tiers.ask(&plain_get(&key)).await, Outcome::Miss);
    });
}
