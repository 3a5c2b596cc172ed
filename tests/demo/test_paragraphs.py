from pathlib import Path

from sagepool_demo.paragraphs import Paragraph, split_paragraphs
from sagepool_demo.search import QUESTIONS

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts.md"


def test_paragraphs_carry_the_heading_that_they_stand_under() -> None:
    page = "# Page\n\nwhat it is\n\n## One\n\nfirst\nline\n\nsecond\n\n## Two\n\nthird\n"
    assert split_paragraphs(page) == [
        Paragraph("One", "first line"),
        Paragraph("One", "second"),
        Paragraph("Two", "third"),
    ]


def test_fenced_blocks_and_tables_are_no_paragraphs() -> None:
    page = "## One\n\n```yaml\na: 1\n\nb: 2\n```\n\n| a | b |\n|---|---|\n\nprose\n"
    assert split_paragraphs(page) == [Paragraph("One", "prose")]


def test_every_question_of_the_demo_has_its_paragraph_in_the_text() -> None:
    headings = {paragraph.heading for paragraph in split_paragraphs(CONCEPTS.read_text())}
    assert {question.heading for question in QUESTIONS} <= headings
