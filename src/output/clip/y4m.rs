//! YUV4MPEG2: raw video behind a line of text, which every video program reads from a pipe.
//!
//! A matrix cannot be said, so it is BT.601, which readers take where nothing is said; the range can and is.

use anyhow::Result;

use super::colour::{BT601, Planes};
use super::writer::{ClipHead, Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;

pub(super) struct Y4m;

impl Y4m {
    pub(super) fn begin(head: ClipHead, sink: &mut Sink) -> Result<Self> {
        let ClipHead { width, height, rate, .. } = head;
        let rate = format!("F{}:{}", rate.frames(), rate.seconds());
        let line = format!("YUV4MPEG2 W{width} H{height} {rate} Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n");
        sink.put(line.as_bytes())?;
        Ok(Self)
    }
}

impl Encode for Y4m {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let Planes { luma, chroma: [blue, red], .. } = Planes::new(frame, BT601);
        [b"FRAME\n".as_slice(), &luma, &blue, &red].into_iter().try_for_each(|bytes| sink.put(bytes))
    }

    fn finish(self: Box<Self>, _: usize, _: Option<&Provenance>, _: &mut Sink) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::clip::ClipWriter;
    use crate::output::format::ClipFormat;

    #[test]
    fn a_frame_is_a_line_and_three_planes_of_half_the_sides_rounded_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        let head = ClipHead { background: [0, 0, 0], ..ClipHead::new(3, 5, 4, "30000/1001".parse().unwrap()) };
        let mut writer = ClipWriter::create(&path, ClipFormat::Y4m, head).unwrap();
        for opacity in [255, 0] {
            writer.push(&Picture::new(3, 5, 4, [255, 255, 255, opacity].repeat(15)).unwrap()).unwrap();
        }
        writer.finish(None).unwrap();
        let line = "YUV4MPEG2 W3 H5 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n";
        let frame = |luma: u8| [b"FRAME\n".to_vec(), vec![luma; 15], vec![128; 12]].concat();
        assert_eq!(std::fs::read(path).unwrap(), [line.as_bytes().to_vec(), frame(235), frame(16)].concat());
    }
}
