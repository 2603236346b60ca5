//! The end of a connection that a service closes: its client hears all that it was told.
//!
//! To close on bytes that nobody has read resets the connection, and a reset may overtake what was
//! written last (RFC 9112, section 9.6). So a service ends its own side, and reads on until the client
//! has ended the other or may not go on.

use std::time::Duration;

use forebay::net::Connection;
use forebay::now;

/// How long a client is heard after the last that it is told: several round trips across the world.
pub(crate) const HEARD_OUT_MAX: Duration = Duration::from_millis(500);
/// Bytes of a client that are read meanwhile: what a few full windows hold.
const HEARD_OUT_BYTES_MAX: usize = 1 << 20;

/// Ends this side behind all that was written, which takes as long as the client may take to read
/// that, and reads what the client still sends.
pub(crate) async fn hear_out(connection: &Connection) {
    // Also where the other side has ended it, or nothing more can be sent.
    if connection.finish().await.is_err() {
        return;
    }
    connection.read_by(Some(now().after(HEARD_OUT_MAX)));
    let mut n_bytes = 0;
    while let Ok(Some(chunk)) = connection.read().await {
        n_bytes += chunk.len();
        if n_bytes > HEARD_OUT_BYTES_MAX {
            return;
        }
    }
}
