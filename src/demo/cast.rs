//! Who calls, and for what: the team and its operations. Facts only; what becomes of them is decided
//! elsewhere.

use super::models::{
    AZURE_GPT_4O, AZURE_GPT_5_MINI, CLAUDE_HAIKU, CLAUDE_OPUS, CLAUDE_SONNET, DEEPSEEK, EMBEDDING,
    GEMINI_AUDIO, GEMINI_FLASH, GPT_4O_MINI, GPT_5_4, GPT_5_4_FLEX, GPT_5_4_MINI, GPT_AUDIO_MINI,
    KIMI, LLAMA_FREE, Model, NOMIC, QWEN, TTS, TUNED,
};

/// Parts of the company, with how many of its people belong to each.
pub(super) const TEAMS: [(u64, &str); 8] = [
    (24, "support"),
    (18, "engineering"),
    (16, "learning"),
    (14, "sales"),
    (10, "data"),
    (8, "marketing"),
    (6, "legal"),
    (4, "product"),
];

/// On whose behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Somebody's of one of these teams.
    People(&'static [&'static str]),
    Service(&'static str),
    /// The caller does not say.
    Nobody,
}

/// What calls are made for.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) whose: Whose,
    pub(super) models: &'static [(u64, &'static Model)],
    /// Calls in a session, from and to.
    pub(super) calls: (u64, u64),
    /// Whether the caller says that they belong together.
    pub(super) has_session: bool,
    /// Whether the caller numbers its attempts.
    pub(super) numbers_attempts: bool,
    /// Median seconds between an answer and the next call.
    pub(super) pause_s: f64,
    /// Tokens that every prompt begins with.
    pub(super) system: u64,
    /// Median tokens that a call adds to its session.
    pub(super) prompt: f64,
    pub(super) output: f64,
    /// How many of 100,000 answers are streamed.
    pub(super) streamed: u32,
    /// A key of the metadata besides the team, and what it can be.
    pub(super) about: Option<(&'static str, &'static [&'static str])>,
}

const SUBJECTS: &[&str] =
    &["maths", "physics", "history", "biology", "chemistry", "english", "german", "music"];
const REPOSITORIES: &[&str] = &["checkout", "ledger", "mobile", "platform", "search", "website"];
const LANGUAGES: &[&str] = &["de", "en", "es", "fr", "it", "ja", "pl", "pt"];
const COLLECTIONS: &[&str] = &["contracts", "handbook", "tickets", "wiki"];

const PERSON: Operation = Operation {
    name: "tutor_chat",
    whose: Whose::People(&["learning"]),
    models: &[(84, &GPT_5_4_MINI), (16, &CLAUDE_HAIKU)],
    calls: (4, 20),
    has_session: true,
    numbers_attempts: true,
    pause_s: 38.0,
    system: 620,
    prompt: 60.0,
    output: 260.0,
    streamed: 93_000,
    about: Some(("subject", SUBJECTS)),
};

const JOB: Operation = Operation {
    name: "embed_documents",
    whose: Whose::Service("svc-indexer"),
    models: &[(88, &EMBEDDING), (12, &NOMIC)],
    calls: (4, 20),
    has_session: false,
    numbers_attempts: false,
    pause_s: 0.2,
    system: 0,
    prompt: 3200.0,
    output: 0.0,
    streamed: 0,
    about: Some(("collection", COLLECTIONS)),
};

/// What people do, by the number of sessions.
pub(super) static PEOPLE: [(u64, &Operation); 9] = [
    (14, &PERSON),
    (
        24,
        &Operation {
            name: "support_reply",
            whose: Whose::People(&["support"]),
            models: &[(78, &CLAUDE_SONNET), (22, &CLAUDE_HAIKU)],
            calls: (1, 6),
            numbers_attempts: false,
            pause_s: 55.0,
            system: 2350,
            prompt: 420.0,
            output: 210.0,
            streamed: 70_000,
            about: None,
            ..PERSON
        },
    ),
    (
        20,
        &Operation {
            name: "rag_answer",
            whose: Whose::People(&["support", "sales", "legal", "product"]),
            models: &[(86, &AZURE_GPT_5_MINI), (14, &GPT_4O_MINI)],
            calls: (1, 4),
            pause_s: 45.0,
            system: 380,
            prompt: 3800.0,
            output: 330.0,
            streamed: 82_000,
            about: Some(("collection", COLLECTIONS)),
            ..PERSON
        },
    ),
    (
        7,
        &Operation {
            name: "code_agent",
            whose: Whose::People(&["engineering"]),
            models: &[(70, &CLAUDE_OPUS), (30, &CLAUDE_SONNET)],
            calls: (8, 20),
            pause_s: 3.0,
            system: 14_200,
            prompt: 1500.0,
            output: 420.0,
            streamed: 99_000,
            about: Some(("repository", REPOSITORIES)),
            ..PERSON
        },
    ),
    (
        8,
        &Operation {
            name: "code_review",
            whose: Whose::People(&["engineering", "data"]),
            models: &[(74, &GPT_5_4), (26, &KIMI)],
            calls: (1, 5),
            pause_s: 20.0,
            system: 900,
            prompt: 5200.0,
            output: 640.0,
            streamed: 25_000,
            about: Some(("repository", REPOSITORIES)),
            ..PERSON
        },
    ),
    (
        16,
        &Operation {
            name: "summarize",
            whose: Whose::People(&["sales", "legal", "marketing", "product", "data"]),
            models: &[(90, &GEMINI_FLASH), (10, &LLAMA_FREE)],
            calls: (1, 2),
            numbers_attempts: false,
            pause_s: 30.0,
            system: 140,
            prompt: 6800.0,
            output: 380.0,
            streamed: 35_000,
            about: None,
            ..PERSON
        },
    ),
    (
        15,
        &Operation {
            name: "translate",
            whose: Whose::People(&["marketing", "support", "legal"]),
            models: &[(72, &DEEPSEEK), (28, &AZURE_GPT_4O)],
            calls: (1, 4),
            has_session: false,
            numbers_attempts: false,
            pause_s: 25.0,
            system: 110,
            prompt: 520.0,
            output: 540.0,
            streamed: 40_000,
            about: Some(("language", LANGUAGES)),
        },
    ),
    (
        5,
        &Operation {
            name: "research",
            whose: Whose::People(&["product", "data", "marketing"]),
            models: &[(60, &GPT_5_4), (40, &KIMI)],
            calls: (3, 12),
            pause_s: 9.0,
            system: 1800,
            prompt: 2400.0,
            output: 900.0,
            streamed: 88_000,
            about: None,
            ..PERSON
        },
    ),
    (
        5,
        &Operation {
            name: "voice_note",
            whose: Whose::People(&["sales", "learning"]),
            models: &[(55, &GPT_AUDIO_MINI), (25, &GEMINI_AUDIO), (20, &TTS)],
            calls: (1, 4),
            numbers_attempts: false,
            pause_s: 40.0,
            system: 90,
            prompt: 280.0,
            output: 190.0,
            streamed: 30_000,
            about: Some(("language", LANGUAGES)),
            ..PERSON
        },
    ),
];

/// What runs by itself.
pub(super) static JOBS: [(u64, &Operation); 3] = [
    (52, &JOB),
    (
        36,
        &Operation {
            name: "classify_ticket",
            whose: Whose::Nobody,
            models: &[(62, &QWEN), (30, &GPT_4O_MINI), (8, &TUNED)],
            pause_s: 1.5,
            system: 430,
            prompt: 190.0,
            output: 9.0,
            about: None,
            ..JOB
        },
    ),
    (
        12,
        &Operation {
            name: "nightly_eval",
            whose: Whose::Service("svc-eval"),
            models: &[(90, &GPT_5_4_FLEX), (10, &CLAUDE_SONNET)],
            calls: (10, 20),
            has_session: true,
            numbers_attempts: true,
            pause_s: 0.8,
            system: 1100,
            prompt: 1300.0,
            output: 120.0,
            about: Some(("suite", &["accuracy", "refusals", "style"])),
            ..JOB
        },
    ),
];

const FIRST_NAMES: [&str; 48] = [
    "ada", "alan", "amira", "anna", "ben", "carla", "chidi", "clara", "david", "dina", "elif",
    "emil", "emma", "fatima", "felix", "greta", "hana", "henri", "ines", "ivan", "jana", "jonas",
    "julia", "kai", "kofi", "lea", "leon", "lina", "luca", "maria", "mateo", "mia", "milan",
    "nadia", "noah", "nora", "olga", "omar", "paul", "priya", "rosa", "sam", "sofia", "tariq",
    "tom", "vera", "yuki", "zoe",
];

const LAST_NAMES: [&str; 64] = [
    "abbott", "adler", "arslan", "bauer", "becker", "bianchi", "brandt", "chen", "costa", "cruz",
    "dahl", "diaz", "dubois", "eklund", "evans", "farah", "fischer", "fuchs", "garcia", "gomez",
    "gruber", "haas", "hansen", "hoffmann", "ivanova", "jansen", "jones", "kaya", "keller", "khan",
    "kim", "koch", "kowalski", "kumar", "lang", "larsen", "lopez", "maier", "martin", "mensah",
    "meyer", "moreau", "nguyen", "novak", "okafor", "olsen", "park", "patel", "pereira", "quinn",
    "rossi", "roth", "santos", "sato", "schmidt", "silva", "singh", "tanaka", "toth", "vogel",
    "wagner", "weber", "wong", "zimmer",
];

/// The name of the user with this number; no two have the same.
pub(super) fn user(number: usize) -> String {
    let (firsts, lasts) = (FIRST_NAMES.len(), LAST_NAMES.len());
    let round = number / firsts;
    // 48 + 1 is prime to 64, so that the names come round only after all pairs.
    let first = FIRST_NAMES[number % firsts];
    let last = LAST_NAMES[(round + number) % lasts];
    match number / (firsts * lasts) {
        0 => format!("{first}.{last}@northwind.example"),
        again => format!("{first}.{last}{}@northwind.example", again + 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_users_have_the_same_name() {
        let names: HashSet<String> = (0..10_000).map(user).collect();
        assert_eq!(names.len(), 10_000);
    }

    #[test]
    fn every_team_that_works_is_one_of_the_company() {
        for (_, operation) in PEOPLE {
            let Whose::People(teams) = operation.whose else { panic!("{}", operation.name) };
            for team in teams {
                assert!(TEAMS.iter().any(|(_, known)| known == team), "{team}");
            }
        }
    }
}
