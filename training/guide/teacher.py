"""A linear classifier of questions, which says what the guide is taught to answer: knowledge distillation.

From a hundred thousand short questions a transformer that begins from nothing learns how their writers write; a linear
classifier of the n-grams of words and letters understands more of what others ask, and cannot write a word. So it
labels what the guide learns from, also questions that are no longer quite what somebody wrote: half of one and half of
another, with words lost and letters swapped. The guide follows it there, which is where visitors ask.

Source: Hinton et al., arXiv:1503.02531: the guide follows all of the teacher's probabilities, which tell more than the
likeliest answer alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Final

from training.guide.corpus import bag, held_out
from training.guide.knowledge import FOREIGN, LANGUAGES, Foreign, Language, intents
from training.guide.tokenizer import levelled

# How sure the teacher is: margins of the classifier times this are its logits. And what speaks for declining, in
# margins, as a wrong answer is worse than none. Both were chosen on the questions of writers, and of files of foreign
# ones, that a teacher had not read; with more doubt near misses of these in Russian, whose words have many forms, are
# declined about as often as in English. A little of it is for the guide, which declines these less often than its
# teacher: over five trainings, by its figures in models/guide/README.md.
_SHARPNESS: Final = 8.0
_DOUBT: Final[dict[Language, float]] = {"en": 0.2, "ru": 0.4}
_LEAST: Final = 0.01  # of the likeliest answer's share; what is less is nothing
_FOREIGN_DRAWN: Final = 3000  # from templates and phrases, which have no end, beside all that were written one by one
_SEED: Final = 5


class Teacher:
    """Knows which answer a question asks for.

    Args:
        questions: what it learns from: for each language, texts and the keys of their answers, three keys at least.
    """

    def __init__(self, questions: dict[Language, list[tuple[str, str]]]) -> None:
        # One after the other: liblinear has one source of chance for all threads, and labels have to be the same again.
        self._classifiers = {language: _fitted(some) for language, some in questions.items()}

    def shares(self, texts: Sequence[str], language: Language) -> list[dict[str, float]]:
        """The keys of the answers that each text may ask for, and how likely each is; those hardly likely left out."""
        import numpy

        if not texts:
            return []
        features, classifier = self._classifiers[language]
        margins = classifier.decision_function(features([levelled(text) for text in texts]))
        logits = _SHARPNESS * (margins + _DOUBT[language] * (classifier.classes_ == FOREIGN))
        odds = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        odds[odds < _LEAST] = 0
        odds /= odds.sum(axis=1, keepdims=True)
        return [{str(classifier.classes_[at]): float(row[at]) for at in row.nonzero()[0]} for row in odds]

    def views(self, words: Sequence[str]) -> Any:
        """What it takes each word by itself for, in every language: an array of a row of length 1 for each word, or of
        zeros where it says nothing, and a column for each answer in each language."""
        import numpy

        found = []
        for features, classifier in self._classifiers.values():
            margins = classifier.decision_function(features([levelled(word) for word in ["", *words]]))
            found.append(margins[1:] - margins[0])
        rows = numpy.concatenate(found, axis=1)
        lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
        return numpy.divide(rows, lengths, out=numpy.zeros_like(rows), where=lengths > 0)


@cache
def teacher() -> Teacher:
    """The teacher of all that the guide knows; it takes a minute."""
    apart = {bag(question.text) for question in held_out()}
    return Teacher({language: _known(language, apart) for language in LANGUAGES})


def _known(language: Language, apart: Collection[tuple[str, ...]]) -> list[tuple[str, str]]:
    """All questions with their keys, but those that are kept for evaluation."""
    chance, foreign = random.Random(_SEED), Foreign()
    found = [(text, intent.key) for intent in intents() for text in intent.ways[language]]
    found += [(text, FOREIGN) for text in foreign.written[language]]
    found += [(foreign.question(language, chance), FOREIGN) for _ in range(_FOREIGN_DRAWN)]
    return [(text, key) for text, key in found if bag(text) not in apart]


def _fitted(questions: list[tuple[str, str]]) -> tuple[_Features, Any]:
    """The features of a text, and the classifier of them."""
    from sklearn.svm import LinearSVC

    texts, keys = [levelled(text) for text, _ in questions], [key for _, key in questions]
    features = _Features(texts)
    return features, LinearSVC(C=0.3, random_state=_SEED).fit(features(texts), keys)


class _Features:
    """What a text is told by: n-grams of letters within its words, its words and pairs of them, by TF-IDF.

    Args:
        texts: all that there are to learn from.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

        self._letters = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2).fit(texts)
        self._weights = TfidfTransformer(sublinear_tf=True).fit(self._counted(texts))
        self._words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts)

    def __call__(self, texts: Sequence[str]) -> Any:
        """A sparse array of a row for each text."""
        from scipy.sparse import hstack

        return hstack([self._weights.transform(self._counted(texts)), self._words.transform(texts)], format="csr")

    def _counted(self, texts: Sequence[str]) -> Any:
        """Of each text how often it has which n-gram of letters. These are counted once for each word, as questions and
        their beginnings have words in common."""
        from scipy.sparse import csr_array

        words: dict[str, int] = {}
        found = [[words.setdefault(word, len(words)) for word in text.split()] for text in texts]
        ends = list(accumulate(map(len, found), initial=0))
        places = [place for row in found for place in row]
        return csr_array(([1] * len(places), places, ends), (len(texts), len(words))) @ self._letters.transform(words)
