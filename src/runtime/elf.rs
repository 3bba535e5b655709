//! Tells a library file that was cut off from a whole one.
//!
//! The system's loader maps what a file's header promises, and the process dies of it when the file is shorter: a download that
//! broke off would end the program without a word.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Size of the header of a 64-bit file, and of one row of its table of segments.
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;

/// Says in a few words what is missing of the file at `path`; what is no 64-bit little-endian ELF file is left to the loader.
pub(super) fn check_whole(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut header = Vec::new();
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(|error| error.to_string())?;
    // Magic number, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(());
    }
    let cut_off = || format!("is cut off: it has {length} bytes, and says that it has more");
    if header.len() < HEADER_BYTES {
        return Err(cut_off());
    }
    let within = |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= length);
    let (segments, sections) = (number(&header, 32, 8), number(&header, 40, 8));
    let (segment_bytes, segment_count) = (number(&header, 54, 2), number(&header, 56, 2));
    let (section_bytes, section_count) = (number(&header, 58, 2), number(&header, 60, 2));
    // Linkers write the table of sections last.
    if !within(segments, segment_bytes * segment_count) || !within(sections, section_bytes * section_count) {
        return Err(cut_off());
    }
    for index in 0..segment_count {
        let mut segment = [0; SEGMENT_BYTES];
        file.read_exact_at(&mut segment, segments + index * segment_bytes).map_err(|error| error.to_string())?;
        const LOADED: u64 = 1;
        if number(&segment, 0, 4) == LOADED && !within(number(&segment, 8, 8), number(&segment, 32, 8)) {
            return Err(cut_off());
        }
    }
    Ok(())
}

/// A little-endian number of `size` bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes.get(at..at + size).unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_whole_until_it_is_cut_off() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut");
        for (length, expected) in
            [(whole.len(), true), (whole.len() - 1, false), (whole.len() / 2, false), (64, false), (20, false), (3, true)]
        {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(check_whole(&path).is_ok(), expected, "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_header_of_hostile_numbers_is_no_crash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile");
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(HEADER_BYTES, 0xff);
        std::fs::write(&path, header).unwrap();
        assert!(check_whole(&path).is_err());
    }
}
