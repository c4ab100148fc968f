"""The published scores are repeated as they are; ours accept every label and give each its due."""

import pytest

from model.types import EMOTIONS
from tests.training.metrics.golden import exactly, golden
from training.metrics.answers import speaker_emotion, without_chain
from training.metrics.empathy import diversity, emotion_scores, reference_emotion, reference_scores
from training.metrics.empathy_labels import COARSE_OF, FAMILIES, FAMILY_OF, REFERENCE_CLASS, REFERENCE_GOLD


def saying(emotion):
    return f"<think>\nSecondly, the emotion of the speaker is {emotion}.\n</think>\n I hear you."


def test_published_scores_equal_the_reference():
    for name, case in golden("avamerg.json")["cases"].items():
        assert {key: reference_emotion(reply) for key, reply in case["resp"].items()} == case["pred"], name
        if "raises" in case["result"]:
            label = case["result"]["raises"].split("'")[1]
            with pytest.raises(ValueError, match=label):
                reference_scores(case["gt"], case["resp"])
            continue
        got = reference_scores(case["gt"], case["resp"]) | diversity(case["resp"].values())
        percents = [round(100 * got[score], 2) for score in ("accuracy", "hit", "dist_1", "dist_2")]
        assert percents == [case["result"][n] for n in ("Emotion_Accuracy", "Hitrate", "Dist-1", "Dist-2")], name


def test_diversity_equals_the_reference():
    for case in golden("avamerg.json")["dist"]:
        got = diversity(case["texts"])
        assert [got["dist_1"], got["dist_2"]] == exactly([case["dist1"], case["dist2"]]), case["texts"]


def test_published_maps_are_those_of_the_reference():
    published = golden("avamerg_projection.json")
    assert published["gt_projection_one_hop"] == REFERENCE_GOLD
    assert published["mead_projection"] == REFERENCE_CLASS
    assert published["mead_projection"] == golden("avamerg.json")["mead_projection"]


def test_faults_of_the_published_maps_are_as_counted():
    published = golden("avamerg_projection.json")
    wrong = sorted(raw for raw, gold in REFERENCE_GOLD.items() if raw != gold)
    assert wrong == published["raw_labels_whose_exact_prediction_is_scored_wrong_by_acc"]
    crash = sorted(raw for raw in REFERENCE_GOLD if raw not in REFERENCE_CLASS)
    assert crash == sorted(published["raw_labels_not_in_mead_map(prediction crashes hit)"])
    assert sorted(set(REFERENCE_GOLD.values())) == published["gt_classes_after_projection"]
    assert sorted(set(REFERENCE_GOLD.values()) - set(REFERENCE_CLASS)) == published["gt_classes_that_crash_hit"]
    assert sorted(set(REFERENCE_GOLD) - set(wrong)) == published["raw_label_fixed_points"]
    hops = {raw: [gold, REFERENCE_GOLD[gold]] for raw, gold in REFERENCE_GOLD.items() if gold in REFERENCE_GOLD}
    assert {raw: hop for raw, hop in hops.items() if hop[0] != hop[1]} == {
        raw: hop for raw, hop in published["two_hop_disagreements"].items() if hop[0] in REFERENCE_GOLD
    }


@pytest.mark.parametrize("label", sorted({*REFERENCE_GOLD, *REFERENCE_CLASS, *REFERENCE_GOLD.values(), *EMOTIONS}))
def test_every_label_named_right_is_right(label):
    assert emotion_scores({"a": label}, {"a": saying(label)}) == {"accuracy": 1, "hit": 1, "unknown": 0}


def test_map_is_total_and_no_word_has_two_meanings():
    assert set(FAMILY_OF) == set(COARSE_OF)
    assert len(FAMILY_OF) == sum(len(words) for words in FAMILIES.values())
    assert all(FAMILY_OF[family] == family for family in FAMILIES)


def test_coarse_classes_follow_the_published_map_but_for_embarrassed():
    aliases = {"afraid": "fear"}
    differing = {w for w, c in REFERENCE_CLASS.items() if aliases.get(c, c) != aliases.get(COARSE_OF[w], COARSE_OF[w])}
    assert differing == {"embarrassed"}


def test_another_word_of_the_family_is_right_and_of_the_class_a_hit():
    gold = {"a": "worried", "b": "furious", "c": "sad"}
    replies = {"a": saying("anxiety"), "b": saying("annoyed"), "c": saying("happy")}
    assert emotion_scores(gold, replies) == {"accuracy": exactly(1 / 3), "hit": exactly(2 / 3), "unknown": 0}


def test_unknown_and_missing_are_wrong_and_crash_nothing():
    gold = {"a": "sad", "b": "tired", "c": "sad"}
    scores = emotion_scores(gold, {"a": "I made it.", "b": saying("flabbergasted")})
    assert scores == {"accuracy": 0, "hit": 0, "unknown": 1}


def test_gold_outside_the_map_is_refused():
    with pytest.raises(ValueError, match="zzz"):
        emotion_scores({"a": "zzz"}, {"a": saying("sad")})


def test_a_reply_without_gold_is_refused():
    with pytest.raises(ValueError, match="'b'"):
        emotion_scores({"a": "sad"}, {"b": saying("sad")})


def test_emotion_of_the_speaker_is_read_with_hyphen_and_any_case():
    assert speaker_emotion("The emotion of the speaker is Heavy-hearted.") == "heavy-hearted"
    assert speaker_emotion("You are sad.") == "unknown"


def test_the_same_reply_to_everybody_lowers_only_corpus_diversity():
    got = diversity(["I hear you"] * 4)
    assert got == {"dist_1": 1, "corpus_dist_1": 0.25, "dist_2": 1, "corpus_dist_2": 0.25}


def test_the_chain_counts_in_no_diversity():
    assert diversity([saying("sad sad sad")])["dist_1"] == 1
    assert without_chain("<think>cut off") == ""
