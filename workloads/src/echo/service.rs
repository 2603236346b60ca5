//! What the server does for one connection, as straight-line code, and what burns beside it.

use std::time::Duration;

use forebay::net::Connection;

use super::config::{Bytes, Planted};
use crate::burning::spin;

/// Sends back what comes until the client has finished.
pub(super) async fn echo(connection: Connection) {
    // A connection that breaks is its client's to notice: there is nobody else to tell.
    while let Ok(Some(chunk)) = connection.read().await {
        if connection.write(chunk).await.is_err() {
            return;
        }
    }
}

/// The same with planted faults.
pub(super) async fn echo_wrongly(connection: Connection, faults: Bytes) {
    let mut number: u32 = 0;
    while let Ok(Some(chunk)) = connection.read().await {
        number = number.wrapping_add(1);
        let mut bytes = chunk.to_vec();
        if faults.spoil_one_in.is_some_and(|n| number.is_multiple_of(n)) {
            spoil(&mut bytes);
        }
        match faults.planted {
            Some(Planted::SpoilChunk(n)) if n == number => spoil(&mut bytes),
            Some(Planted::RepeatChunk(n)) if n == number => bytes.extend_from_within(..),
            Some(Planted::CloseAtChunk(n)) if n == number => return,
            _ => {}
        }
        if connection.write(bytes).await.is_err() {
            return;
        }
    }
}

fn spoil(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last = !*last;
    }
}

/// Burns for `busy` each time it runs, for ever.
pub(super) async fn burn_for_ever(busy: Duration) {
    loop {
        spin(busy);
        forebay::yield_now().await;
    }
}
