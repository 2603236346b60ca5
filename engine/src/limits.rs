//! The hard bounds of an engine, each with its reason.
//!
//! A limit is fixed when the engine is built and holds for its life; it is what makes memory a
//! matter of configuration and not of load. Sizes of what depends on several of them are written
//! as sums of their holders.

use std::time::Duration;

/// Hard bounds of one engine. All are per shard unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests alive at once; a further one is refused with `Shed`. Default 262,144: 100,000 live
    /// requests are a tested case, and a record is 200 bytes.
    pub requests_max: usize,
    /// Submissions from other threads that may wait in the inbox. Default 65,536: what a shard
    /// starts in about 10 ms.
    pub inbox_max: usize,
    /// Submissions taken from the inbox in one turn. Default 1,024, so that a burst from outside
    /// delays ready tasks by less than a slice.
    pub intake_max: usize,
    /// Items one shard may have outstanding at each other shard. Default 16,384: 1.5 ms of the
    /// highest rate measured between two shards.
    pub credits: usize,
    /// Parcels a lane holds. Default 1,024: smaller lanes make both ends sleep and wake each other.
    pub lane_parcels: usize,
    /// Longest run of ready tasks before the turn looks after everything else, in microseconds;
    /// once in its pass, once for the callers that its batches have answered. Default 100.
    pub slice_us: u64,
    /// Longest time between two looks at the executor's own reactor while something may come from
    /// there (parcels of other shards, files), in microseconds. Default 100; a look costs about 5.
    pub look_us: u64,
    /// Ready results one poll of a task may take from stages before it yields. Default 128.
    pub poll_budget: u32,
    /// How long a request may go on after its deadline before it is cancelled. Default 1 s: time
    /// enough to answer with what it has.
    pub grace: Duration,
    /// How long the shards may take to reach the start barrier. Default 10 s.
    pub start_timeout: Duration,
    /// Bytes of locked memory one executor may ask for its own buffers. Default 64 KiB: file
    /// reads, nothing else, go through them.
    pub io_memory_bytes: usize,
    /// Entries of an executor's ring. Default 128.
    pub ring_entries: usize,
    /// Buffers that stand ready for received bytes, a power of two. Default 256: an enter delivers
    /// some twenty completions, and each buffer that one hands out is replaced at once.
    pub net_buffers: u16,
    /// Bytes of each of them, and so of the largest piece that is received at once. Default 4,096:
    /// a page; small messages touch only its first lines.
    pub net_buffer_bytes: usize,
    /// How long shutdown waits for a bridge's threads. Default 1 s; those still busy are reported.
    pub bridge_join: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 262_144,
            inbox_max: 65_536,
            intake_max: 1_024,
            credits: 16_384,
            lane_parcels: 1_024,
            slice_us: 100,
            look_us: 100,
            poll_budget: 128,
            grace: Duration::from_secs(1),
            start_timeout: Duration::from_secs(10),
            io_memory_bytes: 64 << 10,
            ring_entries: 128,
            net_buffers: 256,
            net_buffer_bytes: 4_096,
            bridge_join: Duration::from_secs(1),
        }
    }
}

/// The longest live glommio timer while work may be pending: it bounds a wrong sleep of the
/// executor (design rule 2).
pub(crate) const WAIT_CAP: Duration = Duration::from_millis(10);

/// The longest wait of a shard that has had nothing at all to do for [`IDLE_AFTER`]; the same
/// fence, dearer than it is worth at 10 ms.
pub(crate) const IDLE_CAP: Duration = Duration::from_millis(200);

/// How long after its last work a shard still waits under the short cap. With nothing live here
/// the next request may be on its way all the same, and its wake is as easily lost as any.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(1);

/// How often a shard looks at its executor when nothing can come from there: it has no lanes, and
/// no operation on a file is under way. A look costs about 5 µs, of each 100 with [`Limits::look_us`].
pub(crate) const LOOK_RARELY: Duration = Duration::from_millis(10);

/// How long a shard asks again before it parks for something that is expected: a timer that is due
/// so soon, an answer that a bridge owes, to whose thread it gives way in between, the next word of one
/// of few clients whose last one came as soon. A park and its
/// wake cost 25 to 30 µs of CPU, so this at most trebles what is lost when nothing comes.
pub(crate) const EXPECT: Duration = Duration::from_micros(50);

/// With more sockets open than this a shard does not ask again for a quick client.
pub(crate) const FEW_SOCKETS: usize = 8;

/// What a park adds to the silence that it ends with: how long the host takes to wake a core.
pub(crate) const WAKE: Duration = Duration::from_micros(30);

/// How often waiting calls are looked through for deadlines that have come near. A timer stands
/// only for those: under load most calls settle long before, and cost none. The walk goes over as
/// many slots as were ever in use at once, about a nanosecond each.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A deadline that is not farther away is armed at once.
pub(crate) const NEAR: Duration = Duration::from_secs(2);

const _: () = assert!(NEAR.as_nanos() >= 2 * SWEEP_EVERY.as_nanos(), "a sweep must come in time");

/// A poll longer than this is counted with its spawn site.
pub(crate) const LONG_POLL: Duration = Duration::from_millis(1);

/// Due timers handed out in one turn, so that a burst of deadlines does not starve ready tasks.
pub(crate) const TIMERS_PER_TURN: usize = 4_096;

/// Parcels taken from each lane in one turn; a parcel is one turn's traffic of the other side.
pub(crate) const PARCELS_PER_TURN: usize = 16;

/// Completions that a turn takes from the net ring: at three microseconds each for what follows of
/// one, a burst of them delays everything else by less than a millisecond.
pub(crate) const NET_COMPLETIONS_PER_TURN: usize = 256;

/// Sockets that a service manager may pass to one process: as many descriptors as it lets a service
/// have open unless told otherwise.
pub(crate) const PASSED_MAX: u32 = 1_024;

/// What the kernel takes as a ring of buffers.
const NET_BUFFERS_MAX: u16 = 1 << 15;

/// Far more than one receive brings; 256 of them are 256 MiB.
const NET_BUFFER_BYTES_MAX: usize = 1 << 20;

/// How long a pass may hold back what was written to sockets. An enter costs about 200 ns.
pub(crate) const NET_HOLD: Duration = Duration::from_micros(50);

/// Entries of the net ring's submission queue: what finds it full waits for the next enter of the
/// same turn.
pub(crate) const NET_SQ_ENTRIES: u32 = 1_024;

/// Entries of its completion queue. Completions are only put there by an enter: some twenty
/// deferred ones, and one for each entry submitted that completes at once.
pub(crate) const NET_CQ_ENTRIES: u32 = 4 * NET_SQ_ENTRIES;

/// Sockets that one call of the readiness back tells to have become ready, 12 bytes each; the
/// others are told by the next.
pub(crate) const NET_EVENTS: usize = 1_024;

/// How often a busy shard publishes its metrics.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Rows that a service's own metrics have, all together: more than a service has numbers to tell, and
/// few enough to be read within a turn, as each publication does. A page holds them for each shard.
pub(crate) const METRIC_ROWS_MAX: usize = 256;

const _: () = assert!(WAIT_CAP.as_nanos() <= 10_000_000, "rule 2 allows at most 10 ms");
const _: () = assert!(WAIT_CAP.as_nanos() < IDLE_CAP.as_nanos());

impl Limits {
    /// A limit that nothing could run with, and what would be right.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let n_buffers = self.net_buffers;
        if !n_buffers.is_power_of_two() || n_buffers > NET_BUFFERS_MAX {
            let problem =
                format!("{n_buffers} is no power of two from 1 to {NET_BUFFERS_MAX}: try 256");
            return Some(("net_buffers", problem));
        }
        let n_bytes = self.net_buffer_bytes;
        let is_possible = (1..=NET_BUFFER_BYTES_MAX).contains(&n_bytes);
        (!is_possible).then(|| {
            let problem =
                format!("{n_bytes} bytes are not from 1 to {NET_BUFFER_BYTES_MAX}: try 4096");
            ("net_buffer_bytes", problem)
        })
    }

    /// The limits as lines of text, printed when an engine starts.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "limits per shard: {} requests, {} submissions waiting ({} a turn), {} items \
             outstanding per other shard, {} parcels per lane, slice {} us, look {} us, \
             {} KiB executor buffers, {} ring entries",
            self.requests_max,
            self.inbox_max,
            self.intake_max,
            self.credits,
            self.lane_parcels,
            self.slice_us,
            self.look_us,
            self.io_memory_bytes >> 10,
            self.ring_entries,
        )
    }
}
