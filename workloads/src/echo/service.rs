//! What the server does for one connection, as straight-line code, and what burns beside it.

use std::time::Duration;

use forebay::net::Connection;

/// Sends back what comes until the client has finished.
pub(super) async fn echo(connection: Connection) {
    // A connection that breaks is its client's to notice: there is nobody else to tell.
    while let Ok(Some(chunk)) = connection.read().await {
        if connection.write(chunk).await.is_err() {
            return;
        }
    }
}

/// The same, but one byte of every n-th chunk comes back wrong.
pub(super) async fn echo_spoiled(connection: Connection, spoil_one_in: u32) {
    let mut until_spoiled = spoil_one_in;
    while let Ok(Some(chunk)) = connection.read().await {
        let mut bytes = chunk.to_vec();
        until_spoiled -= 1;
        if until_spoiled == 0 {
            until_spoiled = spoil_one_in;
            if let Some(last) = bytes.last_mut() {
                *last = !*last;
            }
        }
        if connection.write(bytes).await.is_err() {
            return;
        }
    }
}

/// Burns for `busy` each time it runs, for ever.
pub(super) async fn burn(busy: Duration) {
    loop {
        spin(busy);
        forebay::yield_now().await;
    }
}

/// Keeps the core busy. The shard's clock stands still meanwhile, so this reads the host's.
#[expect(clippy::disallowed_methods, reason = "burning real time is the purpose")]
fn spin(time: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}
