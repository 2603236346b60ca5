//! The canary: a fixed piece of work, timed before and after each repetition.
//!
//! It never changes, so a change in its time is the host's doing. Drift beyond a metric's floor turns a
//! timing verdict into `inconclusive`. It runs in the parent process, which otherwise waits: the subject
//! gets neither its time nor its memory.
//!
//! After the work it *watches*: it does nothing but read the clock, and what lies between two readings
//! is time in which nobody on this CPU ran. A virtual machine's host need not call such pauses steal.
//! Where they take a hundredth of the time, no subject has a 99th percentile below their length.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::dump::{Canary as CanaryRecord, Measured, Pauses};
use crate::environment::{CpuTimes, HostFiles};

/// The work is done in slices, and the middle one counts: a single time slice given to another process
/// says nothing about the repetition, while lasting company slows them all.
const SLICES: u32 = 5;

/// Steps of the CPU kernel in one slice: a chain of dependent multiplications.
const CPU_STEPS: u32 = 2_400_000;

/// Entries of the memory kernel's ring of 4 bytes each: 8 MiB, beyond the private caches.
const RING_ENTRIES: u32 = 1 << 21;

/// Steps of the memory kernel in one slice: a chain of dependent loads.
const MEMORY_STEPS: u32 = 40_000;

/// How long a watch lasts: long enough to see pauses that come a few times a second.
const WATCH: Duration = Duration::from_millis(200);

/// From here on a pause is one: far above what an interrupt takes, far below a percentile in
/// milliseconds.
const PAUSE_MIN: Duration = Duration::from_micros(100);

/// The work, ready to be timed.
#[derive(Debug)]
pub struct Canary {
    ring: Vec<u32>,
    cpu_steps: u32,
    memory_steps: u32,
    files: HostFiles,
}

/// One timing.
#[derive(Debug, Clone)]
pub struct Reading {
    elapsed_ns: u64,
    pauses: Pauses,
    cpu_times: Result<CpuTimes, String>,
}

impl Canary {
    /// Prepares the work; its memory is touched here, so that no timing pays for page faults.
    pub fn new(files: HostFiles) -> Self {
        Self { ring: ring(RING_ENTRIES), cpu_steps: CPU_STEPS, memory_steps: MEMORY_STEPS, files }
    }

    /// Does the work and times it, then watches; takes some 250 ms.
    pub fn time(&self) -> Reading {
        let cpu_times = self.files.cpu_times();
        let mut slices: Vec<u64> = (0..SLICES).map(|_| self.time_slice()).collect();
        slices.sort_unstable();
        let elapsed_ns = slices[slices.len() / 2].saturating_mul(u64::from(SLICES));
        Reading { elapsed_ns, pauses: watch(WATCH, now), cpu_times }
    }

    fn time_slice(&self) -> u64 {
        let start = now();
        black_box(multiply(black_box(self.cpu_steps)));
        black_box(chase(&self.ring, black_box(self.memory_steps)));
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Reading {
    /// Returns the record of a repetition that ran between this reading and `after`.
    pub fn until(&self, after: &Self) -> CanaryRecord {
        let steal = match (&self.cpu_times, &after.cpu_times) {
            (Ok(before), Ok(after)) => after.steal_since(*before),
            (Err(reason), _) | (_, Err(reason)) => Measured::absent(reason.clone()),
        };
        CanaryRecord::from_timings(self.elapsed_ns, after.elapsed_ns, steal)
            .with_pauses(self.pauses.and(after.pauses))
    }
}

/// Reads a clock over and over for so long, and adds up the pauses between two readings.
fn watch(within: Duration, mut now: impl FnMut() -> Instant) -> Pauses {
    let start = now();
    let (mut last, mut pauses) = (start, Pauses::default());
    while last.duration_since(start) < within {
        let this = now();
        let between = this.duration_since(last);
        if between >= PAUSE_MIN {
            pauses.add(between);
        }
        last = this;
    }
    pauses.watched = last.duration_since(start);
    pauses
}

#[allow(clippy::disallowed_methods, reason = "the canary measures the host outside of every shard")]
fn now() -> Instant {
    Instant::now()
}

fn multiply(steps: u32) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..steps {
        // Each step needs the one before it, so the compiler cannot fold or widen the loop.
        state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    state
}

fn chase(ring: &[u32], steps: u32) -> u32 {
    let mut place = 0_u32;
    for _ in 0..steps {
        place = ring[place as usize];
    }
    place
}

/// Returns one cycle through all entries, in an order that no prefetcher guesses: a full-period linear
/// congruential generator modulo a power of two.
fn ring(entries: u32) -> Vec<u32> {
    assert!(entries.is_power_of_two() && entries >= 8, "{entries} gives no full period");
    let mask = entries - 1;
    (0..entries)
        .map(|place| place.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & mask)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_kernel_visits_every_entry() {
        let ring = ring(1 << 10);
        let mut seen = vec![false; ring.len()];
        let mut place = 0;
        for _ in 0..ring.len() {
            assert!(!std::mem::replace(&mut seen[place as usize], true));
            place = chase(&ring[..], 0) + ring[place as usize];
        }
        assert_eq!(place, 0);
    }

    #[test]
    fn the_work_is_the_same_every_time() {
        assert_eq!(multiply(1000), multiply(1000));
        assert_ne!(multiply(1000), multiply(1001));
    }

    #[test]
    fn a_watch_sees_each_pause_and_nothing_else() {
        let start = now();
        let mut at_us = [0, 1, 2, 152, 153, 3_153, 3_154, 4_000].into_iter();
        let clock = || start + Duration::from_micros(at_us.next().unwrap());
        let pauses = watch(Duration::from_micros(4_000), clock);
        // 150, 3,000 and 846 us.
        assert_eq!(pauses.paused, Duration::from_micros(3_996));
        assert_eq!(pauses.longest, Duration::from_micros(3_000));
        assert_eq!(pauses.watched, Duration::from_micros(4_000));
    }

    #[test]
    fn two_readings_give_a_record_with_its_drift() {
        let canary =
            Canary { ring: ring(8), cpu_steps: 10, memory_steps: 10, files: HostFiles::at("none") };
        let mut before = canary.time();
        let mut after = canary.time();
        (before.elapsed_ns, after.elapsed_ns) = (50_000_000, 51_000_000);
        let record = before.until(&after);
        assert_eq!(record.drift_percent.get(), Some(2.0));
        let pause = Duration::from_millis(3);
        before.pauses = Pauses { watched: pause * 10, paused: pause, longest: pause };
        after.pauses = Pauses { watched: pause * 10, ..Pauses::default() };
        let record = before.until(&after);
        assert_eq!(record.paused_percent.get(), Some(5.0));
        assert_eq!(record.longest_pause_ns.value(), Some(&3_000_000));
        assert!(record.steal_percent.reason().unwrap().contains("proc/stat"));
    }
}
