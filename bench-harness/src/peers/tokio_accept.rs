//! Connections on tokio's current-thread scheduler, one task for each.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use tokio::net::{TcpListener, TcpStream};

use super::serving::{is_passing, listen};

/// Listens, says where, starts what runs beside, and serves for ever.
pub(super) fn serve<F>(
    ready: &Sender<SocketAddr>,
    beside: impl FnOnce(),
    connection: impl Fn(TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen(ready)?)?;
        beside();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    stream.set_nodelay(true)?;
                    tokio::spawn(connection(stream));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    })
}
