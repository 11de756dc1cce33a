//! A model that is loaded, used and dropped again and again leaves nothing behind: nothing in the ledger, nothing in the host's memory. A
//! process of its own: it reads its own RSS.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // a test may panic

mod common;

use webweft::device::{Device, DeviceOptions};
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};
use webweft::source::{Folder, Source};

/// Cycles with `./test --long`, and the first ones of them, after which memory is looked at: by then allocators have what they keep.
const LONG: (usize, usize) = (200, 50);
/// As many as always run: too few to tell a slow leak, enough for the ledger.
const SHORT: (usize, usize) = (5, 1);
/// What resident memory may grow by between the two, in bytes: 0.3 MiB were measured.
const GROWTH: i64 = 2 << 20;

/// Anonymous resident memory of this process, in bytes. A mapped checkpoint is not anonymous.
fn rss_anon() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 1024
}

#[pollster::test]
async fn nothing_is_left_of_many_rounds() {
    let is_long = common::is_long();
    let (cycles, settled) = if is_long { LONG } else { SHORT };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories");
    let source = Source::Folder(Folder::open(folder).unwrap());
    let device = Device::open(&DeviceOptions::default()).await.unwrap();
    let load = LoadOptions { dtype: Dtype::F32, context: Some(256), warm_up: true, ..LoadOptions::default() };
    let options = GenerateOptions { max_new_tokens: 4, ..GenerateOptions::default() };
    let (mut first, mut before, mut peak) = (None, 0, 0);
    for cycle in 1..=cycles {
        let mut session = Session::open(&device, &source, &load, |_| ()).await.unwrap();
        let mut generation = session.generate_text("Once upon a time", options.clone()).await.unwrap();
        let mut ids = Vec::new();
        while let Some(piece) = generation.next().await.unwrap() {
            ids.push(piece.id);
        }
        drop(generation);
        drop(session);
        assert_eq!(first.get_or_insert_with(|| ids.clone()), &ids, "cycle {cycle}");
        let ledger = device.ledger();
        assert_eq!((ledger.snapshot().total, ledger.leaks()), (0, Vec::new()), "cycle {cycle}");
        let now = ledger.snapshot().peak_total;
        assert!(cycle == 1 || now == peak, "cycle {cycle}: {now} bytes at most, not {peak}");
        peak = now;
        if cycle == settled {
            before = rss_anon();
        }
        if cycle.is_multiple_of(50) {
            println!("cycle {cycle}: {:.1} MiB resident", rss_anon() as f64 / f64::from(1 << 20));
        }
    }
    let grown = rss_anon() - before;
    println!("{cycles} cycles: {:.2} MiB more than after {settled}", grown as f64 / f64::from(1 << 20));
    assert!(!is_long || grown <= GROWTH, "{grown} bytes");
}
