"""The reports: what is drawn is right, the page is whole in itself, and a browser shows it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright import sync_api
from thermal_loop import CONTEXT, drive, write_csv

from cansight.main import main
from models.errors import ModelsError
from models.report.coverage import CELLS, LEAST, occupancy, pairs_covered
from models.report.page import Section, Table, page, write
from models.report.traces import Trace, chart, thinned
from models.report.words import CHINESE, Say


def test_an_excess_is_never_thinned_away() -> None:
    score = np.full(100_000, 0.1)
    score[[17, 50_003, 99_999]] = 9.0
    score[200:700] = np.nan
    times, shown = thinned(1000 * np.arange(100_000, dtype=np.int64), score)
    assert len(times) <= 1000
    assert times[shown == 9.0].tolist() == [17_000, 50_003_000, 99_999_000]
    assert np.isnan(shown).any()
    assert (np.diff(times) > 0).all()


def test_a_trace_says_its_unit_and_marks_findings() -> None:
    tick_ms = 1_700_000_000_000 + 1000 * np.arange(7200, dtype=np.int64)
    begin = int(tick_ms[3600])
    drawn = chart(
        Trace("drive", tick_ms, np.ones(7200), 2.0, [(begin, 2**62)], [(begin + 60_000, True), (begin - 60_000, False)]), Say("en")
    )
    assert drawn.layout["xaxis"]["title"]["text"] == "time [min]"
    assert [shape["x0"] for shape in drawn.layout["shapes"]] == [60.0]
    assert {line["name"]: line["x"] for line in drawn.data[2:]} == {"finding in the fault": [61.0], "false finding": [59.0]}


def test_coverage_counts_cells() -> None:
    """One signal goes through its range evenly; the other moves with it, so of their square the diagonal is seen."""
    steps = np.repeat(np.arange(10), LEAST) / 10 + 0.05
    values = np.stack([steps, 100 * steps], axis=1)
    low, high = np.zeros(2), np.array([1.0, 100.0])
    assert pairs_covered(values, low, high) == pytest.approx(np.array([[1.0, 0.1], [0.1, 1.0]]))
    assert pairs_covered(values[: -LEAST // 2], low, high)[0, 0] == pytest.approx(0.9)  # too short a visit is none
    seen = occupancy(np.array([[0.0], [1.0], [0.5], [2.0], [np.nan]]), np.zeros(1), np.ones(1))
    assert (seen.sum(), seen[0, 0], seen[0, CELLS // 2], seen[0, -1]) == (3, 1, 1, 1)


def test_names_cannot_write_into_the_page(tmp_path: Path) -> None:
    text = page("<b>", "a & b", [Section("</script>", "<i>", [Table(["<u>"], [["<s>"]])])])
    assert "<b>" not in text.partition("<script")[0]
    assert "&lt;s&gt;" in text
    with pytest.raises(ModelsError, match="cannot be written"):
        write(tmp_path / "none" / "report.html", text)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of a training and of an evaluation of the same pack, as the command line writes them."""
    folder = tmp_path_factory.mktemp("reports")
    healthy = [write_csv(folder / f"{seed}.csv", drive(seed)) for seed in range(12)]
    leak = write_csv(folder / "leak.csv", drive(77, 400, leak_at=150))
    faults = [{"fault_code": "coolant_leak", "onset_s": 150, "onset_ns": 1_700_000_150 * 10**9}]
    (folder / "leak.truth.json").write_text(json.dumps({"faults": faults}))
    (folder / "0.truth.json").write_text('{"faults": []}')
    pages = [folder / f"{name}.html" for name in ("training", "evaluation", "training_zh", "evaluation_zh")]
    options = ["--context", ",".join(CONTEXT), "--average", "10", "--window", "20", "--fault", "coolant_leak"]
    for arguments in (
        ["train", *healthy, *options, "-o", folder / "pack", "--report", pages[0]],
        ["evaluate", folder / "pack", leak, healthy[0], "--report", pages[1]],
        ["train", *healthy, *options, "-o", folder / "pack", "--report", pages[2], "--lang", "zh"],
        ["evaluate", folder / "pack", leak, healthy[0], "--report", pages[3], "--lang", "zh"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["models", *map(str, arguments)])
        assert not stop.value.code
    return pages


def test_a_report_holds_all_it_needs(reports: list[Path]) -> None:
    for report in reports:
        text = report.read_text()
        ours = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
        assert "http" not in ours
        charts = json.loads(text.partition('id="charts">')[2].partition("</script>")[0])
        for one in charts:
            assert all("title" in axis for name, axis in one["layout"].items() if name.startswith(("xaxis", "yaxis")))


def test_a_chinese_report_has_no_english_phrase(reports: list[Path]) -> None:
    """What is left in Latin letters are names of signals, files and methods, and units."""
    for report in reports[2:]:
        text = report.read_text()
        assert 'lang="zh"' in text
        charts = text.partition('id="charts">')[2].partition("</script>")[0]
        shown = [re.sub(r"<(style|script).*?</\1>|<[^>]*>", "\n", text, flags=re.S), *re.findall(r'"([^"]*)"', charts)]
        assert [phrase for one in shown for phrase in re.findall(r"(?:\b[a-z]{2,}[ ,]+){2}[a-z]{2,}", one)] == []


def test_a_report_promises_nothing_of_one_short_recording(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    recording = write_csv(tmp_path / "drive.csv", drive(3, 90))
    with pytest.raises(SystemExit) as stop:
        main(["models", "train", str(recording), "--rung", "pca", "-o", str(tmp_path / "pack"), "--report", str(report)])
    assert not stop.value.code
    words = report.read_text().partition("<script")[0]
    assert "One recording: fitted on 60 ticks of a second, calibrated on another stretch of it, of 30." in words
    assert "so few drives say nothing of others" in words
    assert "expected in a vehicle-month" not in words


def test_a_translation_fills_in_what_the_english_does() -> None:
    for english, chinese in CHINESE.items():
        assert set(re.findall(r"\{(\w+)", english)) == set(re.findall(r"\{(\w+)", chinese)), english


def test_a_browser_draws_it_in_light_and_dark(reports: list[Path], chromium_path: str) -> None:
    complaints: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        sheet: Any = browser.new_page(color_scheme="light", viewport={"width": 420, "height": 800})
        sheet.on("console", lambda message: complaints.append(message.text))
        sheet.on("pageerror", lambda error: complaints.append(str(error)))
        sheet.on("request", lambda request: complaints.append(request.url) if not request.url.startswith("file:") else None)
        for report in reports if os.environ.get("CANSIGHT_SOAK") else reports[1:2]:
            sheet.emulate_media(color_scheme="light")
            sheet.goto(report.as_uri())
            sync_api.expect(sheet.locator(".chart:has(.main-svg)").nth(3)).to_be_attached(timeout=30_000)
            sync_api.expect(sheet.locator(".chart:not(:has(.main-svg))")).to_have_count(0, timeout=30_000)
            ink = sheet.locator(".xtitle").first.evaluate("text => getComputedStyle(text).fill")
            sheet.emulate_media(color_scheme="dark")
            sheet.wait_for_function("ink => getComputedStyle(document.querySelector('.xtitle')).fill !== ink", arg=ink)
            sheet.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert complaints == []
