//! How fast a document is mapped, against the same mapping written by hand; all variants run in turn, in one process.
//!
//! The order is a purchase stock-in of WDT with texts as Qimen sends them, the model Kingdee's `STK_InStock`: header,
//! 18 fields per line with a link, two look-ups, three decimal calculations, a condition and a test for zero.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may stop at a mistake")]

mod by_hand;
mod order;

use std::hint::black_box;
use std::time::{Duration, Instant};

use kingpost_mapping::{Mapping, Scratch};

const ROUNDS: usize = 15;
const SLICE: Duration = Duration::from_millis(15);

fn main() {
    // `cargo test --benches` only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("| lines | document | variant | µs/document | documents/s | speed against by hand |");
    println!("|---|---|---|---|---|---|");
    for lines in [5, 20, 200] {
        measure(lines);
    }
}

fn measure(lines: usize) {
    let document = order::document(lines);
    let tables = by_hand::Tables::sample();
    let declared = Mapping::compile(&order::spec(true)).expect("spec with a shape compiles");
    let undeclared = Mapping::compile(&order::spec(false)).expect("spec without a shape compiles");
    let (mut scratch, mut other_scratch) = (Scratch::new(), Scratch::new());

    type Variant<'v> = (&'static str, Box<dyn FnMut(&mut Vec<u8>) + 'v>);
    let mut variants: [Variant<'_>; 4] = [
        ("structs by hand", Box::new(|out| by_hand::structs(document.as_bytes(), &tables, out))),
        (
            "kingpost-mapping",
            Box::new(|out| drop(declared.apply(document.as_bytes(), &mut scratch, out).unwrap())),
        ),
        (
            "kingpost-mapping, fields undeclared",
            Box::new(|out| {
                drop(undeclared.apply(document.as_bytes(), &mut other_scratch, out).unwrap());
            }),
        ),
        ("serde_json::Value by hand", Box::new(|out| by_hand::values(document.as_bytes(), &tables, out))),
    ];
    let mut expected = Vec::new();
    for (name, variant) in &mut variants {
        let mut out = Vec::new();
        variant(&mut out);
        let model: serde_json::Value = serde_json::from_slice(&out).expect("model is JSON");
        expected.push((*name, model));
    }
    for pair in expected.windows(2) {
        assert_eq!(pair[0].1, pair[1].1, "{} and {} write different models", pair[0].0, pair[1].0);
    }
    let mut times = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (index, (_, variant)) in variants.iter_mut().enumerate() {
            times[index].push(time(variant));
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((name, _), micros) in variants.iter().zip(&medians) {
        let (rate, ratio) = (1e6 / micros, medians[0] / micros);
        println!("| {lines} | {} B | {name} | {micros:.1} | {rate:.0} | {ratio:.2} |", document.len());
    }
}

/// Microseconds per document over one slice of time.
fn time(variant: &mut dyn FnMut(&mut Vec<u8>)) -> f64 {
    let mut out = Vec::with_capacity(1 << 20);
    let (start, mut done) = (Instant::now(), 0_u32);
    while start.elapsed() < SLICE {
        for _ in 0..8 {
            out.clear();
            variant(black_box(&mut out));
            black_box(&out);
            done += 1;
        }
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(done)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
