//! What changes items: stores, appends and removals, with the pieces of what they replace.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use forebay::join;
use rand_xoshiro::rand_core::Rng as _;

use super::metadata::{Form, Metadata, Token, looks_like_metadata};
use super::{Chunked, Found, Tokens, expiry};
use crate::cacheproxy::operation::{
    Beside, Delete, Entry, ExpTime, Failure, Get, Key, Outcome, Set, SetMode, Wanted, What,
};

/// How often an append begins anew because another process was faster. Each time somebody has got
/// on; so many times in a row are a key that too many append to.
const APPENDS_MAX: u32 = 8;

/// Another process has changed the item since it was read.
struct Overtaken;

impl Chunked {
    pub(super) async fn set(&self, key: Key, set: Set) -> Outcome {
        if set.value.len() > self.config.value_bytes_max as usize {
            return self.refuse(&key, &set, Outcome::TooLarge).await;
        }
        match set.mode {
            SetMode::Set | SetMode::Replace => self.store(&key, set).await,
            SetMode::Add => self.add(&key, set).await,
            SetMode::Append | SetMode::Prepend => self.extend(&key, set).await,
        }
    }

    async fn add(&self, key: &Key, set: Set) -> Outcome {
        let outcome = self.store(key, set.clone()).await;
        if outcome == Outcome::NotStored && self.remove_if_broken(key).await {
            return self.store(key, set).await;
        }
        outcome
    }

    /// Stores a value whole or in pieces, as its mode says.
    async fn store(&self, key: &Key, mut set: Set) -> Outcome {
        if !self.is_cut(&set.value) {
            return self.ask(key, What::Set(set)).await;
        }
        if set.expires.0 < 0 && !set.invalidate {
            // Nobody will ever read it, in whatever form.
            set.value = Bytes::new();
            return self.ask(key, What::Set(set)).await;
        }
        self.store_cut(key, set).await
    }

    /// Pieces first, then metadata, then the pieces of what it has replaced.
    async fn store_cut(&self, key: &Key, set: Set) -> Outcome {
        let new = self.metadata(key, &set.value);
        let pieces = self.pieces(&new);
        let expires = if set.invalidate {
            // A value that is stored as stale gets the time that the old one had left.
            ExpTime(0)
        } else {
            expiry::of_pieces(set.expires)
        };
        let written = pieces.write(&set.value, expires);
        // That this is what will be replaced, rests on no other operation on the key coming between.
        // What another process puts there in between is left to be evicted.
        let (written, old) = join(written, self.metadata_at(key)).await;
        if let Err(outcome) = written {
            return match outcome {
                // Servers in trouble are not asked for more.
                Outcome::Failed(_) => outcome,
                _ => {
                    pieces.remove().await;
                    self.refuse(key, &set, outcome).await
                }
            };
        }
        let outcome = self.ask(key, What::Set(Set { value: new.encode(), ..set })).await;
        match (&outcome, old) {
            (Outcome::Stored(_), Some(old)) if old.token() != new.token() => {
                self.pieces(&old).remove().await;
            }
            // Not answered is not undone: the metadata may stand there, or come to.
            (Outcome::Stored(_) | Outcome::Failed(_), _) => {}
            _ => pieces.remove().await,
        }
        outcome
    }

    /// A store for which there is no room. Like memcached, a plain set does not leave the old value.
    async fn refuse(&self, key: &Key, set: &Set, refusal: Outcome) -> Outcome {
        if set.mode != SetMode::Set || set.if_cas.is_some() {
            return refusal;
        }
        match self.delete(key.clone(), Delete::default()).await {
            failed @ Outcome::Failed(_) => failed,
            _ => refusal,
        }
    }

    /// Appends or prepends: reads what is there, and puts the longer value in its place if it is
    /// still the same.
    async fn extend(&self, key: &Key, set: Set) -> Outcome {
        for _try in 0..APPENDS_MAX {
            let read = Get { beside: Beside::Cas, ..Get::PLAIN };
            let end = match self.find(key, read).await {
                Found::Whole(entry) | Found::Joined(entry)
                    if set.if_cas.is_some_and(|cas| cas != entry.cas) =>
                {
                    Ok(Outcome::Exists)
                }
                Found::Whole(entry) => self.extend_whole(key, &set, entry).await,
                Found::Joined(entry) => self.extend_joined(key, &set, entry).await,
                Found::Broken(_) | Found::Other(Outcome::Miss) => self.begin(key, &set).await,
                Found::Fleeting => Err(Overtaken),
                Found::Other(outcome) => Ok(outcome),
            };
            if let Ok(outcome) = end {
                return outcome;
            }
        }
        Outcome::Failed(Failure::Overloaded)
    }

    /// Where there is nothing to append to: makes the item, if that was asked for.
    async fn begin(&self, key: &Key, set: &Set) -> Result<Outcome, Overtaken> {
        let (Some(expires), None) = (set.vivify, set.if_cas) else {
            return Ok(Outcome::NotStored);
        };
        let (mode, vivify) = (SetMode::Add, None);
        match self.add(key, Set { mode, expires, vivify, ..set.clone() }).await {
            Outcome::NotStored => Err(Overtaken),
            outcome => Ok(outcome),
        }
    }

    /// What stays whole is appended to by its server, which keeps its expiry to the second.
    async fn extend_whole(&self, key: &Key, set: &Set, entry: Entry) -> Result<Outcome, Overtaken> {
        if self.is_cut(&extended(set, &entry.value)) {
            return self.extend_joined(key, set, entry).await;
        }
        let if_cas = Some(entry.cas);
        match self.ask(key, What::Set(Set { if_cas, vivify: None, ..set.clone() })).await {
            Outcome::Exists | Outcome::NotStored => Err(Overtaken),
            outcome => Ok(outcome),
        }
    }

    /// What is or becomes large is written anew, with the flags and the time of the old value.
    async fn extend_joined(
        &self,
        key: &Key,
        set: &Set,
        entry: Entry,
    ) -> Result<Outcome, Overtaken> {
        let value = extended(set, &entry.value);
        if value.len() > self.config.value_bytes_max as usize {
            // As memcached answers; the old value stays.
            return Ok(Outcome::NotStored);
        }
        // Not before now: only a meta command tells the time, and it takes the right to fill a stale
        // item again, which is not stale when this is done.
        let read = Get { value: Wanted::No, beside: Beside::Ttl, ..Get::PLAIN };
        let expires = match self.ask(key, What::Get(read)).await {
            Outcome::Hit(now) if now.cas == entry.cas => expires_as(&now),
            Outcome::Hit(_) | Outcome::Miss => return Err(Overtaken),
            other => return Ok(other),
        };
        let longer = Set {
            if_cas: Some(entry.cas),
            beside: set.beside,
            ..Set::new(SetMode::Set, entry.flags, expires, value)
        };
        match self.store(key, longer).await {
            Outcome::Exists | Outcome::NotFound => Err(Overtaken),
            outcome => Ok(outcome),
        }
    }

    /// Removes an item, or makes it stale: metadata first, so nobody finds it without its pieces.
    pub(super) async fn delete(&self, key: Key, delete: Delete) -> Outcome {
        let old = self.metadata_at(&key).await;
        let outcome = self.ask(&key, What::Delete(delete)).await;
        let (Outcome::Deleted, Some(old)) = (&outcome, old) else { return outcome };
        let pieces = self.pieces(&old);
        if !delete.invalidate {
            pieces.remove().await;
        } else if let Some(expires) = delete.touch {
            // If one is lost, or not to be asked, a reader finds that out.
            let _touched = pieces.touch(expiry::of_pieces(expires)).await;
        }
        outcome
    }

    /// The metadata under a key, if that is what stands there.
    async fn metadata_at(&self, key: &Key) -> Option<Metadata> {
        match self.ask(key, What::Get(Get::PLAIN)).await {
            Outcome::Hit(entry) => match Form::of(&entry.value, u32::MAX) {
                Form::Cut(metadata) => Some(metadata),
                Form::Whole | Form::Damaged => None,
            },
            _ => None,
        }
    }

    fn is_cut(&self, value: &[u8]) -> bool {
        value.len() > self.config.piece_bytes as usize || looks_like_metadata(value)
    }

    /// The metadata of a new write.
    fn metadata(&self, key: &Key, value: &[u8]) -> Metadata {
        let salt = self.salts.borrow_mut().next_u64();
        let token = match self.tokens {
            Tokens::Drawn => Token::of(key, value, salt),
            #[cfg(test)]
            Tokens::SameForAll => Token::same_for_all(key),
        };
        Metadata::new(token, value, self.config.piece_bytes)
    }
}

/// The value that is there, with what is put behind or before it.
fn extended(set: &Set, there: &[u8]) -> Bytes {
    let (first, second) = match set.mode {
        SetMode::Prepend => (&set.value[..], there),
        _ => (there, &set.value[..]),
    };
    let mut value = BytesMut::with_capacity(first.len() + second.len());
    value.extend_from_slice(first);
    value.extend_from_slice(second);
    value.freeze()
}

/// The expiry that leaves an entry its time.
fn expires_as(entry: &Entry) -> ExpTime {
    expiry::left(entry.ttl_s, || {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A host whose clock stands before 1970 has items that expire at once.
        since_epoch.map_or(0, |since| since.as_secs())
    })
}
