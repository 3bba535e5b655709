//! What is asked wrongly: exit code 2, one message that says what, and nothing written.

use std::fs;

use kiln::Picture;

use super::common::{kiln, listing, names};
use super::{generate, model};

#[test]
fn each_wrong_wish_is_refused_with_one_clear_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("folder.png")).unwrap();
    let picture = Picture::new(64, 64, 3, vec![7; 64 * 64 * 3]).unwrap();
    let bytes = kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap();
    fs::write(path.join("good.png"), &bytes).unwrap();
    let turbo: &[(&[&str], &[&str])] = &[
        (&["--size", "65x64"], &["size: is 65x64", "multiples of 8", "nearest is 64x64"]),
        (&["--size", "0x64"], &["size: is 0x64", "nearest is 8x64"]),
        (&["--size", "4096x999999"], &["size: is 4096x999999", "up to 4096", "nearest is 4096x4096"]),
        (&["--steps", "0"], &["steps: is 0"]),
        (&["--steps", "5"], &["steps: is 5, expected 1, 2, 3 or 4", "turbo", "--force"]),
        (&["--steps", "1000000", "--force"], &["steps"]),
        (&["--guidance", "7"], &["guidance: is 7", "--force"]),
        (&["--guidance", "nan"], &["guidance: is NaN", "0 to 100"]),
        (&["--guidance", "inf"], &["guidance: is inf", "0 to 100"]),
        (&["--guidance=-1"], &["guidance: is -1", "0 to 100"]),
        (&["--guidance", "-1"], &["guidance: is -1", "0 to 100"]),
        (&["--eta", "-0.5", "--sampler", "ddim"], &["eta", "-0.5"]),
        (&["--shift", "-1"], &["shift"]),
        (&["--timesteps", "-1,5"], &["timesteps[0] is -1"]),
        (&["--eta", "nan"], &["eta", "NaN"]),
        (&["--eta", "2", "--sampler", "ddim"], &["eta", "2"]),
        (&["--shift", "nan"], &["shift"]),
        (&["--sigmas", "nan"], &["sigmas"]),
        (&["--sigmas", "nan,0"], &["sigmas", "NaN"]),
        (&["--sigmas", "1,inf,0"], &["sigmas", "inf"]),
        (&["--timesteps", "nan"], &["timesteps", "NaN"]),
        (&["--timesteps", "1e30"], &["timesteps"]),
        (&["--timesteps=-1"], &["timesteps"]),
        (&["--timesteps", "999,499", "--steps", "3"], &["steps: is 3", "2 timesteps"]),
        (&["--strength", "0.5"], &["strength", "--input"]),
        (&["--mask", "good.png"], &["mask: is given without an input picture", "--input"]),
        (&["--input", "good.png", "--strength", "0"], &["strength: is 0", "above 0"]),
        (&["--input", "good.png", "--strength", "1.5"], &["strength: is 1.5", "at most 1"]),
        (&["--input", "good.png", "--strength", "nan"], &["strength: is NaN"]),
        (&["--input", "good.png", "--strength", "0.1", "--steps", "2"], &["strength: 0.1 of 2 steps leaves none", "10 steps"]),
        (&["--sampler", "magic"], &["--sampler", "magic", "euler"]),
        (&["--sampler", "flow-euler"], &["sampler"]),
        (&["--spacing", "wide"], &["--spacing", "wide"]),
        (&["--rng", "dice"], &["--rng", "dice", "cpu"]),
        (&["--count", "1001"], &["count: is 1001", "at most 1000"]),
        (&["--output", "picture.gif"], &["picture.gif ends in .gif", ".png, .jpg or .webp"]),
        (&["--output", "picture"], &["picture has no extension", ".png"]),
        (&["--output", "missing/picture.png"], &["output folder missing is missing"]),
        (&["--output", "folder.png"], &["folder.png is a folder"]),
        (&["--preview", "-"], &["--preview", "expected a file"]),
        (&["--preview", "missing/now.png"], &["output folder missing is missing"]),
        (&["--preview", "now.gif"], &["now.gif ends in .gif"]),
        (&["--output", "-", "--count", "2"], &["--output -", "one picture"]),
        (&["--output", "-", "--json"], &["--json", "--output -"]),
        (&["--runtime", "nothing.so"], &["--runtime nothing.so", "is not there"]),
    ];
    let before = listing(path);
    for (more, parts) in turbo {
        println!("{more:?}");
        generate(path, "sd_turbo", more).refused(2, parts);
    }
    let others: &[(&str, &[&str], &[&str])] = &[
        ("sd", &["--steps", "1001"], &["steps: is 1001", "1 to 1000"]),
        ("sd_inpaint", &[], &["--input and --mask"]),
        ("sd_inpaint", &["--input", "good.png"], &["--mask"]),
        ("lcm", &["--steps", "9"], &["steps: is 9"]),
        ("pixart_lcm", &["--steps", "9"], &["steps: is 9"]),
        ("pixart_lcm", &["--guidance", "4"], &["guidance: is 4", "distilled"]),
        ("pixart_sigma", &["--steps", "1001"], &["steps: is 1001", "1 to 1000"]),
        ("pixart_sigma", &["--input", "good.png"], &["begins with no picture"]),
        ("pixart_sigma", &["--sampler", "scm", "--force"], &["`scm`", "`trigflow`"]),
        ("sana", &["--input", "good.png"], &["begins with no picture"]),
        ("sana", &["--size", "66x64"], &["multiples of 4"]),
        ("sana_sprint", &["--steps", "5"], &["steps: is 5", "1, 2, 3 or 4"]),
        ("sana_sprint", &["--input", "good.png", "--mask", "good.png"], &["paints no part"]),
        ("sana_sprint", &["--sampler", "euler", "--force"], &["`euler`", "trigflow"]),
        ("sana_sprint", &["--timesteps", "999,500"], &["timesteps[0] is 999", "angles"]),
        ("sana_sprint", &["--timesteps", "1.2,1.3"], &["timesteps[1] is 1.3", "less than"]),
        ("nothing", &[], &["nothing", "neither such a folder nor such a name"]),
        ("sd/unet", &[], &["there is no model_index.json"]),
    ];
    for (bundle, more, parts) in others {
        println!("{bundle} {more:?}");
        generate(path, bundle, more).refused(2, parts);
    }
    assert_eq!(listing(path), before, "nothing was written");
    println!("{} wishes", turbo.len() + others.len());
    assert_eq!(turbo.len() + others.len(), 63);
}

#[test]
fn what_the_arguments_themselves_do_not_allow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 22] = [
        (&["generate"], &["say what the picture shows"]),
        (&["generate", "a", "--output", ""], &["--output", "value"]),
        (&["generate", "a", "--size", "64"], &["--size", "512x768"]),
        (&["generate", "a", "--size", "64x"], &["--size", "512x768"]),
        (&["generate", "a", "--steps", "many"], &["--steps", "many"]),
        (&["generate", "a", "--seed=-1"], &["--seed", "-1"]),
        (&["generate", "a", "--seed", "-1"], &["--seed", "is `-1`, expected a whole number from 0 on"]),
        (&["generate", "a", "--steps", "-1"], &["--steps", "is `-1`, expected a whole number from 0 on"]),
        (&["generate", "a", "--frames", "-1"], &["--frames", "is `-1`, expected a whole number from 0 on"]),
        (&["generate", "a", "--count", "-1"], &["--count", "-1 is not in 1"]),
        (&["generate", "a", "--threads", "-1"], &["--threads", "-1 is not in 1..=1024"]),
        (&["generate", "a", "--fps", "-5"], &["--fps", "frames per second are `-5`, expected a number such as 24"]),
        (&["generate", "a", "--interpolate", "-1:2"], &["--interpolate", "is `-1:2`, expected two seeds"]),
        (&["bench", "a", "--steps", "-1"], &["--steps", "is `-1`, expected a whole number from 0 on"]),
        (&["generate", "a", "--seed", "18446744073709551616"], &["--seed"]),
        (&["generate", "a", "--memory", "some"], &["--memory", "low or normal"]),
        (&["generate", "a", "--threads", "0"], &["--threads", "1..=1024"]),
        (&["generate", "a", "--sigmas", "1", "--timesteps", "1"], &["--sigmas", "--timesteps"]),
        (&["generate", "a", "--colour", "red"], &["--colour"]),
        (&["paint", "a"], &["paint"]),
        (&["completions", "cmd"], &["cmd", "bash"]),
        (&["-v"], &["say what to do"]),
    ];
    for (arguments, parts) in cases {
        let ran = kiln(folder.path(), arguments).expect_code(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{arguments:?}: {} lacks {part:?}", ran.stderr);
        }
        assert!(ran.stdout.is_empty());
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_prompt_without_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    for (prompt, negative) in [("a".repeat(20_000), "b".to_owned()), ("a".to_owned(), "ü".repeat(20_000))] {
        let ran = kiln(folder.path(), &["generate", &prompt, "--negative", &negative, "--model", &model]);
        ran.refused(2, &["prompt has 20000 characters, expected at most 10000"]);
    }
    let empty = kiln(folder.path(), &["generate", "", "--seed", "1", "--model", &model]).expect_code(0);
    assert_eq!(empty.text(), "picture-1.png\n", "no words are a prompt too");
}

#[test]
fn a_picture_handed_in_is_hostile_until_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let picture = Picture::new(64, 64, 3, (0..64 * 64 * 3).map(|at| (at * 31 % 251) as u8).collect()).unwrap();
    let good = kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap();
    // A header of 100000 x 100000 pixels, with its checksum.
    let mut bomb = good.clone();
    bomb[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&100_000_u32.to_be_bytes());
    let sum = crc(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let files: [(&str, Vec<u8>, &str); 8] = [
        ("empty.png", Vec::new(), "is empty"),
        ("text.png", b"hello".to_vec(), "is no picture"),
        ("cut.png", good[..good.len() / 2].to_vec(), "is broken"),
        ("head.png", good[..20].to_vec(), "is broken"),
        ("flipped.png", flipped, "is broken"),
        ("bomb.png", bomb, "is too large"),
        ("gif.png", b"GIF89a\x01\x00\x01\x00\x00\x00\x00".to_vec(), "image/gif"),
        ("webp.png", b"RIFF\xff\xff\xff\xffWEBPVP8 ".to_vec(), "is broken"),
    ];
    fs::write(path.join("good.png"), &good).unwrap();
    for (name, bytes, part) in &files {
        fs::write(path.join(name), bytes).unwrap();
        // A GIF may be a clip, and a clip may be the input.
        let as_input = if *name == "gif.png" { "is broken" } else { part };
        generate(path, "sd", &["--input", name]).refused(2, &[name, as_input]);
        generate(path, "sd", &["--input", "good.png", "--mask", name]).refused(2, &[name, part]);
    }
    generate(path, "sd", &["--input", "missing.png"]).refused(2, &["missing.png is not readable"]);
    generate(path, "sd", &["--input", "."]).refused(2, &["folder . holds cut.png", "frames are named as 0001.png"]);
    assert_eq!(names(path).len(), files.len() + 1, "nothing was written");
    generate(path, "sd", &["--input", "good.png", "--steps", "2"]).expect_code(0);
}

/// The checksum of a PNG chunk (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

#[test]
fn a_folder_that_takes_no_files_is_refused_before_anything_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser writes where nobody may.
    if fs::write(locked.join("try"), "").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    generate(folder.path(), "sd", &["--output", "locked/a.png"]).refused(2, &["output folder locked takes no files"]);
}
