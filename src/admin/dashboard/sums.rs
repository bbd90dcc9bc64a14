//! Totals of several groups as one. Owns which figures add up: means, rates and percentiles do not, and are
//! unknown of a sum.

use crate::ledger::Totals;

/// Adds what adds up, up to the largest number there is. Every figure is named, so that none is forgotten:
/// one that is left out would make what is not known look like nothing.
pub(super) fn add(sum: &mut Totals, other: &Totals) {
    let Totals {
        requests,
        errors,
        input_tokens,
        cache_read_tokens,
        cache_write_tokens,
        audio_input_tokens,
        image_input_tokens,
        output_tokens,
        reasoning_tokens,
        audio_output_tokens,
        image_output_tokens,
        total_tokens,
        cost_usd,
        estimated_requests,
        estimated_tokens,
        estimate_error_tokens,
        estimate_error,
        unreported_requests,
        refetched_requests,
        unpriced_requests,
        default_priced_requests,
        cache_hit_rate,
        avg_duration_ms,
        p50_duration_ms,
        p95_duration_ms,
        avg_time_to_first_token_ms,
    } = sum;
    for (figure, more) in [
        (requests, other.requests),
        (errors, other.errors),
        (input_tokens, other.input_tokens),
        (cache_read_tokens, other.cache_read_tokens),
        (cache_write_tokens, other.cache_write_tokens),
        (audio_input_tokens, other.audio_input_tokens),
        (image_input_tokens, other.image_input_tokens),
        (output_tokens, other.output_tokens),
        (reasoning_tokens, other.reasoning_tokens),
        (audio_output_tokens, other.audio_output_tokens),
        (image_output_tokens, other.image_output_tokens),
        (total_tokens, other.total_tokens),
        (estimated_requests, other.estimated_requests),
        (estimated_tokens, other.estimated_tokens),
        (estimate_error_tokens, other.estimate_error_tokens),
        (unreported_requests, other.unreported_requests),
        (refetched_requests, other.refetched_requests),
        (unpriced_requests, other.unpriced_requests),
        (default_priced_requests, other.default_priced_requests),
    ] {
        *figure = figure.saturating_add(more);
    }
    *cost_usd += other.cost_usd;
    (*estimate_error, *cache_hit_rate) = (None, None);
    (*avg_duration_ms, *avg_time_to_first_token_ms) = (None, None);
    (*p50_duration_ms, *p95_duration_ms) = (None, None);
}

/// The totals of all of these.
pub(super) fn of<'a>(all: impl IntoIterator<Item = &'a Totals>) -> Totals {
    let mut sum = Totals::default();
    all.into_iter().for_each(|totals| add(&mut sum, totals));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::dashboard::show;

    #[test]
    fn an_hour_in_which_all_calls_failed_did_not_cost_nothing() {
        let failed = Totals { requests: 2, errors: 2, unreported_requests: 2, ..Totals::default() };
        let sum = of([&failed, &failed]);
        assert!(!show::cost(&sum).into_string().contains('$'), "{sum:?}");
        assert_eq!(sum.unreported_requests, 4);
    }

    #[test]
    fn sums_of_a_crafted_ledger_end_at_the_largest_number() {
        let all = Totals { requests: 1, total_tokens: u64::MAX, ..Totals::default() };
        assert_eq!(of([&all, &all]).total_tokens, u64::MAX);
    }
}
