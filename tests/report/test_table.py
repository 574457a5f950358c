"""One table, four ways to write it."""

from html.parser import HTMLParser

import pytest

from lab.report.pages.html import Page, Pairs, Pictures, Points, Text, item_html, page_html
from lab.report.tables.table import Column, Row, Table

AUC = Column(title="AUC", decimals=2, direction="higher", count="30")
BIAS = Column(title="bias", unit="ml", decimals=1, direction="nearer to 0", signed=True, group="volume")
ROWS = [
    Row(cells=["net <a>|b", AUC.interval(0.7123, 0.5, 0.9, strong=True), -0.01, "seen"], kind="baseline first"),
    Row(cells=["plain_net", None, 2.0, "not seen"]),
]


@pytest.fixture
def table() -> Table:
    columns = [Column(title=""), AUC, BIAS, Column(title="words")]
    return Table(columns=columns, rows=ROWS, title="Title", notes=["{best}: best of its column."], stacked=True)


class Texts(HTMLParser):
    """Fails on a tag that is closed out of order; keeps the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_well_formed_and_escaped(table):
    html = item_html(table)
    assert {"net <a>|b", "0.71", "0.50 to 0.90", "+2.0", "-", "bold: best of its column."} <= set(Texts(html).texts)
    assert "<a>" not in html
    assert '<tr class="baseline first">' in html
    assert '<th colspan="1" scope="colgroup">volume</th>' in html


def test_markdown_keeps_its_columns(table):
    lines = [line.replace("\\|", "") for line in table.markdown().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {5}
    assert "**0.71** (0.50 to 0.90)" in table.markdown()
    assert "plain\\_net" in table.markdown()


def test_text_is_aligned_and_no_wider_than_asked(table):
    assert "0.71*" in table.text()
    assert "*: best of its column." in table.text()
    for width in (40, 60, 120):
        assert max(map(len, table.text(width).splitlines())) <= width


def test_csv_is_unrounded(table):
    assert table.csv().splitlines()[1] == "net <a>|b,0.7123,-0.01,seen"


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("lower", [1.0, 1.004, 2.0], [True, True, False]),
        ("higher", [1.0, 2.0, float("nan")], [False, True, False]),
        ("nearer to 0", [-0.5, 0.2, 3.0], [False, True, False]),
        ("nearer to 1", [0.5, 1.2, 3.0], [False, True, False]),
        ("none", [1.0, 2.0, 3.0], [False, False, False]),
        ("lower", [1.0, 1.001, 1.0], [False, False, False]),
    ],
)
def test_the_best_follows_the_direction_to_the_digits_shown(direction, values, best):
    assert Column(title="x", decimals=2, direction=direction).best(values) == best


def test_numbers_as_they_are_shown():
    assert AUC.show(-0.001) == "0.00"
    assert Column(title="x", decimals=0, percent=True).show(0.254) == "25"
    assert [BIAS.show(value) for value in (1, -1.25, None, float("nan"), float("inf"))] == [
        "+1.0",
        "-1.2",
        "-",
        "-",
        "-",
    ]


@pytest.mark.parametrize("phantom", [True, False])
def test_a_page_has_what_it_holds_and_leaves_out_the_rest(table, phantom):
    sections = {
        "Words & all": [Text("why <b>?"), Points(["one", ("term", "meaning")]), Pairs({"x": 1.5, "y": ["a", "b"]})],
        "Table": [table],
        "Pictures": [Pictures({"A <caption>": b"\x89PNG\r\n\x1a\n" + bytes(8) + (300).to_bytes(4, "big")}, dpi=150)],
        "Left empty": [],
    }
    html = page_html(Page(title="Study", phantom=phantom, sections=sections))
    texts = Texts(html).texts
    assert {"Words & all", "why <b>?", "one", "term", "1.5", "a, b", "A <caption>"} <= set(texts)
    assert "Left empty" not in html
    assert ("simulated" in html) == phantom
    assert 'href="#words-&amp;-all"' in html
    assert 'width="192"' in html
