//! Where ONNX Runtime laid the weights that it packed for a processor's kernels.
//!
//! Its kernels read packed weights with instructions that want them at multiples of 64 bytes, and end the process where they are not; its
//! writer lays small ones anywhere. So a file of which this cannot be told is not used with packed weights.

/// What the widest instructions ask for, in bytes.
const ALIGNMENT: u64 = 64;
/// The beginning of the key under which a weight's packed forms are noted, as `NAME|OFFSET;LENGTH;CHECKSUM|…`.
const KEY: &[u8] = b"prepacked_";
/// The value's tag within the entry that holds key and value.
const VALUE: u8 = 0x12;

/// Whether every packed weight of the graph in `bytes`, an optimised ONNX file, lies where kernels can read it.
pub(super) fn is_aligned(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[at + KEY.len()..];
        let Some(offsets) = value(rest).and_then(offsets) else { return false };
        if offsets.iter().any(|offset| !offset.is_multiple_of(ALIGNMENT)) {
            return false;
        }
    }
    true
}

/// The value of the entry whose key ends at the beginning of `rest`, behind its number.
fn value(rest: &[u8]) -> Option<&str> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (tag, rest) = rest.get(digits..)?.split_first()?;
    if *tag != VALUE {
        return None;
    }
    let (mut length, mut shift, mut rest) = (0_usize, 0, rest);
    loop {
        let (byte, after) = rest.split_first()?;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        rest = after;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    std::str::from_utf8(rest.get(..length)?).ok()
}

fn offsets(value: &str) -> Option<Vec<u64>> {
    let forms = value.split('|').skip(1);
    let offsets: Vec<u64> = forms.map(|form| form.split(';').next()?.parse().ok()).collect::<Option<_>>()?;
    (!offsets.is_empty()).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as it stands in a file, between bytes of others.
    fn entry(value: &str) -> Vec<u8> {
        let mut bytes = b"\x0a\x0bprepacked_0\x12".to_vec();
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value.as_bytes());
        bytes.extend(b"\x70\x01");
        bytes
    }

    #[test]
    fn packed_weights_lie_at_multiples_of_64() {
        assert!(is_aligned(b"no packed weights"));
        assert!(is_aligned(&entry("MatMul+1|64;128;0")));
        assert!(is_aligned(&[entry("MatMul+1|0;128;0"), entry("Conv+2|128;64;0|192;64;0")].concat()));
        assert!(!is_aligned(&entry("MatMul+1|96;128;0")));
        assert!(!is_aligned(&[entry("MatMul+1|0;128;0"), entry("Conv+2|128;64;0|200;64;0")].concat()));
    }

    #[test]
    fn what_cannot_be_read_is_not_aligned() {
        for wrong in ["MatMul+1", "MatMul+1|", "MatMul+1|x;1;0", "MatMul+1|-64;1;0"] {
            assert!(!is_aligned(&entry(wrong)), "{wrong}");
        }
        let whole = entry("MatMul+1|64;128;0");
        for end in 13..whole.len() - 2 {
            assert!(!is_aligned(&whole[..end]), "cut at {end}");
        }
        assert!(!is_aligned(b"prepacked_0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    }
}
