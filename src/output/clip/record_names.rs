//! What the parts of files with Kiln's record are called, for those that write and those that read them.

/// The chunk of a WebP file.
pub(in crate::output) const WEBP_RECORD: &[u8; 4] = b"KILN";
/// The owner of a box of type `uuid` in an MP4 file.
pub(in crate::output) const MP4_RECORD: [u8; 16] = *b"kiln\x8a\x1e\x4c\x06\x9b\x52\xd0\x37\x61\xef\x2a\xb8";

/// Elements of a WebM file, by their numbers in RFC 9559.
pub(in crate::output) mod webm {
    /// The name of Kiln's tag.
    pub(in crate::output) const RECORD: &str = "KILN";
    pub(in crate::output) const SEGMENT: u32 = 0x1853_8067;
    pub(in crate::output) const TAGS: u32 = 0x1254_C367;
    pub(in crate::output) const TAG: u32 = 0x7373;
    pub(in crate::output) const SIMPLE_TAG: u32 = 0x67C8;
    pub(in crate::output) const TAG_NAME: u32 = 0x45A3;
    pub(in crate::output) const TAG_STRING: u32 = 0x4487;
}
