//! What is decided of a clip before it is made: sizes, calls, windows, tiles, memory.

use kiln::plan::TileChoice;
use kiln::{Memory, Picture, Request, Settings};

use super::{common, engine, film, golden, short};

#[test]
fn the_decoder_of_a_causal_clip_takes_as_much_memory_for_any_length() {
    let engine = engine("wan", &Settings::default());
    let of = |frames, role: &str| {
        let (_, plan) = engine.plan(&Request { frames: Some(frames), ..short() }).unwrap();
        let found = plan.forecast.components.into_iter().find(|component| component.role.folder() == role);
        found.map(|component| (component.calls, component.memory_bytes))
    };
    assert_eq!(of(1, "vae_decoder"), None, "one frame is the first");
    assert_eq!(of(17, "vae_decoder_first").unwrap().0, 1);
    let (short, long) = (of(9, "vae_decoder").unwrap(), of(81, "vae_decoder").unwrap());
    assert_eq!((short.0, long.0), (2, 20));
    assert_eq!(short.1, long.1);
    assert!(of(9, "transformer").unwrap().1 < of(29, "transformer").unwrap().1, "it sees all frames at once");
    let (whole, windowed) = (of(29, "transformer").unwrap(), of(81, "transformer").unwrap());
    assert_eq!((whole.0, windowed.0), (2, 16), "two steps, of one window and of eight");
    assert_eq!(whole.1, windowed.1, "and no more than it was trained for");
}

#[test]
fn a_clip_that_goes_on_from_a_picture_has_its_shape_and_counts_what_encodes_it() {
    let engine = engine("wan_i2v", &Settings::default());
    let picture = Picture::open(&golden("input_wide.png")).unwrap();
    let request = Request { input: Some(picture), size: None, frames: Some(13), ..short() };
    let (resolved, plan) = engine.plan(&request).unwrap();
    // 416 by 240 pixels are as many as 447 by 223, whose sides are brought to multiples of 8.
    assert_eq!((resolved.width, resolved.height, resolved.task.name()), (440, 216, "picture to clip"));
    let calls: Vec<(&str, usize)> =
        plan.forecast.components.iter().map(|component| (component.role.folder(), component.calls)).collect();
    let expected = [
        ("text_encoder", 2),
        ("image_encoder", 1),
        ("vae_encoder_first", 1),
        ("vae_encoder", 3),
        ("transformer", 2),
        ("vae_decoder_first", 1),
        ("vae_decoder", 3),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_causal_clip_is_decoded_in_tiles_where_the_memory_asks_for_it() {
    let asked = Request { size: Some((96, 96)), frames: Some(9), ..short() };
    let whole = engine("wan", &Settings::default()).plan(&asked).unwrap().1;
    let tiled_settings = Settings { tile: TileChoice::Pixels(32), memory: Memory::Low, ..Settings::default() };
    let mut tiled = engine("wan", &tiled_settings);
    let plan = tiled.plan(&asked).unwrap().1;
    let of = |plan: &kiln::plan::Plan, role: &str| {
        let found = plan.forecast.components.iter().find(|component| component.role.folder() == role).unwrap();
        (found.calls, found.memory_bytes)
    };
    // Sixteen tiles of 32 pixels every 24.
    assert_eq!((of(&plan, "vae_decoder_first").0, of(&plan, "vae_decoder").0), (16, 32));
    assert!(of(&plan, "vae_decoder").1 < of(&whole, "vae_decoder").1);
    let (sheet, made) = film(&mut tiled, &asked).unwrap();
    assert_eq!((made.provenance.tile, sheet.height), (Some(32), 9 * 96));

    // A budget that the whole does not fit chooses tiles by itself; of one frame the decoder takes more than the transformer.
    let low = Settings { memory: Memory::Low, ..Settings::default() };
    let large = Request { size: Some((768, 768)), frames: Some(1), ..asked };
    let needed = engine("wan", &low).plan(&large).unwrap().1.forecast.memory_bytes;
    let budget = kiln::plan::Budget { memory_bytes: Some(needed - 1), ..Default::default() };
    let plan = engine("wan", &Settings { budget, ..Settings::default() }).plan(&large).unwrap().1;
    assert!(plan.tile.is_some() && plan.forecast.memory_bytes < needed, "{:?}", plan.tile);
}

#[test]
fn a_decoder_of_whole_clips_takes_more_memory_for_more_frames_and_in_tiles_as_much_for_any() {
    let plan = |frames, tile| {
        let settings = Settings { tile, ..Settings::default() };
        engine("ltx", &settings).plan(&Request { frames: Some(frames), size: Some((256, 256)), ..short() }).unwrap().1
    };
    let of_decoder = |frames, tile| {
        let found = plan(frames, tile).forecast.components.into_iter().find(|part| part.role.folder() == "vae_decoder").unwrap();
        (found.calls, found.memory_bytes)
    };
    let (nine, long) = (of_decoder(9, TileChoice::Auto), of_decoder(161, TileChoice::Auto));
    assert_eq!((nine.0, long.0), (1, 1));
    assert!(long.1 > 5 * nine.1, "{nine:?} {long:?}");
    let (some, many) = (of_decoder(41, TileChoice::Frames), of_decoder(161, TileChoice::Frames));
    assert_eq!((some.0, many.0), (5, 20));
    assert!(some.1 == many.1 && many.1 < long.1, "{some:?} {many:?} {long:?}");
    assert_eq!(of_decoder(9, TileChoice::Frames), nine, "within one tile");
    let decided = |plan: kiln::plan::Plan| plan.decisions.into_iter().find(|made| made.what == "decoding").unwrap().choice;
    assert_eq!(decided(plan(161, TileChoice::Auto)), "the whole clip at once");
    assert_eq!(decided(plan(161, TileChoice::Frames)), "tiles of 16 frames, 8 of them blended");

    // A budget of memory that the whole clip does not fit takes tiles by itself.
    let request = Request { frames: Some(161), size: Some((256, 256)), ..short() };
    let low = Settings { memory: Memory::Low, ..Settings::default() };
    let whole = engine("ltx", &low).plan(&request).unwrap().1;
    assert_eq!(whole.clip_tile, None, "low memory alone makes the same frames");
    let memory_bytes = Some(whole.forecast.memory_bytes - 1);
    let budget = kiln::plan::Budget { memory_bytes, ..kiln::plan::Budget::default() };
    let found = engine("ltx", &Settings { budget, ..Settings::default() }).plan(&request).unwrap().1;
    assert!(found.clip_tile.is_some() && Some(found.forecast.memory_bytes) <= memory_bytes);

    // What is too much in tiles of time is cut in its sides too, and each way takes less.
    let large = |tile| {
        let settings = Settings { tile, memory: Memory::Low, ..Settings::default() };
        let request = Request { frames: Some(41), size: Some((768, 768)), ..short() };
        engine("ltx", &settings).plan(&request).unwrap().1
    };
    let (of_time, of_both) = (large(TileChoice::Frames), large(TileChoice::PixelsAndFrames(256)));
    let decoder = |plan: &kiln::plan::Plan| {
        let found = plan.forecast.components.iter().find(|part| part.role.folder() == "vae_decoder").unwrap();
        (found.calls, found.memory_bytes)
    };
    // Sixteen tiles of 256 pixels every 192, of each of five tiles of time.
    assert_eq!((decoder(&of_time).0, decoder(&of_both).0), (5, 5 * 16));
    assert!(decoder(&of_both).1 * 4 < decoder(&of_time).1);
    assert_eq!(decided(of_both), "tiles of 16 frames, 8 of them blended; each in tiles of 256x256 pixels, 64 of them blended");
}

#[test]
fn a_long_clip_is_planned_in_windows_and_takes_as_much_memory_in_the_denoiser() {
    let engine = engine("animatediff", &Settings::default());
    let plan = |frames| engine.plan(&Request { frames: Some(frames), ..short() }).unwrap();
    let of_unet = |frames| {
        let forecast = plan(frames).1.forecast;
        let found = forecast.components.into_iter().find(|component| component.role.folder() == "unet").unwrap();
        (found.calls, found.memory_bytes)
    };
    let (short, long) = (of_unet(8), of_unet(20));
    assert_eq!((short.0, long.0), (2, 14), "two steps, of one window and of seven");
    assert_eq!(short.1, long.1);
    assert!(of_unet(4).1 < short.1);
    let decoded = |frames: usize| {
        plan(frames).1.forecast.components.iter().find(|found| found.role.folder() == "vae_decoder").unwrap().calls
    };
    assert_eq!((decoded(8), decoded(20)), (8, 20));
    let windows = plan(20).1.decisions.into_iter().find(|decision| decision.what == "windows").unwrap();
    assert_eq!(windows.choice, "7 of 8 frames");
}

#[test]
fn a_clip_to_begin_with_is_held_once_where_it_has_the_size_already() {
    let engine = engine("animatediff", &Settings::default());
    let of = |side: u32| {
        let frame = Picture::new(side, side, 3, vec![7; (3 * side * side) as usize]).unwrap();
        let request =
            Request { input_frames: vec![frame; 100].into(), frames: None, size: Some((64, 64)), steps: Some(4), ..short() };
        engine.plan(&request).unwrap().1.forecast.memory_bytes
    };
    let (as_it_came, twice_more) = (of(64), of(32));
    // A forecast adds a share of its own.
    let two_copies = 2 * 100 * 3 * 64 * 64;
    assert!((two_copies..two_copies * 11 / 10).contains(&(twice_more - as_it_came)), "{twice_more} {as_it_came}");
}

#[test]
fn windows_of_wan_are_as_long_as_the_published_clips_where_a_card_names_no_trained_length() {
    let (_folder, path) = common::copy_of("wan");
    let card = path.join("kiln.toml");
    let written = std::fs::read_to_string(&card).unwrap();
    assert!(written.contains("frames = [29]"), "{written}");
    let without: String = written.lines().filter(|line| !line.starts_with("frames = ")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&card, without).unwrap();
    let bundle = kiln::bundle::Bundle::open(&path).unwrap();
    let shape = bundle.clip.as_ref().unwrap();
    // 81 frames are 21 of latents.
    assert_eq!((shape.trained.len(), shape.window.unwrap().length, shape.whole), (0, 21, 21));
    let planned = |frames| Request { frames: Some(frames), ..short() }.resolve(&bundle).unwrap().frames.unwrap().window;
    assert_eq!((planned(81), planned(85).map(|window| window.length)), (None, Some(21)));
}
