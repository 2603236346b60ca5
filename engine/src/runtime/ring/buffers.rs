//! The ring of buffers that the kernel receives into, shared with it.
//!
//! ```text
//!   entries (shared): | address, len, id | …          tail: written here, read by the kernel
//!   lent:             | id → the buffer itself |      None while its place stands empty
//! ```
//!
//! The kernel takes entries in order from the head, writes into the buffer and names it by its id
//! in a completion. [`BufferRing::take`] then hands that buffer out for good; [`BufferRing::refill`]
//! puts another one under the same id at the tail.

#![allow(
    unsafe_code,
    reason = "memory shared with the kernel; each block names who keeps it valid"
)]

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::Pool;

pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    n_entries: u16,
    /// What the kernel has been told; it wraps.
    tail: u16,
    /// By id. Raw, because the kernel writes to them while they stand here.
    lent: Vec<Option<NonNull<[u8]>>>,
    /// Ids whose place stands empty.
    empty: Vec<u16>,
}

impl fmt::Debug for BufferRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferRing({} of {} lent)", self.n_lent(), self.n_entries)
    }
}

impl BufferRing {
    /// Makes a ring of `n_entries` buffers, a power of two, and shows it to the kernel. It must not
    /// outlive `ring`'s owner: both belong to the same struct, which drops the io_uring first.
    pub(super) fn register(
        ring: &IoUring,
        group: u16,
        n_entries: u16,
        pool: &Rc<Pool>,
    ) -> io::Result<Self> {
        assert!(n_entries.is_power_of_two(), "{n_entries} buffers are no power of two");
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let memory = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size_bytes(n_entries),
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )?
        };
        let entries = NonNull::new(memory.cast()).expect("a mapping is never at null");
        let mut buffers = Self {
            entries,
            n_entries,
            tail: 0,
            lent: (0..n_entries).map(|_| None).collect(),
            empty: (0..n_entries).rev().collect(),
        };
        // SAFETY: the mapping is page-aligned, zeroed, large enough for the entries, and unmapped
        // only when this struct is dropped, after the io_uring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(memory as u64, n_entries, group, 0)?;
        }
        buffers.refill(pool);
        Ok(buffers)
    }

    /// Takes the buffer that a completion names out of the ring.
    pub(super) fn take(&mut self, id: u16) -> Box<[u8]> {
        let lent = self.lent[usize::from(id)].take().expect("the kernel names what it was lent");
        self.empty.push(id);
        // SAFETY: made from a box by `refill`, and out of `lent` since the line above; the kernel
        // has given it back with its completion.
        unsafe { Box::from_raw(lent.as_ptr()) }
    }

    /// Fills the empty places; tells how many buffers the kernel may then use.
    pub(super) fn refill(&mut self, pool: &Pool) -> usize {
        if self.empty.is_empty() {
            return self.n_lent();
        }
        while let Some(id) = self.empty.pop() {
            let buffer = NonNull::from(Box::leak(pool.take()));
            self.write(id, buffer);
            self.lent[usize::from(id)] = Some(buffer);
            self.tail = self.tail.wrapping_add(1);
        }
        self.publish();
        self.n_lent()
    }

    fn n_lent(&self) -> usize {
        self.lent.len() - self.empty.len()
    }

    /// Writes the entry at the tail.
    fn write(&mut self, id: u16, buffer: NonNull<[u8]>) {
        let place = usize::from(self.tail & (self.n_entries - 1));
        // SAFETY: `place` is inside the mapping, and the kernel does not look at entries from the
        // tail on. At most `n_entries` are lent, so this one is free.
        let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
        entry.set_addr(buffer.as_ptr().cast::<u8>() as u64);
        entry.set_len(u32::try_from(buffer.len()).expect("a buffer is smaller than 4 GiB"));
        entry.set_bid(id);
    }

    /// Shows the kernel all entries before the tail.
    fn publish(&mut self) {
        // SAFETY: the tail stands inside the first entry, in bytes that `write` leaves alone, and
        // is only ever accessed atomically.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Leaves all memory to a kernel that may still write to it.
    pub(super) fn give_up(&mut self) {
        self.lent.clear();
        self.n_entries = 0;
    }
}

fn size_bytes(n_entries: u16) -> usize {
    usize::from(n_entries) * size_of::<BufRingEntry>()
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        for lent in self.lent.drain(..).flatten() {
            // SAFETY: made from a box by `refill`; the io_uring is closed and had nothing under way.
            drop(unsafe { Box::from_raw(lent.as_ptr()) });
        }
        if self.n_entries > 0 {
            // SAFETY: mapped with this size by `register`, and nothing refers to it any more.
            let unmapped =
                unsafe { munmap(self.entries.as_ptr().cast(), size_bytes(self.n_entries)) };
            debug_assert!(unmapped.is_ok(), "{unmapped:?}");
        }
    }
}
