"""Whatever is done to it, and in whatever order, a store on disk answers as a plain dictionary would."""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memory.chroma import ChromaStore
from memory.errors import MemoryStoreError
from memory.types import Episode, Query
from model.types import EMOTIONS
from tests.fakes import FakeEmbedder, affect_of, episode_of

START = datetime(2026, 1, 1, tzinfo=UTC)
people = st.sampled_from(["ann", "bob"])
ids = st.sampled_from(["1", "2", "3", "4", "ann/1", "user-ann"])
texts = st.sampled_from(["my sister called", "rain again", "", "my sister"])
feelings = st.sampled_from(EMOTIONS)
times = st.integers(0, 5).map(lambda hours: START + timedelta(hours=hours))


class StoreOnDisk(RuleBasedStateMachine):
    """The dictionary is what should be there."""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = ChromaStore(Path(self.folder.name), FakeEmbedder())
        self.kept: dict[str, dict[str, Episode]] = {"ann": {}, "bob": {}}

    @rule(user=people, id=ids, text=texts, emotion=feelings, at=times)
    def add(self, user, id, text, emotion, at):
        episode = episode_of(id, text, emotion, user=user, at=at)
        known = self.kept[user].setdefault(id, episode)
        if known == episode:
            self.store.add(episode)
        else:
            with pytest.raises(MemoryStoreError):
                self.store.add(episode)

    @rule(user=people, id=ids, emotion=feelings)
    def correct(self, user, id, emotion):
        known = self.kept[user].get(id)
        if known is None:
            with pytest.raises(MemoryStoreError):
                self.store.change(user, id, lambda episode: episode)
        else:
            self.kept[user][id] = self.store.change(user, id, lambda e: replace(e, affect=affect_of(emotion)))
            assert self.kept[user][id] == replace(known, affect=affect_of(emotion))

    @rule(user=people, gone=st.lists(ids, max_size=3))
    def forget(self, user, gone):
        there = [id for id in set(gone) if self.kept[user].pop(id, None) is not None]
        assert self.store.forget(user, gone) == len(there)

    @rule(user=people)
    def forget_everything(self, user):
        assert self.store.forget(user) == len(self.kept[user])
        self.kept[user] = {}

    @rule()
    def reopen(self):
        self.store.close()
        self.store = ChromaStore(Path(self.folder.name), FakeEmbedder())

    @rule(user=people, text=texts, emotion=feelings, limit=st.integers(0, 9))
    def recall(self, user, text, emotion, limit):
        found = self.store.recall(user, Query(text, affect_of(emotion), limit=limit, now=START))
        assert len(found) == min(limit, len(self.kept[user]))
        assert all(self.kept[user][one.episode.id] == one.episode for one in found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert all(abs(one.score - sum(one.parts.values())) < 1e-6 for one in found)

    @rule(user=people, since=times, until=times, offset=st.integers(0, 3))
    def list(self, user, since, until, offset):
        inside = [e for e in self.kept[user].values() if since <= e.at < until]
        expected = sorted(inside, key=lambda e: (-e.at.timestamp(), e.id))[offset : offset + 3]
        assert self.store.list(user, limit=3, offset=offset, since=since, until=until) == expected

    @invariant()
    def everything_is_there_and_nothing_else(self):
        for user, kept in self.kept.items():
            assert {episode.id: episode for episode in self.store.walk(user)} == kept
            assert self.store.count(user) == len(kept)
        assert self.store.users() == tuple(user for user in ("ann", "bob") if self.kept[user])

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestStoreOnDisk = StoreOnDisk.TestCase
TestStoreOnDisk.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
