//! Files through the door: the same code on real rings and in simulation.

use std::path::PathBuf;
use std::time::Duration;

use forebay::sim::SimOptions;
use forebay::{Builder, File, RequestOptions};

async fn write_and_read_back(path: PathBuf) -> std::io::Result<()> {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = File::create(&path).await?;
    file.write_at(0, &bytes).await?;
    file.write_at(4, &[9; 8]).await?;
    file.sync().await?;
    file.close().await?;

    let file = File::open(&path).await?;
    let mut expected = bytes;
    expected[4..12].fill(9);
    assert_eq!(file.read_at(0, expected.len() + 10).await?, expected, "whole, and no more");
    assert_eq!(file.read_at(10, 4).await?, expected[10..14]);
    assert_eq!(file.read_at(1 << 40, 4).await?, [], "beyond the end is empty");
    file.close().await?;
    let missing = File::open(path.with_extension("gone")).await;
    assert_eq!(missing.map(drop).map_err(|error| error.kind()), Err(std::io::ErrorKind::NotFound));
    Ok(())
}

#[test]
fn what_was_written_is_read_on_a_real_ring() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut builder = Builder::new();
    builder.shards(1);
    let engine = builder.start().unwrap();
    let reply = engine
        .handle()
        .submit(0, RequestOptions::default(), move || write_and_read_back(path))
        .unwrap();
    reply.wait().unwrap().unwrap();
    assert!(engine.stop(Duration::from_secs(1)).drained);
}

#[test]
fn an_error_keeps_the_systems_number() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let mut builder = Builder::new();
    builder.quiet().shards(1);
    let engine = builder.start().unwrap();
    let open = move || async move { File::open(missing).await.map(drop) };
    let reply = engine.handle().submit(0, RequestOptions::default(), open).unwrap();
    let error = reply.wait().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOENT.raw_os_error()), "{error}");
    engine.stop(Duration::from_secs(1));
}

#[test]
fn what_was_written_is_read_in_simulation() {
    let mut sim = Builder::new().simulate(SimOptions::new(1, 1)).unwrap();
    let path = PathBuf::from("/in/memory");
    let reply = sim
        .handle()
        .submit(0, RequestOptions::default(), move || write_and_read_back(path))
        .unwrap();
    while sim.step() {}
    reply.try_take().expect("it has ended").unwrap().unwrap();
}
