//! What `deploy/` hands to other programs, judged by those: systemd's unit, Prometheus' configuration and rules.

use std::fs;
use std::process::Command;

use crate::prometheus::{repository, run};

/// The most that `systemd-analyze security` may find exposed, of 10.
const EXPOSURE: f64 = 1.5;

#[test]
fn systemd_takes_the_unit_and_finds_little_exposed() {
    let directory = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(repository().join("deploy/tokenmeter.service")).unwrap();
    // Where the program is installed there, it is built here.
    let unit = unit.replace("/usr/local/bin/tokenmeter", env!("CARGO_BIN_EXE_tokenmeter"));
    let file = directory.path().join("tokenmeter.service");
    fs::write(&file, unit).unwrap();
    let analyze = |arguments: &[&str]| {
        let output =
            Command::new("systemd-analyze").args(arguments).arg(&file).output().expect("systemd");
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    // What it does not know it says, and is content.
    let said = analyze(&["verify", "--man=no"]);
    assert!(!said.contains("tokenmeter.service"), "{said}");
    let said = analyze(&["security", "--offline=true", "--no-pager"]);
    let (_, level) = said.split_once("exposure level for tokenmeter.service: ").unwrap();
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE, "{said}");
}

#[test]
fn prometheus_takes_its_configuration_and_the_alerts_fire_when_they_should() {
    let rules = repository().join("config/prometheus");
    run("promtool", &["check", "rules", rules.join("alerts.yml").to_str().unwrap()], "");
    run("promtool", &["test", "rules", rules.join("alerts_test.yml").to_str().unwrap()], "");
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("admin-token");
    fs::write(&secret, "0123456789abcdef").unwrap();
    let own = fs::read_to_string(repository().join("deploy/compose/prometheus.yml")).unwrap();
    let own = own.replace("/run/secrets/admin-token", secret.to_str().unwrap());
    let file = directory.path().join("prometheus.yml");
    fs::write(&file, own).unwrap();
    fs::copy(rules.join("alerts.yml"), directory.path().join("alerts.yml")).unwrap();
    run("promtool", &["check", "config", file.to_str().unwrap()], "");
}
