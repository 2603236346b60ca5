//! What is asked about one key, and what comes of it: the words between the protocols and the tiers.
//!
//! A client's command, in whichever protocol, becomes one operation for each of its keys; a tier (the
//! embedded store, or memcached downstream) answers each with one outcome; the protocol puts outcomes
//! into bytes again. So no tier knows who asked, and no protocol knows who answers. The meaning of
//! every field is memcached's own; its meta commands are the superset that all the others map to.
//!
//! ```text
//!   bytes ─ decode ─▶ Command ─▶ Operation ─▶ tier ─▶ Outcome ─ encode ─▶ bytes
//! ```

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

/// Most bytes of a key: memcached's own limit.
pub const KEY_BYTES_MAX: usize = 250;

/// Bytes of a key that need no memory of their own: what most keys have.
const KEY_BYTES_INLINE: usize = 32;

/// A key: 1 to [`KEY_BYTES_MAX`] bytes. Binary and base64 clients may use any byte; only a clean key
/// can stand on a line of text.
///
/// A command's key is copied several times on its way (to be routed by, to be answered with), so a
/// short one stands here itself: copies cost no allocation and no count that threads share.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(SmallVec<[u8; KEY_BYTES_INLINE]>);

impl Key {
    /// The key with these bytes, unless there are none or too many.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let has_length = (1..=KEY_BYTES_MAX).contains(&bytes.len());
        has_length.then(|| Self(SmallVec::from_slice(bytes)))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it can stand on a line of text: no blank, no control character.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

/// When an item expires, as a client sends it: 0 never, negative at once, up to 30 days from now,
/// beyond that at that second of the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExpTime(pub i32);

/// Tells one state of an item from another; never 0 for an item that exists.
pub type Cas = u64;

/// One operation on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Whom it is about.
    pub key: Key,
    /// What is done.
    pub what: What,
}

/// What is done with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Reads it, and perhaps moves its expiry.
    Get(Get),
    /// Stores a value.
    Set(Set),
    /// Removes it, or makes it stale.
    Delete(Delete),
    /// Adds to a number or takes from it.
    Count(Count),
    /// Tells about the item without touching it (`me`).
    Describe,
}

/// A read. The default is a plain `get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Get {
    /// Whether the value is wanted: `touch` and `mg` without `v` do not want it.
    pub value: Wanted,
    /// What of the rest is wanted: a tier downstream is asked for no more than that.
    pub beside: Beside,
    /// Moves the expiry: `gat`, `touch`, `mg T`.
    pub touch: Option<ExpTime>,
    /// Makes an empty item on a miss, which the asker wins the right to fill: `mg N`.
    pub vivify: Option<ExpTime>,
    /// Gives the right to fill it again when fewer seconds than this are left: `mg R`.
    pub recache_below_s: Option<i32>,
    /// Whether this read counts as a use of the item; `mg u` declines.
    pub counts_as_use: CountsAsUse,
}

impl Get {
    /// A plain `get`.
    pub const PLAIN: Self = Self {
        value: Wanted::Yes,
        beside: Beside::Flags,
        touch: None,
        vivify: None,
        recache_below_s: None,
        counts_as_use: CountsAsUse::Yes,
    };

    /// Whether it changes nothing that anybody is told of, so that equal reads may share one answer.
    #[must_use]
    pub const fn may_be_shared(&self) -> bool {
        self.touch.is_none()
            && self.vivify.is_none()
            && self.recache_below_s.is_none()
            && !matches!(self.beside, Beside::All)
    }
}

impl Default for Get {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// Whether a read wants the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wanted {
    /// Only whether it is there, and what stands beside it.
    No,
    /// The value too.
    Yes,
}

/// What is wanted beside the value, each level with all before it: what a tier need not find out
/// costs nothing. More than was asked for may be told, and 0 or `None` where it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Beside {
    /// The client's flags only: `get`.
    #[default]
    Flags,
    /// Its cas: `gets`, binary, `c`.
    Cas,
    /// The seconds that are left: what a tier above needs to keep a copy, `t`.
    Ttl,
    /// All of it, also who is to fill it again, which only one reader is told: any `mg` of a client.
    All,
}

/// Whether a read counts as a use: for eviction, and for what the next reader is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CountsAsUse {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Under which condition, and what with what is there.
    pub mode: SetMode,
    /// The client's own 32 bits; ignored by append and prepend.
    pub flags: u32,
    /// When it expires; ignored by append and prepend.
    pub expires: ExpTime,
    /// The value, or what is appended or prepended.
    pub value: Bytes,
    /// Only if the item still has this cas; [`Outcome::Exists`] otherwise.
    pub if_cas: Option<Cas>,
    /// Stores over a newer item as stale (`ms I`): if `if_cas` is lower than the item's.
    pub invalidate: bool,
    /// Append and prepend make the item on a miss, with this expiry: `ms N`.
    pub vivify: Option<ExpTime>,
    /// What is wanted of the stored item: its cas, or nothing.
    pub beside: Beside,
}

impl Set {
    /// A store without any condition but that of its mode.
    #[must_use]
    pub const fn new(mode: SetMode, flags: u32, expires: ExpTime, value: Bytes) -> Self {
        Self {
            mode,
            flags,
            expires,
            value,
            if_cas: None,
            invalidate: false,
            vivify: None,
            beside: Beside::Flags,
        }
    }
}

/// What a store does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetMode {
    /// Stores whatever is there.
    Set,
    /// Stores only if there is nothing.
    Add,
    /// Stores only if there is something.
    Replace,
    /// Puts the value behind the one that is there.
    Append,
    /// Puts the value before the one that is there.
    Prepend,
}

/// A removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delete {
    /// Only if the item still has this cas.
    pub if_cas: Option<Cas>,
    /// Leaves the item but marks it stale, with a new cas: `md I`.
    pub invalidate: bool,
    /// The expiry that a stale item gets: `md T`, with `I`.
    pub touch: Option<ExpTime>,
}

/// Arithmetic on a value of decimal digits, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Up wraps around; down stops at 0.
    pub direction: Direction,
    /// By how much.
    pub delta: u64,
    /// On a miss the item is made with this number and expiry: binary, `ma N J`.
    pub initial: Option<(u64, ExpTime)>,
    /// Only if the item still has this cas.
    pub if_cas: Option<Cas>,
    /// Moves the expiry: `ma T`.
    pub touch: Option<ExpTime>,
    /// What is wanted beside the new number: its cas, the seconds that are left.
    pub beside: Beside,
}

/// Up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `incr`.
    Up,
    /// `decr`.
    Down,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A read found it, or made it (then [`Entry::win`] says so).
    Hit(Entry),
    /// Nothing there: get, touch, delete, arithmetic.
    Miss,
    /// It was stored, and has this cas now; 0 where the tier was not asked for it.
    Stored(Cas),
    /// The mode's condition did not hold: add over an item; replace, append, prepend without one.
    NotStored,
    /// Its cas is another one by now.
    Exists,
    /// A store that names a cas found nothing.
    NotFound,
    /// It is gone, or stale as asked.
    Deleted,
    /// The new number, with what stands beside it.
    Counted(Counted),
    /// The value there is no number of at most 20 digits.
    NotANumber,
    /// Larger than an item may be.
    TooLarge,
    /// No room for it could be made.
    NoMemory,
    /// What `me` tells; `None` on a miss.
    Described(Option<Box<Description>>),
    /// A tier downstream did not answer; what has happened there is unknown unless the reason says so.
    Failed(Failure),
}

impl Outcome {
    /// Why there is neither a hit nor a miss to tell of a read. What is no outcome of a read counts as
    /// refused: it must not pass for a miss, which tells that nothing is there.
    #[must_use]
    pub const fn read_failure(&self) -> Option<Failure> {
        match self {
            Self::Hit(_) | Self::Miss => None,
            Self::Failed(failure) => Some(*failure),
            _ => Some(Failure::Refused),
        }
    }
}

/// An item, as a read found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its value; empty if it was not wanted.
    pub value: Bytes,
    /// Bytes of its value, wanted or not.
    pub value_bytes: u32,
    /// The client's own 32 bits.
    pub flags: u32,
    /// Its cas; 0 where the tier was not asked for it.
    pub cas: Cas,
    /// Seconds that are left; `None` for ever, and where the tier was not asked for it.
    pub ttl_s: Option<u32>,
    /// Seconds since it was used before this.
    pub idle_s: u32,
    /// Whether it had been read before this.
    pub fetched: bool,
    /// Whether it was marked stale.
    pub stale: bool,
    /// Who is to fill it again.
    pub win: Win,
}

/// The right to fill an item again, which one reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Win {
    /// Nobody needs to.
    #[default]
    None,
    /// This reader has won it (`W`).
    Won,
    /// Another has (`Z`).
    Sent,
}

/// A number after arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The number.
    pub number: u64,
    /// Its item's cas; 0 where the tier was not asked for it.
    pub cas: Cas,
    /// Seconds that are left; `None` for ever, and where the tier was not asked for it.
    pub ttl_s: Option<u32>,
}

/// What `me` tells of an item, without touching it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Seconds that are left; `None` for ever.
    pub ttl_s: Option<u32>,
    /// Seconds since it was used.
    pub idle_s: u32,
    /// Its cas.
    pub cas: Cas,
    /// Whether it has been read.
    pub fetched: bool,
    /// The class of its size or, here, of its use.
    pub class: u8,
    /// Bytes that it takes in all.
    pub n_bytes: u32,
}

/// Why a tier downstream did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Not sent: its connection is down, or its breaker is open.
    Unavailable,
    /// Not sent: too much is waiting already.
    Overloaded,
    /// Sent, and not answered in time or before the connection broke.
    Unanswered,
    /// Answered with an error, or not to be said in the protocol of the server.
    Refused,
    /// We are stopping.
    Closing,
}
