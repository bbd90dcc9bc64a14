//! A session: who has it, which model answers, how its prompts grow, when the next call comes. Owns
//! what calls of one session have in common; knows nothing of how one call ends.
//!
//! Invariant: a session's calls come one after another, all before the window ends.

use serde_json::{Map, Value};

use super::cast::{Operation, TEAMS, Whose, user};
use super::models::{Dialect, Hears, Model};
use super::random::{Dice, millis, real, whole};
use crate::usage::Usage;

/// Calls of people who do not say who they are, of 100,000.
const ANONYMOUS: u32 = 3_000;

/// Calls that carry no metadata, of 100,000.
const WITHOUT_METADATA: u32 = 6_000;

/// Answers that are not good enough, so that the same is tried again, of 100,000.
const TRIED_AGAIN: u32 = 12_000;

/// Calls of a session that another of the operation's models answers, of 100,000.
const OTHER_MODEL: u32 = 6_000;

/// No prompt is longer: clients cut their history.
const LONGEST_PROMPT: u64 = 190_000;

/// What share of the people were there when the window begins.
const FIRST_HIRES: f64 = 0.4;

/// Who is in which team is the same for every seed: it is always the same company.
const COMPANY: u64 = 0x6e6f_7274_6877_696e;

/// Everybody who can call.
#[derive(Debug)]
pub(super) struct Staff {
    names: Vec<String>,
    /// The numbers of each team's people, the busiest first.
    teams: Vec<Vec<usize>>,
}

/// What is decided of a session before it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) operation: &'static Operation,
    pub(super) calls: u64,
}

/// A session that has calls left.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) operation: &'static Operation,
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) metadata: Option<Map<String, Value>>,
    pub(super) model: &'static Model,
    pub(super) attempt: u32,
    /// How often the last call has failed.
    pub(super) retry: u32,
    left: u64,
    pause_s: f64,
    until: i64,
    /// What has been said, in tokens.
    history: u64,
    /// The length of the last prompt that was answered, which the provider may have in its cache.
    cached: u64,
}

impl Staff {
    /// So many people at least, but not none.
    pub(super) fn of_company(users: usize) -> Staff {
        let (users, dice) = (users.max(1), &mut Dice::new(COMPANY, 0));
        let names: Vec<String> = (0..users).map(user).collect();
        let mut teams = vec![Vec::new(); TEAMS.len()];
        let shares: [(u64, usize); TEAMS.len()] = std::array::from_fn(|team| (TEAMS[team].0, team));
        for number in 0..users {
            // The first have one each, so that none is empty if it can be helped.
            let team = if number < TEAMS.len() { number } else { *dice.weighted(&shares) };
            teams[team].push(number);
        }
        Staff { names, teams }
    }

    /// One of a team, some much more often than others; new ones come as time goes by.
    fn one_of(&self, team: usize, progress: f64, dice: &mut Dice) -> &str {
        let people = Some(&self.teams[team]).filter(|people| !people.is_empty());
        let Some(people) = people.or_else(|| self.teams.first()) else { return "" };
        let there = real(people.len() as u64) * (FIRST_HIRES + (1.0 - FIRST_HIRES) * progress);
        // Zipf's law with an exponent of 0.8, by the inverse of its integral.
        let longest = (there.max(1.0) + 1.0).powf(0.2);
        let rank = whole((1.0 + dice.share() * (longest - 1.0)).powi(5) - 1.5);
        let at = usize::try_from(rank).unwrap_or_default().min(people.len() - 1);
        &self.names[people[at]]
    }
}

impl Plan {
    pub(super) fn draw(among: &[(u64, &'static Operation)], dice: &mut Dice) -> Plan {
        let operation = *dice.weighted(among);
        let (from, to) = operation.calls;
        // Short ones are more frequent: the lesser of two.
        let calls = dice.below(to - from + 1).min(dice.below(to - from + 1));
        Plan { operation, calls: from + calls }
    }
}

impl Session {
    /// Begins a session at a moment before `until`; `progress` says how much of the window is over.
    pub(super) fn begin(
        plan: Plan,
        staff: &Staff,
        [at, until]: [i64; 2],
        progress: f64,
        dice: &mut Dice,
    ) -> Session {
        let operation = plan.operation;
        let team = match operation.whose {
            Whose::People(teams) => {
                let team = teams[dice.index(teams.len())];
                TEAMS.iter().position(|(_, known)| *known == team)
            }
            Whose::Service(_) | Whose::Nobody => None,
        };
        let user = match (operation.whose, team) {
            (Whose::Service(name), _) => Some(name.to_owned()),
            (_, Some(team)) if !dice.chance(ANONYMOUS) => {
                Some(staff.one_of(team, progress, dice).to_owned())
            }
            _ => None,
        };
        let has_metadata = !dice.chance(WITHOUT_METADATA);
        // What is begun late is done in haste.
        let most = real(until.abs_diff(at)) / 1000.0 / real(2 * plan.calls);
        Session {
            operation,
            name: operation.has_session.then(|| dice.uuid()),
            user,
            metadata: has_metadata.then(|| metadata(operation, team, dice)).flatten(),
            model: dice.weighted::<&'static Model>(operation.models),
            attempt: 1,
            retry: 0,
            left: plan.calls,
            pause_s: operation.pause_s.min(most),
            until,
            history: 0,
            cached: 0,
        }
    }

    /// What the next call uses if all goes well, in its provider's classes.
    pub(super) fn next_usage(&mut self, dice: &mut Dice) -> Usage {
        let operation = self.operation;
        if self.retry == 0 && dice.chance(OTHER_MODEL) {
            let other = *dice.weighted(operation.models);
            if other.requested != self.model.requested {
                self.cached = 0;
            }
            self.model = other;
        }
        let fresh = dice.count(operation.prompt, 0.7);
        let input = (operation.system + self.history + fresh).min(LONGEST_PROMPT);
        let media = match self.model.hears {
            // Ten tokens or more a second of speech.
            Hears::Audio => dice.count(260.0, 0.7),
            Hears::Images if dice.chance(12_000) => 258 * (1 + dice.below(4)),
            Hears::Text | Hears::Images => 0,
        };
        let said = dice.count(operation.output, 0.8);
        let thought = if self.model.reasoning > 0.0 && !dice.chance(15_000) {
            dice.count(self.model.reasoning, 0.9)
        } else {
            0
        };
        let cached = self.cached_part(input, dice);
        self.spread(input, media, said, thought, cached)
    }

    /// How much of a prompt the provider has in its cache.
    fn cached_part(&self, input: u64, dice: &mut Dice) -> u64 {
        let known = self.cached.min(input);
        match self.model.dialect {
            Dialect::Messages => known,
            // Whole blocks from 1,024 tokens on, and not always.
            Dialect::Chat | Dialect::AzureChat | Dialect::Responses | Dialect::OpenRouter
                if known >= 1024 && dice.chance(72_000) =>
            {
                known / 128 * 128
            }
            Dialect::Gemini if known >= 1024 && dice.chance(45_000) => known * 9 / 10,
            _ => 0,
        }
    }

    /// The token classes as the model's provider reports them.
    fn spread(&self, text: u64, media: u64, said: u64, thought: u64, cached: u64) -> Usage {
        let input = text + media;
        let output = said + thought;
        let some = Usage {
            input: Some(input),
            output: Some(output),
            total: Some(input + output),
            ..Usage::default()
        };
        let is_audio = self.model.hears == Hears::Audio;
        let details = Usage { cache_read: Some(cached), reasoning: Some(thought), ..some.clone() };
        match self.model.dialect {
            Dialect::Chat | Dialect::AzureChat => Usage {
                audio_input: Some(media),
                audio_output: Some(if is_audio { said * 3 / 4 } else { 0 }),
                ..details
            },
            Dialect::Responses => Usage { cache_write: Some(0), ..details },
            Dialect::OpenRouter => Usage {
                cache_write: Some(0),
                audio_input: Some(0),
                video_input: Some(0),
                audio_output: Some(0),
                image_output: Some(0),
                ..details
            },
            Dialect::Messages => {
                // Marks are set by those who have something to keep.
                let written = if self.operation.system >= 1024 { input - cached } else { 0 };
                Usage {
                    cache_read: Some(cached),
                    cache_write: Some(written * 15 / 16),
                    cache_write_1h: Some(0),
                    reasoning: (self.model.reasoning > 0.0).then_some(thought),
                    ..some
                }
            }
            Dialect::Gemini => Usage {
                cache_read: Some(cached).filter(|cached| *cached > 0),
                audio_input: Some(media).filter(|media| is_audio && *media > 0),
                image_input: Some(media).filter(|media| !is_audio && *media > 0),
                reasoning: Some(thought).filter(|thought| *thought > 0),
                ..some
            },
            Dialect::Ollama => some,
            Dialect::Embeddings | Dialect::OllamaEmbed => {
                Usage { output: None, total: Some(input), ..some }
            }
            Dialect::Speech => Usage::default(),
        }
    }

    /// Takes note of a call that was answered.
    pub(super) fn answered(&mut self, usage: &Usage, dice: &mut Dice) {
        self.retry = 0;
        let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
        let said = output.saturating_sub(usage.reasoning.unwrap_or(0));
        let keeps = self.model.dialect != Dialect::Messages || self.operation.system >= 1024;
        self.cached = if keeps { input } else { 0 };
        if self.operation.numbers_attempts && dice.chance(TRIED_AGAIN) {
            self.attempt += 1;
        } else {
            self.attempt = 1;
            if self.operation.has_session {
                self.history = (input + said).saturating_sub(self.operation.system);
            }
        }
    }

    /// When the next call comes, if the last one ended at `ended`; nothing if there is none.
    pub(super) fn next_at(&mut self, ended: i64, dice: &mut Dice) -> Option<i64> {
        self.left = self.left.checked_sub(1).filter(|left| *left > 0)?;
        let pause_s = if self.retry > 0 {
            // As SDKs do: half a second, doubled each time, with a jitter.
            0.5 * f64::from(1_u32 << self.retry.min(4)) * (0.75 + dice.share() / 4.0)
        } else {
            dice.about(self.pause_s, 0.8)
        };
        let at = ended + millis(pause_s * 1000.0);
        if at < self.until {
            return Some(at);
        }
        // Too late; so the rest comes sooner than it would have.
        let began = ended.min(self.until - 1);
        Some(began + millis(real(self.until.abs_diff(began)) * dice.share()))
    }
}

/// What the caller says besides.
fn metadata(
    operation: &Operation,
    team: Option<usize>,
    dice: &mut Dice,
) -> Option<Map<String, Value>> {
    let mut metadata = Map::new();
    if let Some(team) = team {
        metadata.insert("team".to_owned(), TEAMS[team].1.into());
    }
    if let Some((key, values)) = operation.about {
        metadata.insert(key.to_owned(), values[dice.index(values.len())].into());
    }
    (!metadata.is_empty()).then_some(metadata)
}
