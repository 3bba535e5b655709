//! MP4: a row of boxes (ISO/IEC 14496-12, section 4.2): a length with its own, a name, data.

use std::io::{BufRead, Seek};

use anyhow::Result;

use super::Walk;
use crate::output::clip::MP4_RECORD;

/// Kiln's record, if there is one.
pub(super) fn record(reader: impl BufRead + Seek, name: &str) -> Result<Option<Vec<u8>>> {
    let mut walk = Walk { reader, name };
    while let Some([a, b, c, d, kind @ ..]) = walk.next::<8>()? {
        let left = match u32::from_be_bytes([a, b, c, d]) {
            // It reaches to the end of the file.
            0 => return Ok(None),
            1 => u64::from_be_bytes(walk.bytes()?).checked_sub(16),
            length => u64::from(length).checked_sub(8),
        };
        let Some(mut left) = left else { return Err(walk.broken("a box of it is shorter than its head")) };
        if &kind == b"uuid" && left >= MP4_RECORD.len() as u64 {
            let owner: [u8; MP4_RECORD.len()] = walk.bytes()?;
            left -= owner.len() as u64;
            if owner == MP4_RECORD {
                return walk.text(left).map(Some);
            }
        }
        walk.skip(left)?;
    }
    Ok(None)
}
