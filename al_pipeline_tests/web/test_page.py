"""The rounds' pages: what they tell, to whom, and what they keep to themselves."""

import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import SecretStr

from al_pipeline.cli.page import page, serving_pages
from al_pipeline.core.data.places import Place
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.requests import Requests
from al_pipeline.web.page.app import pages
from al_pipeline.web.page.batch import batch, blind, mistakes
from al_pipeline.web.page.curve import curve
from al_pipeline.web.page.labels import doubts, learned_from
from al_pipeline.web.page.map import COLOURED, TEST, coloured, places
from al_pipeline.web.page.overview import RoundLine, Spent, overview
from al_pipeline.web.page.people import people
from al_pipeline.web.page.thumbnails import SIZES, Thumbnails
from al_pipeline.web.serve import serving
from al_pipeline_tests.web.lived_in import CLASSES, LivedIn, lived_in

TOKEN = "a-token-of-the-tests"
MAPS = tuple(f"/rounds/r0002/map?by={by}" for by in COLOURED)
EVERY_PAGE = ("/", "/rounds/r0000", "/rounds/r0001", "/rounds/r0002", "/labels", "/people", *MAPS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> LivedIn:
    return lived_in(tmp_path_factory.mktemp("lived") / "home")


@pytest.fixture(scope="module")
def site(home: LivedIn) -> Iterator[str]:
    with serving(pages(home.deployment, TOKEN), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def visitor(site: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site, follow_redirects=True, timeout=60) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


def test_nothing_is_told_without_the_link_which_works_once_and_leaves_no_token_behind(home: LivedIn, site: str) -> None:
    for path in (*EVERY_PAGE, f"/pictures/small/{home.ids[0]}", "/nowhere", "/?token=another", "/?token="):
        refused = httpx.get(site + path)
        assert refused.status_code == 401
        assert home.ids[0] not in refused.text
    assert httpx.get(f"{site}/health").status_code == 200
    moved = httpx.get(f"{site}/rounds/r0001?token={TOKEN}&x=1")
    assert (moved.status_code, moved.headers["location"]) == (303, "/rounds/r0001?x=1")
    cookie = moved.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert httpx.get(f"{site}//elsewhere.example/?token={TOKEN}").headers["location"] == "/elsewhere.example/"
    for header in (moved, httpx.get(site)):
        assert "default-src 'none'" in header.headers["content-security-policy"]


def test_every_page_is_there_loads_nothing_of_elsewhere_and_has_no_script(visitor: httpx.Client) -> None:
    for path in EVERY_PAGE:
        found = visitor.get(path)
        assert found.status_code == 200, path
        assert "<script" not in found.text
        assert "://" not in found.text
    assert visitor.get("/rounds/r0009").status_code == 404
    assert visitor.get("/rounds/elsewhere").status_code == 404


def test_the_overview_tells_what_was_asked_and_where_the_time_went(home: LivedIn) -> None:
    found = overview(home.deployment)
    assert [(line.key, line.asked, line.answered, line.labels) for line in found.rounds] == [
        ("r0000", 20, 18, 0),
        ("r0001", 8, 8, 8),
        ("r0002", 8, 4, 16),
    ]
    first = found.rounds[0].spent
    assert first is not None
    # Learned and pushed in 45 s, the last answer after 5 minutes and nine times 4 s, the next round after an hour.
    people = timedelta(minutes=5, seconds=36 - 45).total_seconds()
    assert first == Spent(45.0, people, 3600 - 45 - people)
    assert found.rounds[2].spent == Spent(45.0, timedelta(minutes=5, seconds=12 - 45).total_seconds(), 0.0)
    assert found.rounds[1].looked == pytest.approx(8 * 3.2)
    assert found.rounds[1].changes
    assert found.saved is not None
    assert found.labels == 20


def test_a_batch_tells_why_each_image_was_chosen_and_whether_people_said_what_was_guessed(home: LivedIn) -> None:
    found = batch(home.deployment, "r0001")
    assert [tile.sample for tile in found.tiles] == home.asked(1)
    assert found.tiles[0].why == "low certainty, place 1"
    assert found.tiles[3].why == "drawn at random, chance 5.00%"
    for number, tile in enumerate(found.tiles):
        given = tile.answers[0]
        assert given.annotator == "ann"
        assert (given.value == home.truth[tile.sample]) == (number != 1)
        assert tile.agrees == (given.value == tile.predicted)
    last = batch(home.deployment, "r0002")
    assert [tile.state for tile in last.tiles] == ["answered"] * 4 + ["open"] * 4
    assert all(tile.agrees is None for tile in last.tiles[4:])
    assert batch(home.deployment, "r0000").tests_open == 2


def test_nothing_is_told_of_test_images_that_are_still_to_be_labeled(home: LivedIn, visitor: httpx.Client) -> None:
    hidden = set(home.blind[-2:])
    assert blind(home.deployment) == hidden
    told = "".join(whole(visitor, path) for path in EVERY_PAGE)
    assert not any(sample in told for sample in hidden)
    # The file's name says the class.
    assert not any(f"{name}-" in told for name in CLASSES)
    wrong = mistakes(home.deployment, "r0000")
    assert wrong
    assert not hidden & {each.sample for each in wrong}
    assert all(each.label == home.truth[each.sample] != each.said for each in wrong)
    assert [each.probability for each in wrong] == sorted((each.probability for each in wrong), reverse=True)
    # One of two people has answered: the other is still to.
    two = Deployment(home.settings.model_copy(update={"overlap": 2}))
    assert blind(two) == set(home.blind)
    assert mistakes(two, "r0000") == []


def test_pictures_are_made_small_once_and_by_sample_id_alone(home: LivedIn, visitor: httpx.Client) -> None:
    shown = visitor.get(f"/pictures/small/{home.ids[0]}")
    assert shown.headers["content-type"] == "image/jpeg"
    path = Thumbnails(home.deployment).picture(home.ids[0], "small")
    assert path is not None
    with Image.open(path) as image:
        assert max(image.size) <= SIZES["small"]
    # It is kept: the original may go.
    Path(home.ledger.places([home.ids[0]])[home.ids[0]]).unlink()
    assert visitor.get(f"/pictures/small/{home.ids[0]}").content == shown.content
    assert visitor.get(f"/pictures/large/{home.ids[0]}").headers["content-type"].startswith("image/svg")
    for path in ("small/..%2F..%2Fledger.sqlite3", f"other/{home.ids[0]}", "small/" + "0" * 31):
        assert visitor.get(f"/pictures/{path}").status_code == 404


def test_of_an_image_that_is_gone_the_copy_in_a_bucket_is_shown(home: LivedIn, tmp_path: Path) -> None:
    sample, other = home.ids[1:3]
    original, place = Path(home.ledger.places([sample])[sample]), Place(f"memory://{uuid4()}/shown")
    place.put(f"{sample}.png", original.read_bytes())
    update = {"published": place, "home": tmp_path / "home", "database_url": SecretStr(home.settings.ledger_url)}
    shown = Thumbnails(Deployment(home.settings.model_copy(update=update)))
    original.rename(tmp_path / "gone")
    try:
        path = shown.picture(sample, "small")
        assert path is not None
        with Image.open(path) as ours, Image.open(tmp_path / "gone") as theirs:
            assert ours.size == theirs.size
        assert shown.picture(other, "small") is not None
        assert shown.picture("0" * 32, "small") is None
    finally:
        (tmp_path / "gone").rename(original)


def test_pictures_that_nobody_looks_at_make_room_for_others(tmp_path: Path) -> None:
    made = LivedIn(tmp_path / "home", pool=20, blind=0)
    kept = [Thumbnails(made.deployment).picture(each, "small") for each in made.ids[:4]]
    for age, path in enumerate(kept):
        assert path is not None
        os.utime(path, (1000 - age, 1000))
    folder = made.settings.home / "cache" / "thumbnails"

    def used() -> int:
        return sum(path.stat().st_size for path in folder.rglob("*.jpg"))

    most = used() + 1
    bounded = Thumbnails(made.deployment, most=most)
    for each in made.ids[3:]:
        assert bounded.picture(each, "small") is not None
        # Whoever looks at what is the oldest keeps it.
        assert bounded.picture(made.ids[3], "small") == kept[3]
        assert used() <= most
    assert [path is not None and path.exists() for path in kept] == [False, False, False, True]
    assert kept[3] is not None
    assert kept[3].stat().st_mtime == 1000


def test_the_curve_fits_its_drawing() -> None:
    scores = [Interval(0.5, 0.41, 0.6), Interval(0.8, 0.7, 0.9)]
    lines = [
        RoundLine(f"r000{i}", 0, 0, 30 * i, {"accuracy": score, "roc_auc": None}, None, None)
        for i, score in enumerate(scores)
    ]
    found = curve(lines)
    assert found is not None
    assert [line.name for line in found.lines] == ["accuracy"]
    (x, y, _), (right, upper, _) = found.lines[0].points
    assert (x, right) == (found.left, found.right)
    assert 0 < upper < y < found.bottom
    assert [mark.text for mark in found.up] == ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]
    assert [mark.text for mark in found.across] == ["0", "5", "10", "15", "20", "25", "30"]
    assert curve([]) is None


def test_the_link_is_shown_to_the_owner_and_the_token_stays_out_of_logs(
    home: LivedIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving_pages(home.settings, port=0):
        logged = capsys.readouterr().out
        page(link=True, home=home.settings.home)
        link, remark = (each.strip() for each in capsys.readouterr())
        assert remark == ""
        assert link.rpartition("=")[2] not in logged
        assert httpx.get(link).status_code == 303
        assert httpx.get(link.replace("token=", "token=x")).status_code == 401
    assert (home.settings.home / "page_token").stat().st_mode & 0o077 == 0
    page(link=True, home=home.settings.home)
    assert capsys.readouterr() == (f"{link}\n", "Nobody serves it now: `al up` does, or `al page`\n")


def test_a_home_without_rounds_has_a_page_that_says_so(tmp_path: Path) -> None:
    bare = LivedIn(tmp_path / "home", pool=3, blind=0)
    with (
        serving(pages(bare.deployment, TOKEN), "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True) as client,
    ):
        assert "No round has begun yet" in client.get("/", params={"token": TOKEN}).text


def whole(visitor: httpx.Client, path: str) -> str:
    """Return a page once all is there that is made in the background."""
    until = time.monotonic() + 60
    while 'class="message pending"' in (text := visitor.get(path).raise_for_status().text):
        assert time.monotonic() < until, text
        time.sleep(0.05)
    return text


def pressed(page_text: str, sample: str) -> dict[str, str]:
    """Return what the button at a sample sends."""
    form = page_text.partition(f'id="{sample}"')[2].partition("</form>")[0]
    found = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert set(found) == {"form", "sample", "back", "do"}
    return found


def test_a_click_asks_again_in_the_next_batch_once(home: LivedIn, visitor: httpx.Client) -> None:
    wrong = home.asked(1)[1]
    asked = pressed(visitor.get("/rounds/r0001").text, wrong)
    assert asked["do"] == "ask"
    for broken in ({"form": ""}, {"form": "x" * 64}, {"sample": "../x"}, {"back": "//elsewhere.example"}, {"do": "x"}):
        assert visitor.post("/again", data=asked | broken).status_code in (400, 403)
    # Whoever is a test image, open or not labeled.
    for other in (home.blind[0], home.asked(2)[-1], home.ids[30]):
        assert visitor.post("/again", data=asked | {"sample": other}).status_code == 409
    assert httpx.post(f"{visitor.base_url}/again", data=asked).status_code == 401
    requests = Requests(home.deployment)
    assert requests.open() == []
    back = visitor.post("/again", data=asked)
    assert str(back.url).endswith(f"/rounds/r0001#{wrong}")
    assert requests.open() == [wrong]
    left = pressed(back.text, wrong)
    assert left["do"] == "leave"
    visitor.post("/again", data=left)
    assert requests.open() == []
    visitor.post("/again", data=asked)
    row = {"sample_id": wrong, "purpose": REVIEW, "rank": 0, "strategy": "requested", "seed": 1}
    home.ledger.plan("r0003", pd.DataFrame([row]))
    assert requests.open() == []
    assert "people are asked again now" in visitor.get("/rounds/r0001").text
    assert "a second look: as you asked" in visitor.get("/rounds/r0003").text


def test_labels_that_a_model_doubts_are_found_by_the_stored_features(tmp_path: Path) -> None:
    made = LivedIn(tmp_path / "home", pool=60, blind=0)
    swapped = made.ids[7]
    honest = made.truth[swapped]
    made.truth[swapped] = next(name for name in CLASSES if name != honest)
    made.round(0, 40)
    assert learned_from(made.deployment) == "r0000"
    found = doubts(made.deployment, "r0000")
    assert (found[0].sample, found[0].label, found[0].said) == (swapped, made.truth[swapped], honest)
    assert len(found) < 5


def test_the_map_lays_alike_images_side_by_side_and_says_nothing_of_test_images(home: LivedIn) -> None:
    found = places(home.deployment, "r0002")
    assert set(found.at) == set(home.ids)
    centers = {
        name: np.mean([found.at[each] for each in home.ids if home.truth[each] == name], axis=0) for name in CLASSES
    }
    nearest = {each: min(CLASSES, key=lambda name: np.linalg.norm(centers[name] - found.at[each])) for each in home.ids}
    assert np.mean([nearest[each] == home.truth[each] for each in home.ids]) > 0.9
    learned = set(home.ids[:16])
    assert set(found.near) == set(home.asked(2))
    assert all(len(near) == 3 and learned.issuperset(near) for near in found.near.values())
    assert np.mean([home.truth[each] == home.truth[near[0]] for each, near in found.near.items()]) > 0.8
    for by in COLOURED:
        dots = {
            each.title: {sample for _, _, sample in each.points}
            for each in coloured(home.deployment, "r0002", by, found.at)
        }
        assert dots[TEST] == set(home.blind[:-2])
        assert set.union(*dots.values()) == set(home.ids) - set(home.blind[-2:])
    chosen = {each.title: each.points for each in coloured(home.deployment, "r0002", "chosen", found.at)}
    assert {sample for _, _, sample in chosen["chosen"]} == set(home.asked(2))
    assert coloured(home.deployment, "r0002", "label", {}) == []


def test_people_are_told_apart(home: LivedIn, visitor: httpx.Client) -> None:
    (row,) = people(home.deployment).rows
    assert (row["annotator"], row["votes"], row["seconds"], row["agrees"]) == ("ann", 20, 3.2, None)
    assert "ann" in whole(visitor, "/people")
