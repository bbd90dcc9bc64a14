//! The commented example file, written from the table of keys so that neither can lack what the other
//! has. Owns its layout and its words between the keys.

use std::fmt::Write;

use super::keys::{GLOBAL, Key, Kind, UPSTREAM};
use super::known::{Address, KNOWN};

const HEAD: &str = "\
# The configuration of tokenmeter: every key, commented out, at its default or, where there is none,
# with an example. Read from --config FILE, else from the file that TOKENMETER_CONFIG names, else from
# tokenmeter.toml in the working directory, which may be absent. `tokenmeter check` tells what is wrong.
#
# A flag goes before an environment variable, that before this file, and this file before the default.
# Each key has a variable: TOKENMETER_ and its name in capitals, with _ for the dot; tags.user is
# TOKENMETER_TAGS_USER, a list with commas. An empty variable counts as not set.
#
# Relative paths start from the working directory. Durations: \"250ms\", \"5s\", \"10m\", \"1h\". Sizes: a
# number of bytes, or \"64KiB\", \"64MiB\".
";

const UPSTREAMS: &str = "
# Where calls go. The first segment of a request's path names the upstream; base_url and the rest of
# the path are where the call goes: /openrouter/api/v1/models to https://openrouter.ai/api/v1/models.
# These names need no section:
#
";

const GIVEN: &str = "\
#
# and these must be given their base_url, since each customer or region has a host:
#
";

const OWN: &str = "\
#
# Any other name works with a base_url: lower-case letters, digits, - and _. A base_url has no /v1 at
# its end unless the clients leave it out. In the environment: TOKENMETER_UPSTREAMS_AZURE_BASE_URL.

#[upstreams.azure]
";

/// The text of `config/tokenmeter.toml`. A setting is commented out with `#` alone, words with `# `.
pub fn text() -> String {
    let mut out = HEAD.to_owned();
    keys(&mut out, GLOBAL, "");
    out.push_str(UPSTREAMS);
    addresses(&mut out, |address| matches!(address, Address::BuiltIn(_)));
    out.push_str(GIVEN);
    addresses(&mut out, |address| matches!(address, Address::Given(_)));
    out.push_str(OWN);
    keys(&mut out, UPSTREAM, "upstreams.azure.");
    out
}

fn keys(out: &mut String, list: &[Key], owner: &str) {
    let mut open = "";
    for key in list {
        let (section, leaf) = key.section_and_leaf();
        // A map is a section of its own, which its sample opens.
        if section != open && key.kind != Kind::Map {
            line(out, &format!("\n#[{owner}{section}]"));
            open = section;
        }
        line(out, "");
        for words in key.about.lines() {
            line(out, &format!("# {words}"));
        }
        match key.kind {
            Kind::Map => line(out, &format!("#[{owner}{}]\n#{}", key.name, key.sample())),
            Kind::Secret => line(
                out,
                &format!(
                    "# Only in the environment: {0}, or {0}_FILE, which names a file",
                    key.env_name()
                ),
            ),
            kind => line(out, &format!("#{leaf} = {}", kind.to_toml(key.sample()))),
        }
    }
}

fn addresses(out: &mut String, wanted: impl Fn(Address) -> bool) {
    for known in KNOWN.iter().filter(|known| wanted(known.address)) {
        let (Address::BuiltIn(url) | Address::Given(url)) = known.address;
        line(out, &format!("#   {:<12} {url}", known.name));
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes all");
}
