"""Cuts a Markdown page into paragraphs under their headings. Pure."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph and the heading it stands under."""

    heading: str
    text: str

    @property
    def document(self) -> str:
        """What is embedded: the heading belongs to the meaning."""
        return f"{self.heading}: {self.text}"


def split_paragraphs(markdown: str) -> list[Paragraph]:
    """The page's paragraphs of prose, each on one line.

    What stands before the first heading of the second level says what the page is, not what the
    page knows, and is left out; so are fenced blocks and tables.
    """
    heading = ""
    found = []
    for block in re.split(r"\n\s*\n", _without_fences(markdown)):
        text = block.strip()
        if text.startswith("## "):
            heading = text.removeprefix("## ").strip()
        elif heading and text and not text.startswith(("#", "|")):
            found.append(Paragraph(heading, " ".join(text.split())))
    return found


def _without_fences(markdown: str) -> str:
    return re.sub(r"^```.*?^```[^\n]*$", "", markdown, flags=re.MULTILINE | re.DOTALL)
