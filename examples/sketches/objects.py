"""Thirteen things that people doodle, as strokes.

A stroke is what a pen draws before it is lifted: points float64 [P, 2], x to the right and y down.
The unit is about half the height of a thing; where its middle lies does not matter. Each thing is a
function that adds its strokes to a doodle. Proportions, and which parts there are, come from the
doodle's generator: they say what is meant, and the hand in draw.py how well it comes out. Angles
are in turns: 0 points right, 1/4 down. `s` is the side, -1 for left and 1 for right.
"""

from collections.abc import Callable

import numpy as np

Stroke = np.ndarray
Rng = np.random.Generator
SIDES = (-1, 1)

# --- Strokes


def line(*points: tuple[float, float]) -> Stroke:
    """Straight from each point to the next."""
    return np.array(points, dtype=float)


def box(left: float, top: float, right: float, bottom: float) -> Stroke:
    return line((left, top), (right, top), (right, bottom), (left, bottom), (left, top))


def arc(x: float, y: float, rx: float, ry: float, start: float, sweep: float) -> Stroke:
    """A part of an ellipse about (x, y)."""
    angle = 2 * np.pi * np.linspace(start, start + sweep, 32)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def cloud(x: float, y: float, rx: float, ry: float, start: float, bumps: int) -> Stroke:
    """A whole ellipse with bumps, or without."""
    t = np.linspace(0, 1, 32 + 12 * bumps)
    size, angle = 1 + 0.2 * np.abs(np.sin(np.pi * bumps * t)), 2 * np.pi * (start + t)
    return np.stack([x + size * rx * np.cos(angle), y + size * ry * np.sin(angle)], axis=1)


def curve(*points: tuple[float, float]) -> Stroke:
    """The Bezier curve of these control points."""
    t = np.linspace(0, 1, 24)[:, None, None]
    x = line(*points)[None]  # [1, points, 2]
    while x.shape[1] > 1:  # de Casteljau: between each two neighbours, until one point is left
        x = (1 - t) * x[:, :-1] + t * x[:, 1:]
    return x[:, 0]


def rays(inner: float, lengths: np.ndarray, start: float) -> list[Stroke]:
    """Short lines outwards, evenly round a circle about (0, 0), one for each length."""
    turns = start + np.arange(len(lengths)) / len(lengths)
    return [
        turned(line((inner, 0), (inner + length, 0)), turn)
        for length, turn in zip(lengths, turns, strict=True)
    ]


def turned(stroke: Stroke, turn: float) -> Stroke:
    """The stroke, or strokes [..., 2], turned about (0, 0)."""
    c, s = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    return stroke @ np.array([[c, s], [-s, c]])


class Doodle:
    """The strokes of a thing so far, and the generator that decides what comes next."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.strokes = rng, list[Stroke]()
        self.between = rng.uniform

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def some(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most, endpoint=True))

    def add(self, *strokes: Stroke) -> None:
        self.strokes += strokes

    def both(self, stroke: Stroke) -> None:
        """Add the stroke, and its mirror image on the other side of x = 0."""
        self.add(stroke, stroke * (-1, 1))

    def ring(self, x: float, y: float, rx: float, ry: float | None = None) -> None:
        """Add a whole ellipse, or a circle, begun anywhere."""
        start, way = self.rng.random(), self.rng.choice(SIDES)
        self.add(arc(x, y, rx, rx if ry is None else ry, start, way))

    def smoke(self, x: float, y: float) -> None:
        """Add one to three wisps that rise from (x, y)."""
        high, wide = self.between(0.3, 0.6), self.between(0.1, 0.25)
        wisp = curve((x, y), (x + wide, y - high / 3), (x - wide, y - high * 2 / 3), (x, y - high))
        self.add(*(wisp + np.array([0.25 * i, 0]) for i in range(self.some(1, 3))))


# --- The things


def bicycle(d: Doodle) -> None:
    r, apart, low = d.between(0.38, 0.6), d.between(0.7, 0.95), d.chance(0.25)
    back, front, pedals = (-apart, 0), (apart, 0), (d.between(-0.15, 0.05), 0.08)
    saddle = (d.between(-0.45, -0.3), d.between(-0.85, -0.65))
    steer = (apart - d.between(0.15, 0.4), d.between(-0.85, -0.6))
    top = (steer[0] - 0.04, steer[1] - d.between(0.1, 0.25))
    grip = (top[0] + d.between(-0.3, 0.25), top[1] + d.between(-0.1, 0.15))
    d.ring(*back, r)
    d.ring(*front, r)
    d.add(line(back, pedals, saddle, back), line(front, steer, top, grip))
    d.add(curve(pedals, (0.2, 0.05), steer) if low else line(saddle, steer, pedals))
    d.add(line((saddle[0] - 0.15, saddle[1] - 0.08), (saddle[0] + 0.17, saddle[1] - 0.08)))
    if d.chance(0.4):
        spokes = rays(0.03, np.full(d.some(5, 9), r - 0.05), d.rng.random())
        d.add(*(spoke + wheel for wheel in (back, front) for spoke in spokes))
    if d.chance(0.5):
        d.ring(*pedals, 0.11)


def boat(d: Doodle) -> None:
    w, deep, lean = d.between(0.75, 1.1), d.between(0.25, 0.45), d.between(0.15, 0.4)
    if d.chance(0.5):
        d.add(line((-w, 0), (w, 0), (w - lean, deep), (lean - w, deep), (-w, 0)))
    else:
        d.add(line((-w, 0), (w, 0)), curve((-w, 0), (-w, 1.5 * deep), (w, 1.5 * deep), (w, 0)))
    x = d.between(-0.25, 0.25)  # of the mast or the funnel
    if d.chance(0.7):
        top = -d.between(0.9, 1.5)
        d.add(line((x, 0), (x, top)))
        for s in d.rng.permutation(SIDES)[: d.some(1, 2)]:  # a sail, or two
            far, foot = x + s * d.between(0.45, 0.75), d.between(-0.2, -0.08)
            leech = (x + s * d.between(0.2, 0.7), top * d.between(0.4, 0.8))
            d.add(curve((x, top * 0.95), leech, (far, foot)), line((far, foot), (x, foot)))
        if d.chance(0.4):  # a flag
            d.add(line((x, top), (x, top - 0.25), (x + 0.25, top - 0.15), (x, top - 0.05)))
    else:
        cabin, high, tall = w * d.between(0.4, 0.65), d.between(0.25, 0.45), d.between(0.6, 0.9)
        d.add(line((-cabin, 0), (-cabin, -high), (cabin, -high), (cabin, 0)))
        d.add(line((x, -high), (x, -tall), (x + 0.2, -tall), (x + 0.2, -high)))
        for porthole in cabin * np.linspace(-0.6, 0.6, d.some(0, 3)):
            d.ring(porthole, -high / 2, 0.08)
        if d.chance(0.6):
            d.smoke(x + 0.05, -tall - 0.05)
    for i in range(d.some(0, 2)):  # waves
        sea = np.linspace(-w, w, 80) * d.between(0.9, 1.3)
        wave = d.between(0.03, 0.07) * np.sin(sea * d.between(10, 18))
        d.add(np.stack([sea, deep * 1.15 + 0.12 * i + wave], axis=1))


def clock(d: Doodle) -> None:
    if d.chance(0.75):
        d.ring(0, 0, 1)
    else:
        d.add(box(-1, -1, 1, 1))
    if d.chance(0.4):
        d.ring(0, 0, d.between(0.8, 0.9))
    for ticks, probability in ((4, 0.8), (12, 0.5)):
        if d.chance(probability):
            d.add(*rays(0.62, np.full(ticks, d.between(0.06, 0.16)), 0))
    for hand in (d.between(0.3, 0.45), d.between(0.5, 0.65)):
        d.add(*rays(0, np.array([hand]), d.rng.random()))
    extra = d.rng.choice(["none", "alarm", "nail", "pendulum"])
    if extra == "alarm":
        d.both(line((0.6, 0.85), (0.85, 1.2)))
        d.both(turned(arc(0, -1.08, 0.38, 0.3, 0.5, 0.5), 0.1))
        d.both(turned(line((-0.38, -1.08), (0.38, -1.08)), 0.1))
    elif extra == "nail":
        d.add(line((-0.3, -1.02), (0, -1.4), (0.3, -1.02)))
    elif extra == "pendulum":
        x, y = d.between(-0.4, 0.4), d.between(1.6, 1.9)
        d.add(line((0, 1), (x, y)))
        d.ring(x, y + 0.18, 0.18)


def cup(d: Doodle) -> None:
    w, h, rim = d.between(0.5, 0.85), d.between(0.5, 1), d.between(0.08, 0.2)
    foot, belly = w * d.between(0.4, 1), d.between(-0.9, 0.9)
    d.both(curve((w, -h), (w, h * belly), (foot, h)))
    d.add(arc(0, h, foot, rim * d.between(0, 0.8), 0.5, -0.5))
    if d.chance(0.7):
        d.ring(0, -h, w, rim)
    else:
        d.add(line((-w, -h), (w, -h)))
    middle, side, reach = h * d.between(-0.3, 0), w * 0.95, w + d.between(0.4, 0.8)
    for half in h * d.between(0.3, 0.5) * np.array([1, 0.6][: d.some(1, 2)]):  # the handle
        high, low = middle - half, middle + half
        d.add(curve((side, high), (reach, high - 0.2), (reach, low + 0.2), (side * 0.9, low)))
    if d.chance(0.45):
        d.smoke(-w * 0.4, -h - rim - 0.08)
    if d.chance(0.3):  # a saucer
        d.add(arc(0, h, w * 1.4, 0.25, 0.52, -0.54))
    if d.chance(0.3):  # a stripe
        d.add(arc(0, d.between(-0.3, 0.1) * h, w * 0.9, rim, 0.5, -0.5))


def envelope(d: Doodle) -> None:
    w, h = d.between(0.8, 1), d.between(0.5, 0.8)
    flap, kind = h * d.between(-0.2, 0.4), d.rng.choice(["back", "open", "front"])
    d.add(box(-w, -h, w, h))
    if kind == "front":
        size, left = d.between(0.25, 0.4), d.between(-0.7, -0.1)
        d.add(box(w - 0.1 - size, 0.1 - h, w - 0.1, 0.1 - h + size * 1.1))
        for y in np.linspace(0.05, 0.6, d.some(2, 4)) * h:
            d.add(line((left, y), (left + d.between(0.5, 0.8), y)))
        return
    d.add(line((-w, -h), (0, flap), (w, -h)))
    if kind == "open":
        d.add(line((-w, -h), (0, -h - d.between(0.5, 0.8)), (w, -h)))
    if d.chance(0.4):
        d.both(line((w, h), (w * 0.25, flap - 0.2 * h)))
    if d.chance(0.3):  # a seal
        d.ring(0, flap, d.between(0.1, 0.2))


def fish(d: Doodle) -> None:
    h, end, fork = d.between(0.35, 0.7), d.between(1.1, 1.3), d.between(0.25, 0.5)
    nose, belly = d.between(-0.9, -0.5), h * d.between(1.1, 1.4)
    d.add(curve((-1, 0), (nose, -h * 1.4), (0.4, -h * 1.4), (0.8, -0.05)))
    d.add(curve((-1, 0), (nose, belly), (0.4, belly), (0.8, 0.05)))
    if d.chance(0.6):
        notch = (end - d.between(0, 0.2), 0)
        d.add(line((0.8, -0.05), (end, -fork), notch, (end, fork), (0.8, 0.05)))
    else:
        d.add(*(curve((0.8, s * 0.05), (0.9, s * fork), (end, s * fork)) for s in SIDES))
        d.add(curve((end, -fork), (end - 0.3, 0), (end, fork)))
    d.ring(-0.65, -0.12 * h, d.between(0.04, 0.1))
    if d.chance(0.6):  # gills
        d.add(arc(-0.5, 0, 0.12, h * 0.6, -0.25, 0.5))
    if d.chance(0.5):  # a mouth
        d.add(curve((-0.95, 0.1), (-0.85, 0.15), (-0.75, 0.1)))
    if d.chance(0.6):  # fins
        d.add(curve((-0.3, -h), (0.1, -h - d.between(0.3, 0.6)), (0.35, -h * 0.8)))
    if d.chance(0.5):
        d.add(line((-0.2, 0.1 * h), (0.15, 0.45 * h), (0.1, 0.05 * h)))
    if d.chance(0.4):  # scales
        for x in np.linspace(-0.15, 0.5, d.some(2, 4)):
            d.add(*(arc(x, s * 0.25 * h, 0.08, 0.1, -0.25, 0.5) for s in SIDES))
    for i in range(d.some(0, 3)):  # bubbles
        d.ring(-1.1 - 0.1 * i, -0.3 - 0.2 * i, 0.05)


def flower(d: Doodle) -> None:
    r, long, petals = d.between(0.13, 0.28), d.between(0.25, 0.45), d.some(5, 8)
    ground, bend = d.between(1.2, 1.9), d.between(-0.4, 0.4)
    d.ring(0, 0, r)
    if d.chance(0.6):
        petal = arc(r + long / 2, 0, long / 2, np.pi * r / petals + d.between(0.03, 0.09), 0.5, 1)
        d.add(*(turned(petal, i / petals) for i in range(petals)))
    else:
        d.add(cloud(0, 0, r + long * 0.6, r + long * 0.6, d.rng.random(), petals))
    stem = curve((0, r + long * 0.9), (bend, 1), (0, ground))
    d.add(stem)
    for s in d.rng.permutation(SIDES)[: d.some(0, 2)]:  # leaves
        x, y = stem[d.some(12, 20)]
        tip = (x + s * d.between(0.35, 0.6), y - d.between(0.1, 0.4))
        d.add(curve((x, y), (x, tip[1]), tip), curve((x, y), (tip[0], y), tip))
    if d.chance(0.25):  # a pot
        brim, low = (0.4, ground), ground + d.between(0.4, 0.6)
        d.add(line((-0.4, ground), brim, (0.28, low), (-0.28, low), (-0.4, ground), brim))


def house(d: Doodle) -> None:
    w, h, roof = d.between(0.6, 1), d.between(0.6, 1), d.between(0.45, 0.9)
    edge, ridge = w + d.between(0, 0.25), max(0, d.between(-0.4, 0.5))
    d.add(line((-w, 0), (-w, h), (w, h), (w, 0)))
    d.add(line((-edge, 0), (-ridge, -roof), (ridge, -roof), (edge, 0), (-edge, 0)))
    parts = d.some(1, 3)  # of the front: one has the door, others windows
    half, door = min(w / parts / 2, 0.25), d.some(0, 3)
    for i, x in enumerate(w * (np.arange(1, 2 * parts, 2) / parts - 1)):
        top, low = h * 0.25, h * 0.25 + 1.8 * half * h
        if i == door:
            d.add(line((x - half, h), (x - half, h * 0.4), (x + half, h * 0.4), (x + half, h)))
        elif d.chance(0.8):
            d.add(box(x - half, top, x + half, low))
            if d.chance(0.6):
                d.add(line((x, top), (x, low)))
                d.add(line((x - half, (top + low) / 2), (x + half, (top + low) / 2)))
    if d.chance(0.5):  # a chimney, which stands on the slope
        x, y = edge - (edge - ridge) * d.between(0.4, 0.7), -roof * d.between(1, 1.3)
        slope = roof / (edge - ridge)
        d.add(line((x, slope * (x - edge)), (x, y), (x + 0.18, y)))
        d.add(line((x + 0.18, y), (x + 0.18, slope * (x + 0.18 - edge))))
        if d.chance(0.5):
            d.smoke(x + 0.05, y - 0.05)
    if d.chance(0.25):  # a round window under the roof
        d.ring(0, -roof * 0.45, 0.12)
    if d.chance(0.3):  # the ground
        d.add(line((-w - d.between(0.1, 0.4), h), (w + d.between(0.1, 0.4), h)))


def key(d: Doodle) -> None:
    r, long, thick = d.between(0.28, 0.45), d.between(0.8, 1.6), max(0, d.between(-0.1, 0.1))
    head = d.rng.choice(["ring", "clover", "box"], p=[0.6, 0.2, 0.2])
    if head == "ring":
        d.ring(0, 0, r, r * d.between(0.8, 1.3))
    else:
        d.add(cloud(0, 0, r, r, 1 / 6, 3) if head == "clover" else box(-r, -r, r, r))
    if d.chance(0.7):
        d.ring(-0.1 * r, 0, r * d.between(0.3, 0.7))
    end, deep = r + long, thick + d.between(0.15, 0.35)
    d.add(line((r, -thick), (end, -thick), (end, thick), (r, thick)))
    if d.chance(0.5):
        for x in end - d.between(0.13, 0.22) * np.arange(d.some(2, 4)):
            d.add(line((x, thick), (x, deep * d.between(0.7, 1))))
    else:  # one piece, with a notch
        x = end - d.between(0.3, 0.5) * np.array([0, 0, 0.3, 0.3, 0.7, 0.7, 1, 1])
        y = np.array([thick, deep, deep, deep / 2, deep / 2, deep, deep, thick])
        d.add(np.stack([x, y], axis=1))
    turn = d.rng.random()
    d.strokes = [turned(stroke, turn) for stroke in d.strokes]


def mushroom(d: Doodle) -> None:
    w, high, long = d.between(0.6, 1.1), d.between(0.5, 1.2), d.between(0.6, 1.2)
    stem, foot, under = w * d.between(0.15, 0.4), w * d.between(0.2, 0.5), d.between(-0.05, 0.3)
    d.add(arc(0, 0, w, high, 0.5, 0.5), arc(0, 0, w, under, 0.5, -0.5))
    d.both(curve((stem, under * 0.9), (stem, long / 2), (foot, long)))
    d.add(arc(0, long, foot, d.between(0, 0.15), 0.5, -0.5))
    spots = d.some(0, 5)
    for turn in 0.5 + 0.5 * (np.arange(spots) + 0.5) / max(1, spots):
        x, y = arc(0, 0, w, high, turn, 0)[0] * d.between(0.3, 0.8)
        d.ring(x, y, d.between(0.05, 0.12))
    if d.chance(0.3):  # gills
        for x in (0.25, 0.55):
            d.both(line((x * stem, 0), (x * w, under * 0.7)))
    if d.chance(0.3):  # the skirt round the stem
        d.add(arc(0, under + 0.2 * long, stem * 1.5, 0.12, 0.5, -0.5))
    if d.chance(0.3):  # grass
        for x in d.between(-0.8, 0.8, 4):
            d.add(line((x - 0.08, long - 0.18), (x, long + 0.05), (x + 0.1, long - 0.2)))


def sun(d: Doodle) -> None:
    r, beams = d.between(0.35, 0.65), d.some(7, 15)
    lengths = d.between(0.2, 0.5) * d.between(0.8, 1.2, beams)
    if d.chance(0.3):
        lengths[::2] *= 0.5
    gap, start = d.between(0.02, 0.15), d.rng.random()
    kind = d.rng.choice(["rays", "triangles", "flames", "rising"], p=[0.5, 0.2, 0.15, 0.15])
    if kind == "rising":  # above the horizon
        d.add(arc(0, 0, r, r, 0.5, 0.5), line((-1.2, 0), (1.2, 0)))
        d.add(*(ray for ray in rays(r + gap, lengths, start) if ray[0, 1] < -0.05))
        return
    d.ring(0, 0, r)
    if kind == "rays":
        d.add(*rays(r + gap, lengths, start))
    for turn in start + np.arange(beams) / beams:
        if kind == "triangles":
            tip, side = (r + lengths[0], 0), 0.8 * np.pi * r / beams
            d.add(turned(line((r + gap, -side), tip, (r + gap, side)), turn))
        elif kind == "flames":
            flame = curve((r + gap, 0), (r + 0.2, 0.15), (r + 0.3, -0.15), (r + 0.45, 0))
            d.add(turned(flame, turn))
    if d.chance(0.3):  # a face
        for s in SIDES:
            d.ring(s * 0.35 * r, -0.2 * r, 0.07 * r)
        d.add(arc(0, 0.1 * r, 0.45 * r, d.between(0.2, 0.45) * r, 0.5, -0.5))


def tree(d: Doodle) -> None:
    trunk, foot, high = d.between(0.08, 0.18), d.between(0.1, 0.3), d.between(0.5, 1)
    kind = d.rng.choice(["leafy", "fir", "bare"], p=[0.5, 0.3, 0.2])
    if kind == "leafy":
        w, h, bumps = d.between(0.6, 0.9), d.between(0.5, 0.8), d.rng.choice([0, 6, 7, 9, 11])
        d.add(cloud(0, -h, w, h, 0.25, bumps))
        d.both(line((trunk, 0.1), (foot, high)))
        for _ in range(d.some(0, 5)):  # apples
            d.ring(d.between(-0.6, 0.6) * w, d.between(-1.6, -0.4) * h, 0.07)
    elif kind == "fir":
        tiers = d.some(1, 4)
        side = [(0.0, -1.5)]
        for i in range(1, tiers + 1):
            wide, y = d.between(0.5, 0.8) * (i + 1) / (tiers + 1), 1.5 * i / tiers - 1.5
            side += [(wide, y), (wide * 0.5, y)]
        d.both(line(*side))
        d.both(line((trunk, 0), (trunk, high / 2)))
        d.add(line((-side[-1][0], 0), side[-1]))
    else:
        d.both(curve((foot, high), (trunk, 0.3), (trunk * 0.5, -0.4)))
        for s in np.resize(SIDES, d.some(4, 7)):
            x, y, up = s * d.between(0.4, 0.8), d.between(-0.4, 0.25), d.between(0.3, 0.6)
            d.add(curve((s * trunk * 0.6, y), (x * 0.4, y - up * 0.3), (x, y - up)))
            d.add(line((x * 0.6, y - up * 0.5), (x * 0.7, y - up * 1.2)))
    if d.chance(0.3):  # the ground
        ground = high / 2 if kind == "fir" else high
        d.add(line((-foot - 0.3, ground), (foot + 0.3, ground)))


def umbrella(d: Doodle) -> None:
    w, high, panels = d.between(0.85, 1.1), d.between(0.6, 1), d.some(3, 6)
    rise, half, end = max(0, d.between(-0.05, 0.2)), w / panels, d.between(0.7, 1.3)
    d.add(arc(0, 0, w, high, 0.5, 0.5))
    for x in np.arange(1, 2 * panels, 2) * half - w:
        d.add(arc(x, 0, half, rise, 0.5, 0.5))
    if d.chance(0.6):  # ribs
        for x in np.arange(2, 2 * panels, 2) * half - w:
            d.add(curve((0, -high), (x, -high * 0.8), (x, 0)))
    hook = d.between(0.12, 0.22)
    d.add(line((0, d.rng.choice([-high, 0])), (0, end)))
    d.add(arc(hook, end, hook, hook, 0.5, -d.between(0.4, 0.65)))
    if d.chance(0.6):  # its tip
        d.add(line((0, -high), (0, -high - d.between(0.1, 0.25))))
    turn = d.rng.normal(0, 0.06)
    d.strokes = [turned(stroke, turn) for stroke in d.strokes]


OBJECTS: tuple[Callable[[Doodle], None], ...] = (
    *(bicycle, boat, clock, cup, envelope, fish, flower),
    *(house, key, mushroom, sun, tree, umbrella),
)
