"""Two problems that a recurrent network learns: adding numbers far apart, and the next character of a text."""

from __future__ import annotations

import numpy as np

import numeric

BASELINE = 1 / 6  # mean squared error of the best constant, 1, on the adding problem: the variance of two uniforms


def adding(seed, *, steps=100, batch=32, dtype="float32"):
    """The adding problem (Hochreiter & Schmidhuber 1997) as a function of the step number.

    Inputs (T, B, 2): a number from [0, 1] and a mark, which is 1 at one step of each half; target (B, 1): the sum of
    the two marked numbers, at the last step.
    """

    def batches(k):
        rng = np.random.default_rng([seed, k])
        x = np.zeros((steps, batch, 2), dtype)
        x[:, :, 0] = rng.uniform(size=(steps, batch))
        marks = rng.integers(0, steps // 2, batch), rng.integers(steps // 2, steps, batch)
        for t in marks:
            x[t, np.arange(batch), 1] = 1
        return x, (x[:, :, 0] * x[:, :, 1]).sum(axis=0)[:, None]

    return batches


def remembering(engine, *, seed=0, gate="b_z", **sizes):
    """Parameters with a forget (lstm: b_f) or update (gru: b_z) gate that begins open: nothing is forgotten at once."""
    params = engine.init(seed=seed, **sizes)
    params[gate] += 1
    return params


TEXT = """\
the network reads one letter and guesses the next. when the guess is wrong, the error walks back through time, step
by step, and each weight hears how much of it was its own doing. what is far away is heard faintly, or not at all; what
is near is heard loudly. so the letters of one word are learned first, then the words, and then, with luck, the order
in which the words like to stand. the text is short and the network small, and both are read again and again until
the one knows the other by heart.
"""


def characters(path, *, steps=64, batch=8, seed=0):
    """Next characters of a text file as a function of the step number, and the number of different characters.

    Inputs (T, B, K): one-hot characters of B stretches of the text, begun at random; targets (T, B): those that follow.
    """
    text = path.read_text(encoding="utf-8")
    letters = sorted(set(text))
    codes = np.array([letters.index(c) for c in text])

    def batches(k):
        begins = np.random.default_rng([seed, k]).integers(0, len(codes) - steps, batch)
        window = codes[begins[None, :] + np.arange(steps + 1)[:, None]]  # (T + 1, B)
        return np.eye(len(letters), dtype="float32")[window[:-1]], window[1:]

    return batches, len(letters)


def learn_adding(**options):
    """A GRU on the adding problem at T = 100; the fit and the engine."""
    engine = numeric.Engine("gru", dtype="float32")
    params = remembering(engine, D=2, H=24, O=1)
    given = {"optimizer": numeric.Adam(0.01), "steps": 350, "loss": "squared_error", "at": "last", "clip": 1.0}
    return numeric.fit(engine, params, adding(7), progress=False, **(given | options)), engine


def learn_characters(path, **options):
    """A GRU on the characters of a file; the fit and the engine."""
    engine = numeric.Engine("gru", dtype="float32")
    batches, letters = characters(path)
    params = engine.init(seed=0, D=letters, H=48, O=letters)
    given = {"optimizer": numeric.Adam(0.01), "steps": 200, "clip": 1.0}
    return numeric.fit(engine, params, batches, progress=False, **(given | options)), engine
