"""How questions are worded: many phrasings of each kind, about one in five of them kept for the test split.

`{colour}`, `{shape}`, `{shapes}`, `{a}` (a, or an before a vowel) and `{nth}` are filled in. Held-out wordings only use
words that training wordings use too, so that no word of a test question is unseen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .sample import Split


@dataclass(frozen=True, slots=True)
class Wordings:
    """The phrasings of one kind of question, by split."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def _split(train: str, test: str) -> Wordings:
    return Wordings(*(tuple(line.strip() for line in text.strip().splitlines()) for text in (train, test)))


def ask(rng: random.Random, kind: str, split: Split, **slots: str) -> str:
    """One wording of `kind` for `split`, with its slots filled."""
    wordings = WORDINGS[kind]
    return rng.choice(wordings.train if split == "train" else wordings.test).format(**slots)


WORDINGS: dict[str, Wordings] = {
    "read": _split(
        """
        What does it say?
        What does this say?
        What does the picture say?
        Read the text.
        Read this.
        Please read this text.
        Read what is written here.
        What is written here?
        What is written in the picture?
        What is the text?
        What is the text in this picture?
        What text is shown?
        What text do you see?
        What text can you read?
        Which text is in the image?
        What can you read here?
        Can you read this?
        Can you tell me what it says?
        Tell me what is written.
        Write down the text.
        Write what you read.
        Please write out the text in the image.
        Copy the text.
        Transcribe the image.
        Transcribe the text, please.
        What does the sign say?
        text?
        What are the words here?
        """,
        """
        What does the image say?
        Please read the text in this picture.
        What is written in this image?
        Tell me what the text says.
        What can you read in the picture?
        Transcribe this.
        """,
    ),
    "read word": _split(
        """
        What word is shown?
        What word is this?
        What is the word?
        Which word do you see?
        Read the word.
        What word is written here?
        """,
        """
        Which word is this?
        What word do you see?
        """,
    ),
    "read number": _split(
        """
        What number is shown?
        What number is this?
        What is the number?
        Which number do you see?
        Read the number.
        What number is written here?
        """,
        """
        Which number is this?
        What number do you see?
        """,
    ),
    "read letter": _split(
        """
        What letter is shown?
        What letter is this?
        What is the letter?
        Which letter do you see?
        Read the letter.
        What letter is written here?
        """,
        """
        Which letter is this?
        What letter do you see?
        """,
    ),
    "read line": _split(
        """
        What does the {nth} line say?
        Read the {nth} line.
        What is written on the {nth} line?
        What is the text of the {nth} line?
        Tell me what the {nth} line says.
        Please copy the {nth} line.
        What is on the {nth} line?
        """,
        """
        Please read the {nth} line.
        Transcribe the {nth} line.
        """,
    ),
    "count": _split(
        """
        How many shapes are there?
        How many shapes do you see?
        How many shapes are in the picture?
        How many objects are there?
        How many objects are in the image?
        Count the shapes.
        Count the objects in the picture.
        What is the number of shapes?
        Please count the shapes.
        How many things can you see?
        How many shapes does this picture have?
        """,
        """
        How many objects do you see?
        How many shapes are in the image?
        Please count the objects.
        """,
    ),
    "count colour": _split(
        """
        How many {colour} shapes are there?
        How many {colour} shapes do you see?
        How many {colour} objects are in the picture?
        How many shapes are {colour}?
        How many of the shapes are {colour}?
        Count the {colour} shapes.
        What is the number of {colour} shapes?
        How many {colour} things are there?
        """,
        """
        How many {colour} objects do you see?
        Please count the {colour} shapes.
        """,
    ),
    "count shape": _split(
        """
        How many {shapes} are there?
        How many {shapes} do you see?
        How many {shapes} are in the picture?
        Count the {shapes}.
        Please count the {shapes}.
        What is the number of {shapes}?
        How many {shapes} can you see?
        """,
        """
        How many {shapes} are in the image?
        Count the {shapes} in the picture.
        """,
    ),
    "count both": _split(
        """
        How many {colour} {shapes} are there?
        How many {colour} {shapes} do you see?
        How many {colour} {shapes} are in the picture?
        Count the {colour} {shapes}.
        What is the number of {colour} {shapes}?
        How many {colour} {shapes} does the picture have?
        How many {shapes} are {colour}?
        """,
        """
        How many {colour} {shapes} can you see?
        Please count the {colour} {shapes}.
        """,
    ),
    "colour": _split(
        """
        What colour is the {shape}?
        What color is the {shape}?
        Which colour is the {shape}?
        Which color does the {shape} have?
        What is the colour of the {shape}?
        What is the color of the {shape}?
        Tell me the color of the {shape}.
        The {shape} has what colour?
        """,
        """
        Which color is the {shape}?
        What colour does the {shape} have?
        """,
    ),
    "shape": _split(
        """
        What shape is the {colour} one?
        What shape is {colour}?
        Which shape is {colour}?
        What is the {colour} shape?
        What is the shape of the {colour} object?
        What shape does the {colour} object have?
        What kind of shape is the {colour} one?
        Tell me the shape of the {colour} thing.
        """,
        """
        Which shape is the {colour} one?
        What is the shape of the {colour} one?
        """,
    ),
    "describe": _split(
        """
        What is this?
        What do you see?
        What is shown here?
        What is in the picture?
        What is in the image?
        What is there?
        Describe the picture.
        Describe the image.
        What object is this?
        Which object do you see?
        What does the picture show?
        Tell me what you see.
        """,
        """
        What do you see in the picture?
        What object is shown?
        Describe what you see.
        """,
    ),
    "left or right": _split(
        """
        Is the {colour} {shape} on the left or on the right?
        Is the {colour} {shape} in the left or the right half?
        Left or right: where is the {colour} {shape}?
        Is the {colour} {shape} left or right?
        On which side is the {colour} {shape}, left or right?
        """,
        """
        Is the {colour} {shape} on the left or the right side?
        """,
    ),
    "top or bottom": _split(
        """
        Is the {colour} {shape} at the top or at the bottom?
        Is the {colour} {shape} in the top or the bottom half?
        Top or bottom: where is the {colour} {shape}?
        Is the {colour} {shape} top or bottom?
        In which half is the {colour} {shape}, top or bottom?
        """,
        """
        Is the {colour} {shape} in the top half or at the bottom?
        """,
    ),
    "where": _split(
        """
        Where is the {colour} {shape}?
        Where in the picture is the {colour} {shape}?
        Where do you see the {colour} {shape}?
        On which side is the {colour} {shape}?
        Which side of the picture is the {colour} {shape} on?
        Tell me where the {colour} {shape} is.
        At which side of the image is the {colour} {shape}?
        """,
        """
        Where in the image is the {colour} {shape}?
        """,
    ),
    "list": _split(
        """
        List the shapes from left to right.
        Name all shapes from left to right.
        What shapes do you see from left to right?
        Which shapes are there from left to right?
        Tell me all the shapes from left to right.
        Please list all objects from left to right.
        """,
        """
        Please list the shapes from left to right.
        Which shapes do you see from left to right?
        """,
    ),
    "exists": _split(
        """
        Is there {a} {colour} {shape}?
        Is there {a} {colour} {shape} in the picture?
        Do you see {a} {colour} {shape}?
        Can you see {a} {colour} {shape}?
        Does the picture have {a} {colour} {shape}?
        Is {a} {colour} {shape} in the image?
        """,
        """
        Is there {a} {colour} {shape} in the image?
        Do you see {a} {colour} {shape} here?
        """,
    ),
    "exists shape": _split(
        """
        Is there {a} {shape}?
        Is there {a} {shape} in the picture?
        Do you see {a} {shape}?
        Can you see {a} {shape}?
        Does the image have {a} {shape}?
        Is any of the shapes {a} {shape}?
        """,
        """
        Is there {a} {shape} in the image?
        """,
    ),
    "exists colour": _split(
        """
        Is there anything {colour}?
        Is there {a} {colour} shape?
        Is any shape {colour}?
        Do you see anything {colour}?
        Is there {a} {colour} object in the picture?
        Can you see {a} {colour} shape?
        """,
        """
        Is anything {colour} in the picture?
        """,
    ),
    "no shapes": _split(
        """
        What shapes do you see?
        What shapes are there?
        Which shapes are in the picture?
        What is the colour of the shape?
        What color is the shape?
        What shape is shown?
        What shape is this?
        Describe the shapes.
        Tell me which shapes you see.
        """,
        """
        Which shapes do you see?
        What colour is the shape?
        """,
    ),
}
