//! Mapping alone, in one thread, without a broker.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use kingpost_mapping::Scratch;
use serde_json::Value;

use super::report::{Aim, median, result};
use super::{Extent, SIZES, Tables, by_hand, orders::order, shipped_mapping};

/// How long one variant runs before the other takes its turn.
const SLICE: Duration = Duration::from_millis(20);

type Variant<'v> = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> Result<()> + 'v>;

/// Measures the shipped scheme against the same mapping written by hand.
pub(super) fn measure(extent: Extent) -> Result<()> {
    println!("\nmapping alone, one thread, median of interleaved slices");
    let (mapping, tables) = (shipped_mapping()?, Tables::shipped());
    let mut scratch = Scratch::new();
    let mut ours: Variant<'_> = Box::new(|document, out| {
        mapping.apply(document, &mut scratch, out).map(drop).map_err(|rejection| anyhow!("{rejection:?}"))
    });
    let mut by_hand: Variant<'_> = Box::new(|document, out| by_hand::map(document, &tables, out));
    for (size, lines) in SIZES {
        let document = order(1, lines);
        let models = [&mut ours, &mut by_hand].map(|variant| -> Result<(usize, Value)> {
            let mut out = Vec::new();
            variant(document.as_bytes(), &mut out)?;
            Ok((out.len(), serde_json::from_slice(&out)?))
        });
        let [(bytes, model), (_, other)] = match models {
            [Ok(ours), Ok(other)] => [ours, other],
            [Err(error), _] | [_, Err(error)] => return Err(error),
        };
        ensure!(model == other, "the shipped scheme and the hand-written mapping write different models");
        let (mut slow, mut fast) = (Vec::new(), Vec::new());
        for _ in 0..extent.of(41, 3) {
            slow.push(micros(&mut ours, document.as_bytes())?);
            fast.push(micros(&mut by_hand, document.as_bytes())?);
        }
        let ratios = slow.iter().zip(&fast).map(|(ours, theirs)| theirs / ours).collect();
        println!("  {size}: {lines} lines, {} bytes in, {bytes} bytes out", document.len());
        println!("  by hand {:.1} µs, shipped scheme {:.1} µs per order", median(fast), median(slow));
        result("speed, shipped scheme / by hand", median(ratios), "", Aim::AtLeast(0.9));
    }
    Ok(())
}

/// Microseconds per order over one slice of time.
fn micros(variant: &mut Variant<'_>, document: &[u8]) -> Result<f64> {
    let mut out = Vec::with_capacity(64 * 1_024);
    let (start, mut done) = (Instant::now(), 0_u32);
    while start.elapsed() < SLICE {
        for _ in 0..8 {
            out.clear();
            variant(black_box(document), &mut out)?;
            black_box(&out);
            done += 1;
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(done))
}
