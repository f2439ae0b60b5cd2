//! Every sentence of RFC 9111 that binds a shared cache, and the test that holds us to it.
//!
//! The sentences are told in our words. A test below sees to it that the tests exist.

/// How a sentence is kept.
enum Kept {
    /// By the test with this name.
    Test(&'static str),
    /// Not by a test of a decision, for this reason.
    Because(&'static str),
}
use Kept::{Because, Test};

/// Section, sentence, and how it is kept.
const REQUIREMENTS: &[(&str, &str, Kept)] = &[
    (
        "1.2.2",
        "a number of seconds that is too large is taken for the largest",
        Test("section_1_2_2_seconds_are_digits_up_to_the_largest"),
    ),
    (
        "2",
        "the key holds at least the URI of the request",
        Test("section_2_host_path_and_query_make_the_key"),
    ),
    (
        "3",
        "no response is stored unless the method is understood",
        Test("section_3_only_responses_to_get_are_stored"),
    ),
    (
        "3",
        "POST is understood where RFC 9110 section 9.3.3 lets it answer for GET",
        Test("rfc_9110_section_9_3_3_post_is_stored_for_get_where_it_says_so_and_how_long"),
    ),
    (
        "3",
        "nor unless its status is final, and understood where 206, 304 or must-understand ask for it",
        Test("section_3_any_final_status_with_explicit_freshness_is_stored"),
    ),
    (
        "3",
        "nor a 416, which answers no request but one for that range",
        Test("rfc_9110_section_15_5_17_a_416_is_about_a_range_and_is_not_stored"),
    ),
    (
        "3",
        "nor with no-store, nor with private in a shared cache",
        Test("section_3_no_store_and_private_forbid_it_in_any_case_and_company"),
    ),
    (
        "3",
        "nor to a request with Authorization, unless something allows it",
        Test("section_3_5_credentials_need_a_word_that_the_response_is_for_others"),
    ),
    (
        "3",
        "nor unless it has public, Expires, max-age, s-maxage or a status that allows the heuristic",
        Test("section_3_without_explicit_freshness_the_status_or_public_has_to_allow_it"),
    ),
    (
        "3",
        "what was fetched before a no-store response need not be dropped",
        Because("a response that is not stored changes nothing that is"),
    ),
    (
        "3.1",
        "all fields are stored, unknown ones included, but for those of connection and proxy",
        Test("section_3_1_fields_of_the_proxy_are_not_stored_and_all_others_are"),
    ),
    (
        "3.1",
        "fields that Connection names are removed before a message is passed on",
        Test("rfc_9110_section_7_6_1_fields_of_the_connection_are_not_passed_on"),
    ),
    (
        "3.1",
        "fields that no-cache or private name are not stored",
        Test("section_5_2_2_4_and_5_2_2_7_fields_that_are_named_are_not_stored"),
    ),
    (
        "3.1",
        "trailers are stored apart or discarded, never merged blindly",
        Because("they are discarded: no trailer is kept by the fill, which is tested there"),
    ),
    (
        "3.2",
        "an update adds each field and replaces those that are there, with four exceptions",
        Test("section_3_2_an_update_replaces_and_adds_all_but_what_is_about_the_body"),
    ),
    (
        "3.2",
        "an update is taken over where the outcome may be stored for the request that has brought it",
        Test("section_3_5_what_is_for_one_request_alone_is_not_taken_over_into_what_is_stored"),
    ),
    (
        "3.3",
        "an incomplete response is not served as if it were complete",
        Test("section_3_3_a_stored_part_answers_what_lies_in_it"),
    ),
    (
        "3.3",
        "a response whose connection closed too early is not stored as complete",
        Because("bodies are the shell's; tested there with an upstream that closes in the middle"),
    ),
    (
        "3.4",
        "parts are combined where their strong validators are the same",
        Test("rfc_9110_section_8_8_what_is_a_strong_validator"),
    ),
    (
        "3.4",
        "the combination covers what both have",
        Test("section_3_4_parts_that_touch_are_joined"),
    ),
    (
        "3.5",
        "must-revalidate, public and s-maxage allow a shared cache to store despite Authorization",
        Test("section_3_5_credentials_need_a_word_that_the_response_is_for_others"),
    ),
    (
        "4",
        "a stored response is used where URI, method, Vary, no-cache and freshness allow it",
        Test("section_4_2_fresh_while_the_lifetime_is_longer_than_the_age"),
    ),
    (
        "4",
        "Age is generated for what is used without validation",
        Test("section_4_2_3_age_counts_on_from_what_it_was"),
    ),
    (
        "4",
        "requests with unsafe methods are written through before they are answered",
        Test("rfc_9110_section_9_2_1_what_is_not_known_to_be_safe_is_not"),
    ),
    (
        "4",
        "of several that match, the most recent is used",
        Because("one response is kept for each set of selecting values: the most recent"),
    ),
    (
        "4",
        "a cache without a clock revalidates each time",
        Because("there is a clock: it is an argument"),
    ),
    (
        "4.1",
        "all fields that Vary names have to match",
        Test("section_4_1_all_named_fields_match_and_others_do_not_matter"),
    ),
    (
        "4.1",
        "values match after white space, lines and what has the same meaning are normalised",
        Test("section_4_1_white_space_and_lines_do_not_count"),
    ),
    ("4.1", "Vary with a star never matches", Test("section_4_1_a_star_anywhere_matches_nothing")),
    (
        "4.1",
        "without a match the request goes upstream",
        Because("there is no preference among variants: no match is a miss"),
    ),
    (
        "4.2",
        "dates match in any case, zones other than GMT are invalid, local zones do not count",
        Test("section_4_2_letters_match_in_any_case"),
    ),
    (
        "4.2.1",
        "s-maxage, then max-age, then Expires less Date",
        Test("section_4_2_1_s_maxage_before_max_age_before_expires"),
    ),
    (
        "4.2.1",
        "of several values the first is used, and invalid ones are stale",
        Test("section_4_2_1_of_several_numbers_the_first_counts_and_a_broken_one_is_no_freshness"),
    ),
    (
        "4.2.1",
        "the most restrictive of conflicting directives is honoured",
        Test("section_3_no_store_and_private_forbid_it_in_any_case_and_company"),
    ),
    (
        "4.2.2",
        "no heuristic where there is an explicit lifetime, nor for other statuses without public",
        Test("section_4_2_2_a_tenth_of_the_time_since_the_last_change_and_a_day_at_most"),
    ),
    (
        "4.2.3",
        "age is the larger of the apparent and the corrected one, and the time since",
        Test("section_4_2_3_the_larger_of_both_ages"),
    ),
    (
        "4.2.4",
        "nothing stale where a directive forbids it",
        Test("section_5_2_2_what_is_kept_of_the_directives"),
    ),
    (
        "4.2.4",
        "nothing stale unless disconnected, or client or origin allow it",
        Test("section_4_2_4_stale_while_disconnected_unless_it_is_forbidden"),
    ),
    (
        "4.3.1",
        "validators are sent: ETag as If-None-Match, Last-Modified as If-Modified-Since",
        Test("section_4_3_1_both_validators_are_sent_and_the_clients_conditions_are_not"),
    ),
    (
        "4.3.2",
        "conditions for the origin server are not evaluated",
        Test("section_4_3_2_conditions_for_the_origin_server_are_left_to_it"),
    ),
    (
        "4.3.2",
        "If-None-Match goes before If-Modified-Since",
        Test("section_4_3_2_if_none_match_goes_before_if_modified_since"),
    ),
    (
        "4.3.2",
        "without Last-Modified, Date or the time of arrival stand in for it",
        Test("section_4_3_2_if_modified_since_falls_back_to_date_and_arrival"),
    ),
    (
        "4.3.2",
        "If-Range is evaluated with a Range",
        Test("rfc_9110_section_13_1_5_if_range_takes_strong_validators_only"),
    ),
    (
        "4.3.3",
        "304 updates, a full response replaces, 5xx is passed on or counts as no answer",
        Test("rfc_5861_section_4_stale_if_error_bounds_the_use_behind_an_error"),
    ),
    (
        "4.3.3",
        "a full response says that what is stored is not suitable, whether or not it is stored itself",
        Test("section_4_3_3_a_full_response_ends_what_is_stored_and_a_failure_does_not"),
    ),
    (
        "4.3.4",
        "a 304 updates only what its validators select",
        Test("section_4_3_4_a_304_updates_what_it_names_or_does_not_name"),
    ),
    (
        "4.3.4",
        "a 304 with a strong validator updates nothing that does not have the same strong one",
        Test("section_4_3_4_a_strong_validator_updates_nothing_that_has_a_weak_one"),
    ),
    (
        "4.3.5",
        "a 200 to HEAD updates what has the same validators and length, else that is stale",
        Test("section_4_3_5_head_describes_a_response_with_the_same_validators_and_length"),
    ),
    (
        "4.4",
        "the target of an unsafe request that succeeds is invalidated",
        Test("section_4_4_only_a_success_changes_something"),
    ),
    (
        "4.4",
        "so may be Location and Content-Location, never of another origin",
        Test("section_4_4_nothing_of_another_origin"),
    ),
    (
        "5.1",
        "of several ages the first counts, and one that is no number is ignored",
        Test("section_5_1_of_several_ages_the_first_counts_and_none_that_is_no_number"),
    ),
    (
        "5.2",
        "directives are matched in any case, with both forms of an argument",
        Test("section_5_2_both_forms_of_an_argument_are_taken"),
    ),
    (
        "5.2",
        "directives are passed on whether or not they are understood",
        Because("no field of a response is changed but those of the connection"),
    ),
    (
        "5.2.1",
        "max-age, max-stale, min-fresh, no-cache of a request are advice, and followed",
        Test("section_5_2_1_requests_may_ask_for_less_age_more_freshness_or_the_upstream"),
    ),
    (
        "5.2.1.2",
        "max-stale does not overrule must-revalidate",
        Test("section_5_2_1_2_max_stale_is_honoured_where_the_upstream_does_not_forbid_it"),
    ),
    (
        "5.2.1.5",
        "nothing of a request with no-store, nor its response, is stored",
        Test("section_5_2_1_5_a_request_with_no_store_leaves_nothing_behind"),
    ),
    (
        "5.2.1.6",
        "no-transform is kept to",
        Because("a request with it gets the body as it is; tested in the shell"),
    ),
    (
        "5.2.1.7",
        "only-if-cached is answered from what is stored, or with 504",
        Because("an answer of the shell's; tested there"),
    ),
    (
        "5.2.2.2",
        "must-revalidate: nothing stale, and an error while disconnected",
        Test("section_4_2_4_stale_while_disconnected_unless_it_is_forbidden"),
    ),
    (
        "5.2.2.3",
        "must-understand: stored where the status is understood, and no-store ignored then",
        Test("section_5_2_2_3_must_understand_takes_the_place_of_no_store_for_known_statuses"),
    ),
    (
        "5.2.2.4",
        "no-cache: not used without validation, or without the fields that it names",
        Test("section_5_2_2_4_no_cache_is_never_used_without_asking"),
    ),
    (
        "5.2.2.4",
        "no names are the whole response, and so is what is no list of names",
        Test("section_5_2_2_4_and_5_2_2_7_names_of_fields_add_up_and_no_names_are_all"),
    ),
    (
        "5.2.2.5",
        "no-store: nothing is stored, and nothing kept on purpose in volatile memory",
        Because("the fill of such a response keeps what its reader has yet to take, and no more"),
    ),
    (
        "5.2.2.6",
        "no-transform is kept to",
        Test("what_becomes_no_shorter_or_must_stay_is_left_as_it_is"),
    ),
    (
        "5.2.2.7",
        "private: not stored by a shared cache, or not the fields that it names",
        Test("section_5_2_2_4_and_5_2_2_7_fields_that_are_named_are_not_stored"),
    ),
    (
        "5.2.2.7",
        "a field that private or no-cache names is passed on to the one who has asked",
        Test("section_5_2_2_7_fields_that_are_named_are_for_who_has_asked"),
    ),
    (
        "5.2.2.8",
        "proxy-revalidate: as must-revalidate, but it does not allow to store",
        Test("section_3_5_credentials_need_a_word_that_the_response_is_for_others"),
    ),
    (
        "5.2.2.10",
        "s-maxage: overrules max-age and Expires, and nothing stale",
        Test("section_5_2_2_what_is_kept_of_the_directives"),
    ),
    (
        "5.2.3",
        "unknown directives are ignored",
        Test("section_5_2_3_unknown_directives_are_ignored_and_conflicting_ones_all_seen"),
    ),
    (
        "5.3",
        "an Expires that is no date is in the past, and max-age overrules it",
        Test("section_5_3_what_is_not_well_formed_is_no_date"),
    ),
    (
        "5.4",
        "Pragma: no-cache of a request counts where there is no Cache-Control",
        Test("section_5_4_pragma_counts_where_there_is_no_cache_control"),
    ),
    (
        "5.5",
        "Warning is not generated any more",
        Because("it is passed on and stored like any field"),
    ),
    (
        "7.3",
        "Set-Cookie does not by itself forbid to store",
        Test("section_7_3_set_cookie_is_as_the_route_says"),
    ),
];

const SOURCES: [&str; 16] = [
    include_str!("coding.rs"),
    include_str!("control.rs"),
    include_str!("date.rs"),
    include_str!("directive.rs"),
    include_str!("fields.rs"),
    include_str!("freshness/tests.rs"),
    include_str!("invalidation.rs"),
    include_str!("key.rs"),
    include_str!("partial.rs"),
    include_str!("precondition.rs"),
    include_str!("report.rs"),
    include_str!("reuse/tests.rs"),
    include_str!("storing/tests.rs"),
    include_str!("targeted.rs"),
    include_str!("validation.rs"),
    include_str!("vary.rs"),
];

#[test]
fn every_sentence_is_kept_by_a_test_that_exists_or_says_why_not() {
    for (section, sentence, kept) in REQUIREMENTS {
        assert!(!section.is_empty() && !sentence.is_empty());
        match kept {
            Test(name) => {
                let head = format!("    fn {name}()");
                let found = SOURCES
                    .iter()
                    .any(|source| source.contains(&head) || source.contains(&head[4..]));
                assert!(found, "{section}: there is no test {name}");
            }
            Because(reason) => assert!(!reason.is_empty(), "{section}: {sentence}"),
        }
    }
}
