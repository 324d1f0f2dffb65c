"""Images come, go, move and change their bytes: a sample stays what it is, and all that was said of it stays."""

from collections.abc import Iterator

import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.ledger import Ledger, database
from al_pipeline.ledger.pictures import NOT_FOUND, Registered
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample

FOUR = manifest(pool=3, holdout=1).assign(reason=None, pixels=None, file_id=lambda rows: rows["sample_id"], group=None)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.register(FOUR)
    yield ledger
    ledger.close()


def test_the_first_scan_has_new_samples_and_the_same_again_changes_nothing(ledger: Ledger) -> None:
    assert ledger.register(FOUR) == Registered()
    more = manifest(pool=5, holdout=1)
    assert ledger.register(more).new == (sample(4), sample(5))


def test_what_a_scan_does_not_find_is_gone_with_a_reason_and_comes_back(ledger: Ledger) -> None:
    aside = FOUR.copy()
    aside.loc[1, ["split", "reason"]] = "excluded", "damaged: no end"
    found = ledger.register(aside.drop(index=2))
    assert found.gone == (sample(1), sample(2))
    gone = ledger.gone()
    assert {i: each.why for i, each in gone.items()} == {sample(1): "damaged: no end", sample(2): NOT_FOUND}
    assert gone[sample(2)].uri == "/images/2.png"
    assert ledger.gone([sample(1)]).keys() == {sample(1)}
    assert ledger.count_samples("pool") == 1
    back = ledger.register(FOUR)
    assert (back.back, back.new, back.moved) == ((sample(1), sample(2)), (), ())
    assert ledger.gone() == {}


def test_a_sample_that_is_gone_keeps_what_people_have_said_of_it(ledger: Ledger, url: str) -> None:
    ledger.plan("r0000", plan_rows(0, 1))
    ledger.append([said(1, sample(0), "cat")], moment(9))
    before = ledger.current_labels()
    assert ledger.count_asked() == 2
    ledger.register(FOUR.drop(index=0))
    assert ledger.current_labels().equals(before)
    # What is left to ask is counted among what is there.
    assert (ledger.count_samples("pool"), ledger.count_asked()) == (2, 1)
    assert list(verify(url).problems) == []


def test_a_sample_moves_with_its_file(ledger: Ledger) -> None:
    moved = FOUR.copy()
    moved.loc[0, "uri"] = "/elsewhere/0.png"
    assert ledger.register(moved).moved == (sample(0),)
    assert ledger.uris()[sample(0)] == "/elsewhere/0.png"


def test_the_same_picture_in_other_bytes_is_the_same_sample(ledger: Ledger) -> None:
    seen = FOUR.copy()
    seen["pixels"] = [f"{number:031x}f" for number in range(len(seen))]
    ledger.register(seen)
    tagged = seen.copy()
    tagged.loc[0, "file_id"] = sample(77)
    assert ledger.register(tagged).changed == (sample(0),)
    known = ledger.known_pictures()
    assert known.files == {sample(number): sample(number) for number in range(4)} | {sample(77): sample(0)}
    assert known.pixels[f"{0:031x}f"] == sample(0)
    # A scan by a version that knows no pixels forgets none.
    ledger.register(manifest(pool=3, holdout=1))
    assert ledger.known_pictures() == known


def test_groups_are_kept(ledger: Ledger) -> None:
    grouped = FOUR.copy()
    grouped.loc[[0, 1], "group"] = "a"
    ledger.register(grouped)
    assert ledger.groups() == {sample(0): "a", sample(1): "a"}


def test_a_manifest_without_uris_is_refused_and_nothing_is_gone(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="lack the columns"):
        ledger.register(FOUR.drop(columns="uri"))
    assert ledger.gone() == {}


def test_many_images_are_stored_in_parts_and_all_or_none(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHUNK", 2)
    more = manifest(pool=6, holdout=1).iloc[::-1]
    assert ledger.register(more).new == tuple(map(sample, (4, 5, 6)))
    assert ledger.uris() == {sample(number): f"/images/{number}.png" for number in range(7)}
    assert (ledger.count_samples("pool"), ledger.count_samples("holdout")) == (6, 1)
    twice = manifest(pool=9)
    twice.loc[8, "sample_id"] = sample(0)
    with pytest.raises(InputError, match="1 samples are in the rows twice"):
        ledger.register(twice)
    assert len(ledger.uris()) == 7
