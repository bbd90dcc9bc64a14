//! A guard for the hot paths: how many instructions they take, as valgrind's callgrind counts them, beside
//! how many they are expected to take. Owns the counting and the verdict; `paths` owns what is counted.
//!
//! | command | does |
//! | --- | --- |
//! | `cargo bench --profile guard --bench instructions` | counts, compares with `expected.toml`, fails where a path got dearer |
//! | the same with `-- --write` | counts and writes `expected.toml` anew: after a wanted change |
//!
//! Instructions are no time: a cache miss costs more than a hundred of them. But they are the same on a busy
//! machine and on an idle one, so that one more allocation shows. Invariant: what is counted does not depend
//! on the time, on addresses, on the environment or on where temporary files are; `docs/PERFORMANCE.md` says
//! how.

// Every line here belongs to a measurement, where to unwrap is to stop with a reason.
#![allow(clippy::unwrap_used)]

mod paths;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, ExitCode};

use toml_edit::DocumentMut;

use paths::{PATHS, Path};

/// As in the program.
/// A path that takes so many per cent more fails. Two runs of one program differ by one per mille. An allocation
/// with its release is a hundred instructions.
const DEARER: u64 = 2;

/// One that takes so many per cent less asks for a lower limit, or it would guard nothing.
const CHEAPER: u64 = 5;

/// The word that makes this program do one path.
const COUNT: &str = "count";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [COUNT, name, part] => {
            paths::walk(name, part.parse().unwrap());
            ExitCode::SUCCESS
        }
        ["--write"] => write(&count_all()),
        [] => compare(&count_all()),
        _ => {
            eprintln!("nothing, or --write");
            ExitCode::from(2)
        }
    }
}

// --- the verdict ---

fn compare(counted: &[(&Path, u64)]) -> ExitCode {
    let expected = Expected::read();
    println!("\n{:<14} {:>12} {:>12} {:>8}", "instructions", "expected", "counted", "");
    let (mut dearer, mut cheaper) = (Vec::new(), false);
    for (path, count) in counted {
        let Some(&limit) = expected.counts.get(path.name) else {
            println!("{:<14} {:>12} {count:>12}", path.name, "none");
            dearer.push(path.name);
            continue;
        };
        let verdict = if count * 100 > limit * (100 + DEARER) {
            dearer.push(path.name);
            "DEARER"
        } else if count * 100 < limit * (100 - CHEAPER) {
            cheaper = true;
            "cheaper: lower the limit"
        } else {
            "ok"
        };
        #[allow(clippy::cast_precision_loss)]
        let change = *count as f64 * 100.0 / limit as f64 - 100.0;
        println!(
            "{:<14} {limit:>12} {count:>12} {change:>+7.1} %  {verdict:<8}  {}",
            path.name, path.about
        );
    }
    if cheaper {
        println!(
            "\nWhat got cheaper stays so only if the limit follows: run this with `-- --write`."
        );
    }
    if dearer.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "\nmore than {DEARER} % dearer than benches/instructions/expected.toml says: {}",
        dearer.join(", ")
    );
    for name in &dearer {
        eprintln!("  where they go: callgrind_annotate {}", out_file(name, 0).display());
    }
    eprintln!("  if that is wanted: cargo bench --profile guard --bench instructions -- --write");
    let here = here();
    if here != expected.of {
        eprintln!("  expected by: {}\n  counted by:  {here}; that may be the reason", expected.of);
    }
    ExitCode::FAILURE
}

fn write(counted: &[(&Path, u64)]) -> ExitCode {
    let mut text = format!(
        "# What the hot paths take, in instructions; `cargo bench --profile guard --bench instructions` fails\n\
         # where one takes {DEARER} % more. Written by the same with `-- --write`; docs/PERFORMANCE.md tells more.\n\n\
         # By which compiler, on what kind of processor.\n\
         of = \"{}\"\n\n[instructions]\n",
        here()
    );
    for (path, count) in counted {
        writeln!(text, "# {}\n{} = {}", path.about, path.name, grouped(*count)).unwrap();
    }
    fs::write(expected_file(), &text).unwrap();
    print!("{text}");
    ExitCode::SUCCESS
}

/// What was counted when the limits were written.
struct Expected {
    of: String,
    counts: BTreeMap<String, u64>,
}

impl Expected {
    fn read() -> Expected {
        let text = fs::read_to_string(expected_file()).unwrap_or_default();
        let document: DocumentMut = text.parse().unwrap();
        let of = document.get("of").and_then(|of| of.as_str()).unwrap_or_default().to_owned();
        let counts = document.get("instructions").and_then(|counts| counts.as_table());
        let counts = counts.into_iter().flatten().map(|(name, count)| {
            (name.to_owned(), u64::try_from(count.as_integer().unwrap()).unwrap())
        });
        Expected { of, counts: counts.collect() }
    }
}

fn expected_file() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/expected.toml")
}

/// What counts depend on besides the code: libraries choose their loops by what the processor can do.
fn here() -> String {
    let compiler = Command::new("rustc").arg("--version").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    #[cfg(target_arch = "x86_64")]
    let simd = if is_x86_feature_detected!("avx2") { " with avx2" } else { " without avx2" };
    #[cfg(not(target_arch = "x86_64"))]
    let simd = "";
    format!("{}, {}{simd}", compiler.trim(), std::env::consts::ARCH)
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

// --- the counting ---

fn count_all() -> Vec<(&'static Path, u64)> {
    fs::create_dir_all(out_file("", 0).parent().unwrap()).unwrap();
    PATHS.iter().map(|path| (path, count(path))).collect()
}

/// Instructions of one unit of a path.
fn count(path: &Path) -> u64 {
    let whole = run(path, path.units);
    // What it takes to get there is no unit's own.
    let rest = if path.has_start { run(path, 0) } else { 0 };
    (whole - rest) / path.units
}

/// Has callgrind count `paths::counted` in a process of this program.
fn run(path: &Path, units: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let out = out_file(path.name, path.units - units);
    let _ = fs::remove_file(&out);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*paths::counted*", "--error-exitcode=9"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args([COUNT, path.name, &units.to_string()])
        // Neither its length nor that of the folder's name is to matter.
        .env_clear()
        .current_dir(folder.path())
        .output()
        .unwrap_or_else(|error| panic!("valgrind counts, and does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.name);
    let text = fs::read_to_string(&out).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.unwrap_or_else(|| panic!("no totals: {said}")).trim().parse().unwrap();
    assert!(total > 0, "{}: nothing was counted; has `counted` lost its name?", path.name);
    total
}

fn out_file(name: &str, at: u64) -> PathBuf {
    let suffix = if at == 0 { "" } else { "-start" };
    FilePath::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions/{name}{suffix}.out"))
}
