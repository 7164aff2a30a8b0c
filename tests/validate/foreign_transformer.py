"""Another engine: one training step of reference_models' vit_tiny in NumPy, written from the layers' formulas.

It sums in NumPy's orders, has its own derivatives, and can be given a defect. Every tensor that it stores has the name
of docs/step_files.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import erf

Array = np.ndarray
HEADS, DEPTH, PATCH = 4, 4, 4
#: Rounds a tensor of a kind (P, Y, G, GP) as it is stored.
Store = Callable[[str, Array], Array]


class Engine:
    """A step from the tensors ``start`` (images, labels, master, velocity). ``defect``: one of DEFECTS, or "" for none.

    ``stored`` has what the step stored, as another program would write it.
    """

    def __init__(
        self, start: Mapping[str, Array], defect: str = "", store: Store = lambda kind, x: x, scale: float = 1.0
    ) -> None:
        self.start, self.defect, self.store, self.scale = start, defect, store, np.float32(scale)
        self.stored: dict[str, Array] = {}
        self.derivatives: list[tuple[tuple[int, ...], Callable[[Array], tuple[Array, ...]]]] = []

    # -- recording --------------------------------------------------------------------------------------------
    def put(self, name: str, x: Array) -> Array:
        self.stored[name] = self.store(name.split("/")[0], np.ascontiguousarray(x, np.float32))
        return self.stored[name]

    def parameter(self, i: int = 0) -> Array:
        """Parameter i of the next op, as the step uses it."""
        op = len(self.derivatives)
        master = self.start[f"master/{op}/{i}"]
        if self.defect == "stale parameter" and op == 65:
            master = master + np.float32(1e-3)  # as it was before an earlier update
        return self.put(f"P/{op}/{i}", master)

    def op(self, y: Array, inputs: tuple[int, ...], derivative: Callable[[Array], tuple[Array, ...]]) -> int:
        """Stores an op's output; ``derivative`` gives the gradients of the inputs. Returns the op's index."""
        self.put(f"Y/{len(self.derivatives)}/0", y)
        self.derivatives.append((inputs, derivative))
        return len(self.derivatives) - 1

    def y(self, op: int) -> Array:
        return self.stored[f"Y/{op}/0"]

    # -- ops --------------------------------------------------------------------------------------------------
    def linear(self, source: int, x: Array | None = None, back: Callable[[Array], Array] = lambda g: g) -> int:
        """``x`` views the output of ``source``, and ``back`` brings its gradient to that shape."""
        op, w, b = len(self.derivatives), self.parameter(), self.parameter(1)
        x = self.y(source) if x is None else x
        used = w.T if self.defect == "transposed weight" and op == 19 else w
        y = x @ used.T + b
        if self.defect == "float16 accumulate" and op == 46:
            y = np.broadcast_to(b.astype(np.float16), y.shape)
            for k in range(x.shape[-1]):
                y = (y + x[..., k : k + 1].astype(np.float16) * used[:, k].astype(np.float16)).astype(np.float16)

        def derivative(g: Array) -> tuple[Array, ...]:
            rows, flat = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
            by_weight = rows.T @ flat if used is not w else flat.T @ rows
            self.put(f"GP/{op}/0", by_weight)
            missing = self.defect == "missing bias gradient" and op == 14
            self.put(f"GP/{op}/1", np.zeros_like(b) if missing else flat.sum(0))
            return (back(g @ used),)

        return self.op(y, (source,), derivative)

    def norm(self, source: int) -> int:
        op, w, b = len(self.derivatives), self.parameter(), self.parameter(1)
        x = self.y(source)
        epsilon = np.float32(1e-6 if self.defect == "epsilon of layer norm" and op == 18 else 1e-5)
        centred = x - x.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + epsilon)
        normal = centred * inverse

        def derivative(g: Array) -> tuple[Array, ...]:
            axes = tuple(range(g.ndim - 1))
            self.put(f"GP/{op}/0", (g * normal).sum(axes))
            self.put(f"GP/{op}/1", g.sum(axes))
            g = g * w
            return (inverse * (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)),)

        return self.op(normal * w + b, (source,), derivative)

    def gelu(self, source: int) -> int:
        x, op = self.y(source), len(self.derivatives)
        if self.defect == "GELU by tanh":
            inner = np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3))
            steep = np.float32(np.sqrt(2 / np.pi)) * (1 + np.float32(3 * 0.044715) * x**2)
            y, slope = x / 2 * (1 + inner), (1 + inner) / 2 + x / 2 * (1 - inner**2) * steep
        else:
            share = (1 + erf(x / np.float32(np.sqrt(2)))) / 2
            y, slope = x * share, share + x * np.exp(-x * x / 2) / np.float32(np.sqrt(2 * np.pi))
        if self.defect == "dropout on" and op == 30:
            kept = (np.random.default_rng(5).random(y.shape) >= 0.1) / np.float32(0.9)
            y, slope = y * kept, slope * kept
        return self.op(y, (source,), lambda g: (g * slope,))

    def heads(self, op: int) -> Array:
        n, tokens, size = self.y(op).shape
        return self.y(op).reshape(n, tokens, HEADS, size // HEADS).transpose(0, 2, 1, 3)

    @staticmethod
    def joined(g: Array) -> Array:
        n, heads, tokens, size = g.shape
        return g.transpose(0, 2, 1, 3).reshape(n, tokens, heads * size)

    def attention(self, source: int) -> int:
        q, k, v = (self.linear(source) for _ in range(3))
        a, b, c = (self.heads(op) for op in (q, k, v))
        factor = np.float32(a.shape[-1] ** -0.5)
        products = self.op(
            a @ b.swapaxes(-1, -2), (q, k), lambda g: (self.joined(g @ b), self.joined(g.swapaxes(-1, -2) @ a))
        )
        wrong = self.defect == "wrong gradient scale" and products == 22
        scaled = self.op(self.y(products) * factor, (products,), lambda g: (g if wrong else g * factor,))
        powers = np.exp(self.y(scaled) - self.y(scaled).max(-1, keepdims=True))
        weights = self.op(
            powers / powers.sum(-1, keepdims=True), (scaled,),
            lambda g: ((g - (g * self.y(weights)).sum(-1, keepdims=True)) * self.y(weights),),
        )  # fmt: skip
        share = self.y(weights)
        values = self.op(
            share @ c, (weights, v), lambda g: (g @ c.swapaxes(-1, -2), self.joined(share.swapaxes(-1, -2) @ g))
        )
        n, _, tokens, size = self.y(values).shape
        return self.linear(
            values, self.joined(self.y(values)), lambda g: g.reshape(n, tokens, HEADS, size).transpose(0, 2, 1, 3)
        )

    def add(self, first: int, second: int) -> int:
        return self.op(self.y(first) + self.y(second), (first, second), lambda g: (g, g))

    # -- the step ---------------------------------------------------------------------------------------------
    def forward(self, images: Array, labels: Array) -> None:
        n, channels, height, width = images.shape
        self.op(images, (), lambda g: ())
        w, b = self.parameter(), self.parameter(1)
        shape = (n, channels, height // PATCH, PATCH, width // PATCH, PATCH)
        patches = self.y(0).reshape(shape).transpose(0, 2, 4, 1, 3, 5).reshape(n, -1, w[0].size)  # (N, T, C P P)
        rows = patches @ w.reshape(len(w), -1).T + b

        def of_patches(g: Array) -> tuple[Array, ...]:
            flat = g.reshape(n, len(w), -1).transpose(0, 2, 1).reshape(-1, len(w))
            self.put("GP/1/0", (flat.T @ patches.reshape(-1, w[0].size)).reshape(w.shape))
            self.put("GP/1/1", flat.sum(0))
            return ()

        grid = rows.transpose(0, 2, 1).reshape(n, len(w), height // PATCH, width // PATCH)
        patch = self.op(grid, (0,), of_patches)
        position = self.parameter()

        def of_position(g: Array) -> tuple[Array, ...]:
            self.put("GP/2/0", g.sum(0))
            return (g.transpose(0, 2, 1).reshape(self.y(patch).shape),)

        x = self.op(self.y(patch).reshape(n, len(w), -1).transpose(0, 2, 1) + position, (patch,), of_position)
        for _ in range(DEPTH):
            x = self.add(x, self.attention(self.norm(x)))
            x = self.add(x, self.linear(self.gelu(self.linear(self.norm(x)))))
        last = self.norm(x)
        tokens = self.y(last).shape[1]
        mean = self.op(
            self.y(last).mean(1, keepdims=True), (last,),
            lambda g: (np.repeat(g / np.float32(tokens), tokens, axis=1),),
        )  # fmt: skip
        logits = self.linear(mean, self.y(mean)[:, 0], lambda g: g[:, None])
        z = self.y(logits) - self.y(logits).max(1, keepdims=True)
        place = (np.arange(n), labels)
        soft = self.op(
            z - np.log(np.exp(z).sum(1, keepdims=True)), (logits,),
            lambda g: (g - np.exp(self.y(soft)) * g.sum(1, keepdims=True),),
        )  # fmt: skip

        def of_loss(g: Array) -> tuple[Array, ...]:
            found = np.zeros_like(self.y(soft))
            found[place] = -g / np.float32(n)
            return (found,)

        self.op(-self.y(soft)[place].mean(keepdims=True), (soft,), of_loss)

    def backward(self) -> None:
        sums: dict[int, Array] = {len(self.derivatives) - 1: self.scale.reshape(1)}
        for op in range(len(self.derivatives) - 1, -1, -1):
            inputs, derivative = self.derivatives[op]
            g = sums.pop(op, None)
            if g is None:
                continue
            if op < len(self.derivatives) - 1:
                g = self.put(f"G/{op}/0", g)
            for source, part in zip(inputs, derivative(g), strict=False):
                sums[source] = part + sums[source] if source in sums else part

    def step(self, rule: Mapping[str, float]) -> dict[str, Array]:
        """Both passes and the update of stochastic gradient descent. Returns everything for the file."""
        f, start = np.float32, self.start
        self.forward(start["images"], start["labels"])
        self.backward()
        if self.defect == "swapped tensors":
            gradients = self.stored
            gradients["GP/19/0"], gradients["GP/20/0"] = gradients["GP/20/0"], gradients["GP/19/0"]
        for name in [name for name in start if name.startswith("master/")]:
            place = name.partition("/")[2]
            master, velocity = start[name], start[f"velocity/{place}"]
            decay = f(0 if self.defect == "weight decay missing" else rule["weight_decay"])
            whole = self.stored[f"GP/{place}"].reshape(master.shape) / self.scale + decay * master
            self.stored[f"next_master/{place}"] = master - f(rule["rate"]) * (f(rule["momentum"]) * velocity + whole)
        return {**{name: start[name] for name in start}, **self.stored}


def start_of(tensors: Mapping[str, Any]) -> dict[str, Array]:
    """What a step starts from, of a recorded one."""
    kinds = ("images", "labels", "master", "velocity")
    return {name: array for name, array in tensors.items() if name.split("/")[0] in kinds}
