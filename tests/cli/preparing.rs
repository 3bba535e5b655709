//! `kiln prepare`: the same pictures, opened otherwise; what does not fit or was changed is left aside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln::output::Picture;

use super::common::{Ran, command, copy_of, run};
use super::model;

/// What is done to the folder of a prepared network, in a few words, and how.
type Case = (&'static str, fn(&Path));

/// A folder with a cache of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(command(self.folder.path()).args(arguments).env("XDG_CACHE_HOME", self.cache()))
    }

    /// Makes a picture; whether what was prepared was used, and the picture.
    fn made(&self, model: &str) -> (bool, Picture, String) {
        let ran = self.run(&[
            "generate",
            "a red apple",
            "--model",
            model,
            "--seed",
            "5",
            "--steps",
            "2",
            "--force",
            "-v",
            "-o",
            "a.png",
        ]);
        let ran = ran.expect_code(0);
        let picture = Picture::open(&self.folder.path().join("a.png")).unwrap();
        fs::remove_file(self.folder.path().join("a.png")).unwrap();
        (ran.stderr.contains("as prepared in"), picture, ran.stderr)
    }

    /// The folders of prepared networks.
    fn prepared(&self) -> Vec<PathBuf> {
        let folders =
            |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        let mut found: Vec<PathBuf> =
            folders(&self.cache().join("kiln/prepared")).iter().flat_map(|bundle| folders(bundle)).collect();
        found.sort();
        found
    }

    fn manifest(&self, role: &str) -> PathBuf {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{role}-"));
        self.prepared().into_iter().find(name).unwrap().join("manifest.json")
    }
}

#[test]
fn pictures_stay_the_same_and_what_is_prepared_is_used() {
    let mut ran = 0;
    for name in ["sd", "sdxl", "sd_fp16", "sd_external", "lcm", "sd3", "flux_dev", "pixart_sigma", "sana", "sana_sprint"] {
        let place = Place::new();
        let (used, before, _) = place.made(&model(name));
        assert!(!used, "{name}");
        let told = place.run(&["prepare", &model(name)]).expect_code(0);
        assert!(told.text().contains("in all") && told.text().contains("kept in"), "{}", told.text());
        let (used, after, log) = place.made(&model(name));
        assert!(used && !log.contains("does not open"), "{name}: {log}");
        assert!(before.pixels == after.pixels, "{name}: another picture");
        assert!(place.run(&["prepare", &model(name)]).expect_code(0).text().contains("was prepared already"));
        place.run(&["prepare", "--check"]).expect_code(0);
        ran += 1;
    }
    assert_eq!(ran, 10);
}

#[test]
fn what_was_changed_is_left_aside_and_made_anew() {
    let cases: [Case; 12] = [
        ("no manifest", |folder| fs::remove_file(folder.join("manifest.json")).unwrap()),
        ("manifest is text", |folder| fs::write(folder.join("manifest.json"), "hello").unwrap()),
        ("manifest is a list", |folder| fs::write(folder.join("manifest.json"), "[]").unwrap()),
        ("manifest without end", |folder| fs::write(folder.join("manifest.json"), vec![b' '; 2 << 20]).unwrap()),
        ("manifest of a later layout", |folder| edit(folder, "\"schema\": 1", "\"schema\": 2")),
        ("manifest that climbs", |folder| edit(folder, "\"weights.bin\"", "\"../weights.bin\"")),
        ("manifest of another runtime", |folder| edit(folder, "\"runtime\": \"", "\"runtime\": \"0.1 ")),
        ("network cut off", |folder| cut(&folder.join("model.onnx"))),
        ("weights cut off", |folder| cut(&folder.join("weights.bin"))),
        ("weights gone", |folder| fs::remove_file(folder.join("weights.bin")).unwrap()),
        ("weights changed", |folder| {
            let length = fs::metadata(folder.join("weights.bin")).unwrap().len();
            fs::write(folder.join("weights.bin"), vec![7; usize::try_from(length).unwrap()]).unwrap();
        }),
        ("a file in place of the folder", |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::write(folder, "hello").unwrap();
        }),
    ];
    let place = Place::new();
    let (_, whole, _) = place.made(&model("sd"));
    let count = cases.len();
    for (name, spoil) in cases {
        place.run(&["prepare", &model("sd"), "--again"]).expect_code(0);
        let folder = place.manifest("unet").parent().unwrap().to_path_buf();
        spoil(&folder);
        let (_, picture, log) = place.made(&model("sd"));
        assert!(picture.pixels == whole.pixels, "{name}: another picture");
        assert!(log.contains("unet: what was prepared is left aside"), "{name}: {log}");
        // Of a sound folder under another's name only the runtime at work can tell.
        if folder.is_dir() && name != "manifest of another runtime" {
            place.run(&["prepare", "--check"]).expect_code(1);
        }
        place.run(&["prepare", &model("sd")]).expect_code(0);
        let (used, picture, log) = place.made(&model("sd"));
        assert!(used && !log.contains("left aside") && picture.pixels == whole.pixels, "{name}: {log}");
    }
    assert_eq!(count, 12);
}

#[test]
fn a_changed_model_is_prepared_anew_and_the_old_one_goes() {
    let place = Place::new();
    let (_kept, bundle) = copy_of("gan");
    let model = bundle.display().to_string();
    let generate = ["generate", "--model", &model, "--seed", "1", "-v", "-o", "b.png"];
    place.run(&["prepare", &model]).expect_code(0);
    let before = place.prepared();
    assert!(place.run(&generate).expect_code(0).stderr.contains("as prepared in"));
    let network = bundle.join("synthesis/model.onnx");
    let bytes = fs::read(&network).unwrap();
    fs::write(&network, bytes).unwrap();
    let told = place.run(&generate).expect_code(0).stderr;
    assert!(told.contains("synthesis: was prepared for another file"), "{told}");
    place.run(&["prepare", &model]).expect_code(0);
    let after = place.prepared();
    assert_eq!((before.len(), after.len()), (2, 2));
    assert_ne!(before, after);
}

#[test]
fn what_is_prepared_is_listed_and_cleared() {
    let place = Place::new();
    assert!(place.run(&["prepare", "--list"]).expect_code(0).text().contains("nothing is prepared"));
    place.run(&["prepare", &model("vae"), "--json"]).expect_code(0);
    assert_eq!(place.run(&["prepare", "--list"]).expect_code(0).text().lines().count(), 2);
    assert!(place.run(&["prepare", "--clear"]).expect_code(0).text().contains("removed"));
    assert!(place.prepared().is_empty());
    assert!(place.run(&["prepare"]).expect_code(2).stderr.contains("MODEL"));
    place.run(&["prepare", &model("vae"), "--provider", "cuda"]).refused(2, &["cuda is not in ONNX Runtime"]);
}

#[test]
fn a_cache_that_takes_no_files_is_told_and_loses_nothing() {
    let place = Place::new();
    fs::create_dir_all(place.cache().join("kiln")).unwrap();
    fs::write(place.cache().join("kiln/prepared"), "a file").unwrap();
    place.run(&["prepare", &model("vae")]).refused(1, &["kiln/prepared", "cannot be made"]);
    assert!(!place.made(&model("sd")).0);
    fs::remove_file(place.cache().join("kiln/prepared")).unwrap();
    place.run(&["prepare", &model("vae")]).expect_code(0);
    let bundle = place.manifest("decoder").ancestors().nth(2).unwrap().to_path_buf();
    fs::set_permissions(&bundle, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere.
    if fs::write(bundle.join("probe"), "").is_err() {
        place.run(&["prepare", &model("vae"), "--again"]).refused(1, &["takes no files"]);
        place.run(&["prepare", "--check"]).expect_code(0);
    }
    fs::set_permissions(&bundle, fs::Permissions::from_mode(0o755)).unwrap();
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn every_network_of_a_clip_is_prepared_with_what_it_remembers_and_gives_the_same_clip() {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clips/input.png");
    let mut ran = 0;
    for (name, roles, more) in [("wan", 4, &[][..]), ("wan_i2v", 7, &["--input", input.to_str().unwrap()])] {
        let place = Place::new();
        let model = model(name);
        let film = |output: &str| {
            let asked = ["generate", "a sun", "--model", &model, "--size", "32x32", "--frames", "9", "--steps", "2", "--force"];
            let ran = place.run(&[&asked[..], &["--seed", "5", "-v", "-o", output], more].concat()).expect_code(0);
            ran.stderr.matches(": as prepared in").count()
        };
        assert_eq!(film("before.y4m"), 0, "{name}");
        place.run(&["prepare", &model, "--size", "32x32"]).expect_code(0);
        assert_eq!((place.prepared().len(), film("after.y4m")), (roles, roles), "{name}");
        let bytes = |name: &str| fs::read(place.folder.path().join(name)).unwrap();
        assert!(bytes("before.y4m") == bytes("after.y4m"), "{name}");
        ran += 1;
    }
    assert_eq!(ran, 2);
}
