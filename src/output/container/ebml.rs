//! WebM: elements within elements (RFC 8794): a number, a length, data.

use std::io::{BufRead, Seek};

use anyhow::Result;

use super::Walk;
use crate::output::clip::webm_names::{RECORD, SEGMENT, SIMPLE_TAG, TAG, TAG_NAME, TAG_STRING, TAGS};

/// The value of a tag, if there is one of Kiln's name.
pub(super) fn record(reader: impl BufRead + Seek, name: &str) -> Result<Option<Vec<u8>>> {
    let mut walk = Walk { reader, name };
    let mut tag = Vec::new();
    while !walk.is_at_end()? {
        let (number, length) = (walk.element_number()?, walk.element_length()?);
        match (number, length) {
            // What stands in these is walked through as if it stood beside them.
            (SEGMENT | TAGS | TAG | SIMPLE_TAG, _) => tag.clear(),
            (TAG_NAME, Some(length)) => tag = walk.text(length)?,
            (TAG_STRING, Some(length)) if tag == RECORD.as_bytes() => return walk.text(length).map(Some),
            (_, Some(length)) => walk.skip(length)?,
            // A part of a live stream: nothing says where it ends.
            (_, None) => return Ok(None),
        }
    }
    Ok(None)
}

impl<R: BufRead + Seek> Walk<'_, R> {
    /// An element's number, of 1 to 4 bytes, which hold their own length.
    fn element_number(&mut self) -> Result<u32> {
        let [first] = self.bytes()?;
        let more = first.leading_zeros();
        if more > 3 {
            return Err(self.broken("a number of an element is none"));
        }
        (0..more).try_fold(u32::from(first), |number, _| {
            let [byte] = self.bytes()?;
            Ok(number << 8 | u32::from(byte))
        })
    }

    /// An element's length, of 1 to 8 bytes; `None` where it is not known.
    fn element_length(&mut self) -> Result<Option<u64>> {
        let [first] = self.bytes()?;
        let more = first.leading_zeros();
        if more > 7 {
            return Err(self.broken("a length of an element is none"));
        }
        let start = u64::from(first) & ((1 << (7 - more)) - 1);
        let length = (0..more).try_fold(start, |length, _| {
            let [byte] = self.bytes()?;
            Ok::<_, anyhow::Error>(length << 8 | u64::from(byte))
        })?;
        Ok(Some(length).filter(|length| *length != (1 << (7 * (more + 1))) - 1))
    }
}
