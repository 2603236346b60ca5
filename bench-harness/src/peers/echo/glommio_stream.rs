//! Echo on glommio's own TCP streams, one task for each connection, as its examples have it.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use futures_lite::future::yield_now;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};

use super::{ANY_PORT, burn};
use crate::peers::serving::is_passing;

/// How often its tasks are interrupted: what people set who want their sockets looked at.
const PREEMPT: Duration = Duration::from_millis(1);
/// A timer that is always live. Without one this version of glommio sometimes sleeps with tasks to
/// run until something else happens, and a run that hangs measures nothing.
const TICK: Duration = Duration::from_millis(10);
/// Bytes read at a time.
const READ_BYTES: usize = 4_096;

/// Sends back what comes.
pub(super) fn echo(busy: Option<Duration>, ready: Sender<SocketAddr>) -> io::Result<()> {
    // The process is pinned already.
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT)
        .make()
        .map_err(plain)?;
    executor.run(async {
        let listener = TcpListener::bind(ANY_PORT).map_err(plain)?;
        // Nobody listens only where the process has ended.
        let _ended = ready.send(listener.local_addr().map_err(plain)?);
        glommio::spawn_local(async {
            loop {
                glommio::timer::sleep(TICK).await;
            }
        })
        .detach();
        if let Some(busy) = busy {
            glommio::spawn_local(async move {
                loop {
                    burn(busy);
                    yield_now().await;
                }
            })
            .detach();
        }
        loop {
            let stream = match listener.accept().await {
                Ok(stream) => stream,
                Err(GlommioError::IoError(error)) if is_passing(&error) => continue,
                Err(error) => return Err(plain(error)),
            };
            stream.set_nodelay(true).map_err(plain)?;
            glommio::spawn_local(serve(stream)).detach();
        }
    })
}

async fn serve(mut stream: TcpStream) {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(n_bytes) => {
                if stream.write_all(&bytes[..n_bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn plain(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}
