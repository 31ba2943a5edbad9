"""From a row's fields to the prompt that a language model goes on from."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from euds.errors import InvalidArgument, nearest
from euds.measures.tokens import CHARS_PER_TOKEN_CAP, Encoded, ModelTokenizer
from euds.texts import joined

TEMPLATES = ("continuation", "labels", "question")
"""Templates by name: go on with the text; name its label; answer a question."""

_PLACE = re.compile(r"\{(text|labels|[0-9]+)\}")


def template_of(template: str, fields: Sequence[str]) -> str:
    """Return the template with places in braces: {text}, all fields joined by newlines; {labels}; {1} or {2}, a field.

    Args:
        template: one of `TEMPLATES`, or a template of one's own, which names fields by their names; {text} and {labels}
            mean the above even where a field has that name.
        fields: the text fields; for "question", the question and, if there are two, what it is about.

    Raises:
        InvalidArgument: a template of one's own has an unknown place, or none for the text.
    """
    if template == "continuation":
        return "{text}"
    if template == "labels":
        return "Text: {text}\nLabel ({labels}):"
    if template == "question":
        return "Question: {1}\nAnswer:" if len(fields) == 1 else "{2}\n\nQuestion: {1}\nAnswer:"
    known = {**{field: str(at) for at, field in enumerate(fields, 1)}, "text": "text", "labels": "labels"}
    # Names of fields may be any characters; what else stands in braces is a place only if it is one word.
    named = re.compile(rf"\{{({'|'.join(map(re.escape, known))}|\w+)\}}")
    places = named.findall(template)
    for place in places:
        if place not in known:
            raise InvalidArgument(
                f"template: unknown place {{{place}}}{nearest(place, known)}; known: {', '.join(known)}"
            )
    if set(places) <= {"labels"}:
        raise InvalidArgument(
            f"template: {template!r} is not one of {', '.join(TEMPLATES)} and has no place for the text, as {{text}}"
        )
    return named.sub(lambda place: f"{{{known[place[1]]}}}", template)


class PromptEncoder:
    """Fills a template and encodes it; a prompt that is too long loses the end of its longest field.

    Args:
        folder: model folder.
        template: with places in braces, as `template_of` returns it.
        labels: the label words for {labels}.
        max_tokens: most tokens of a prompt, any BOS token included, >= 1.
    """

    def __init__(self, folder: Path, template: str, labels: Sequence[str], max_tokens: int) -> None:
        self.tokens = ModelTokenizer(folder, None)
        self.template = template
        self.labels = " or ".join(labels)
        self.max_tokens = max_tokens

    def encode(self, fields: Mapping[str, str]) -> Encoded:
        """Return the prompt's ids and whether a field was cut; no ids if even an empty field leaves too many.

        Args:
            fields: texts by name, in the order of the template's numbers.
        """
        given = {str(at): text for at, text in enumerate(fields.values(), 1)} | {"text": joined(fields.values())}
        places = [place for place in _PLACE.findall(self.template) if place != "labels"]
        values = {place: self._start(given[place]) for place in places}
        ids = self._ids(values)
        if len(ids) <= self.max_tokens:
            return Encoded(ids, any(len(values[place]) < len(given[place]) for place in places))
        pieces = {name: self.tokens.encode([value])[0].ids for name, value in values.items()}
        while len(ids) > self.max_tokens:
            longest = max(pieces, key=lambda name: len(pieces[name]))
            if not pieces[longest]:
                return Encoded([], truncated=True)
            # They only ever get fewer, even if their text is more tokens than they were.
            del pieces[longest][self.max_tokens - len(ids) :]
            shorter: Any = self.tokens.tokenizer.decode(pieces[longest])
            # Half a character would come back as other tokens than were cut.
            values[longest] = shorter.rstrip("\N{REPLACEMENT CHARACTER}")
            ids = self._ids(values)
        return Encoded(ids, truncated=True)

    def followed_by(self, words: Sequence[str]) -> list[list[int]]:
        """Return each word's tokens where it follows a prompt, after a space unless the template ends in a line break.

        They are those that the word adds to a short prompt; where it changes the prompt's own, those of the word alone.
        """
        gap = "" if self.template[-1:].isspace() else " "
        stand_in = {place: "a" for place in _PLACE.findall(self.template) if place != "labels"}
        whole = [self._ids(stand_in, gap + word) for word in words]
        alone = self.tokens.encode([gap + word for word in words])
        before = self._ids(stand_in)
        n = len(before)
        return [ids[n:] if ids[:n] == before else other.ids for ids, other in zip(whole, alone, strict=True)]

    def _start(self, text: str) -> str:
        """Return a text without an end that no prompt could hold, so that no book is tokenised for one page."""
        chars = self.max_tokens * CHARS_PER_TOKEN_CAP
        while chars < len(text) and len(self.tokens.encode([text[:chars]])[0].ids) <= self.max_tokens:
            chars *= 2
        return text[:chars]

    def _ids(self, values: Mapping[str, str], after: str = "") -> list[int]:
        known = {**values, "labels": self.labels}
        prompt = _PLACE.sub(lambda place: known[place[1]], self.template) + after
        ids = self.tokens.encode([prompt])[0].ids
        bos = self.tokens.bos_id
        # Chat markup may bring its own.
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]
