//! memcached's three protocols, as a server speaks them: bytes to commands, outcomes to bytes.
//!
//! Nothing here reads, writes or waits. A [`Decoder`] sits in each connection and is given whatever
//! has arrived; it gives one [`Command`] at a time, which says what is asked, in the neutral words of
//! [`operation`](super::operation), and how its outcomes are put into bytes ([`Answering`]). The first
//! byte of a connection tells which protocol it speaks; meta commands are lines of the text protocol,
//! so the two may be mixed.
//!
//! memcached 1.6.18 is the measure: the bytes of every answer, what counts as a number, what an error
//! costs (a line, a value, the connection) were asked of a running one. Where we differ:
//!
//! | case | memcached | here |
//! |---|---|---|
//! | a line of over 2,048 bytes that is no get | depends on how its bytes arrive | refused, connection closed |
//! | a get of any length | taken | up to [`Limits::line_bytes_max`] |
//! | a get with a key that is too long | loses the answers of commands before it | refused alone |
//! | a base64 key that is not canonical | skips or drops some of it | refused |
//! | `k` of a meta reply | in the form in which the item was stored | in the form it was asked in |
//! | `t` before `T` in one command | tells the old time | tells the new time |
//! | a binary body longer than its command has | the rest is read as a next command | refused, closed |
//! | an unknown binary opcode with a key | drops more than its body | drops its body |
//! | `bad magic`, a binary key that is too long | waits for more bytes first | closes at once |
//! | `flush_all` where items are with servers downstream | done | refused as by `memcached -F`, or forwarded, by configuration |
//! | `flush_all` of a bad time where it is refused | `flush_all not allowed` | `invalid exptime argument` |
//! | `stats reset` | sets counts to nothing | changes nothing |
//! | `cmd_flush` of `stats` | counts a text `flush_all` that is refused, too | counts those that are begun |
//! | `slabs`, `lru`, `lru_crawler`, `watch`, `cache_memlimit`, `shutdown`, `stats detail` and `cachedump` | for its own parts | `ERROR` |

mod command;
mod out;
mod refusal;
mod decoder;
mod store;
mod number;
mod text;
mod meta;
mod binary;

#[cfg(test)]
mod tests;

pub use command::{Answering, Asked, Command, Protocol, Stats};
pub use decoder::{Decoder, Limits};
pub use out::{Out, Pieces};
pub use refusal::Refusal;
