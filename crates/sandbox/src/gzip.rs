//! A gzip body that is far larger than it looks.

/// What a repeat of the longest kind stands for.
const REPEAT: usize = 258;

/// So many MiB of blanks as gzip (RFC 1952), packed with the fixed codes of deflate (RFC 1951, 3.2.6): one blank, then
/// "the last character, 258 times" again and again, at 13 bits each.
pub(crate) fn blanks(mib: u32) -> Vec<u8> {
    let total = (mib as usize) << 20;
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], filled: 0 };
    // The last block, with fixed codes.
    bits.push(&[1, 1, 0]);
    let literal = |bits: &mut Bits| bits.push(&[0, 1, 0, 1, 0, 0, 0, 0]);
    let mut left = total;
    if left > 0 {
        literal(&mut bits);
        left -= 1;
    }
    while left >= REPEAT {
        bits.push(&[1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
        left -= REPEAT;
    }
    (0..left).for_each(|_| literal(&mut bits));
    bits.push(&[0; 7]);
    let mut packed = bits.bytes;
    packed.extend(checksum(b' ', total).to_le_bytes());
    // The length is kept modulo 2^32.
    packed.extend((total as u32).to_le_bytes());
    packed
}

/// Bytes that are filled from their lowest bit.
struct Bits {
    bytes: Vec<u8>,
    /// Bits used of the last byte; 0 when a new one is due.
    filled: u8,
}

impl Bits {
    fn push(&mut self, code: &[u8]) {
        for bit in code {
            if self.filled == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << self.filled;
            }
            self.filled = (self.filled + 1) % 8;
        }
    }
}

/// CRC-32 of one byte repeated.
fn checksum(byte: u8, count: usize) -> u32 {
    let step = |mut value: u32| {
        for _ in 0..8 {
            value = (value >> 1) ^ (0xEDB8_8320 & (value & 1).wrapping_neg());
        }
        value
    };
    let table: Vec<u32> = (0..256).map(step).collect();
    let next = |crc: u32| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8);
    !(0..count).fold(!0, |crc, _| next(crc))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn gzip_itself_unpacks_it_and_finds_only_blanks() {
        let mut gzip =
            Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let packed = blanks(1);
        assert!(packed.len() < 10_000, "{}", packed.len());
        gzip.stdin.take().unwrap().write_all(&packed).unwrap();
        let output = gzip.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 1 << 20);
        assert!(output.stdout.iter().all(|byte| *byte == b' '));
    }
}
