"""Which sums are residual, and where their branches begin and end: decided here and nowhere else.

A sum is residual if one of its terms, the *skip*, is an earlier tensor, as it was or through a projection at most, and
the others, the *branches*, were computed from that tensor by layers:

- all terms have the sum's shape and descend from one floating-point tensor, the *start*;
- between start and sum the skip has no attention, sum or concatenation, no activation function but before its first
  weight, and does not pick one position, x[:, t], as a recurrent cell does. A gate may multiply the start itself, as
  in a highway network or in what a recurrent cell keeps, if the gate was computed from the start too: in a weighted
  sum of features (focal modulation) no term is the skip;
- the branch has more weights than the skip, or as many and a nonlinear function; or neither has any, the skip is the
  start itself, and the branch has a norm, a pool, attention or a Fourier transform (PoolFormer, FNet);
- where the skip has weights of its own (a *transition*), there is no residual sum inside the branch: so that the sums
  of a feature pyramid are none. Around an identity skip there may be: branches can be *nested*;
- no branch is itself a residual stream that goes on elsewhere: the sum of all layers' outputs is no block;
- no branch is cut off from the gradient (x + (q - x).detach() is a straight-through estimator), and none is what the
  skip is subtracted from (pool(x) - x).

Sums of sums with nothing else to do are one sum of many terms: x + attention(n) + mlp(n) has two *parallel* branches,
each with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .branch import Branch
from .forks import ancestors, between
from .frame import Frame
from .node import Node
from .values import Value

_MOVES = {"pad", "constant_pad_nd", "repeat", "expand", "expand_as", "broadcast_to", "tile", "unseen"}
_NO_SKIP = ("input", "mix", "softmax", "attention", "recurrent", "embedding", "loss")
_MOST_TERMS = 16
_WEIGHTED = ("linear", "recurrent", "attention")
_LAYERS = ("norm", "pool", "mix", "softmax", "attention", "linear", "recurrent")


@dataclass
class _Side:
    """One term of a sum, seen beside another: the values that it alone descends from."""

    term: Value
    own: list[Value]  # in execution order; of a skip only those on its way
    nodes: list[Node]

    @property
    def weights(self) -> int:
        return sum(n.role in _WEIGHTED and n.weighted for n in self.nodes)

    def has(self, *roles: str) -> bool:
        return any(n.role in roles for n in self.nodes)


@dataclass
class _Pair:
    skip: _Side
    branch: _Side
    start: Value
    skip_scale: float | None


Term = tuple[Value, "float | None"]


def branches_of(sums: Sequence[tuple[Value, Frame]], nodes: Mapping[str, Node]) -> list[Branch]:
    """The residual branches of one pass, in execution order of their sums."""
    return _Finder(nodes).find(sums)


class _Finder:
    def __init__(self, nodes: Mapping[str, Node]):
        self.nodes = nodes
        self.residual: dict[int, list[tuple[_Pair, Term]]] = {}  # number of the sum's value -> its branches
        self.consumers: dict[str, list[Node]] = {}
        for node in nodes.values():
            for name in node.sources:
                self.consumers.setdefault(name, []).append(node)

    def find(self, sums: Sequence[tuple[Value, Frame]]) -> list[Branch]:
        for value, _ in sums:
            if value.floating and len(value.shape) > 1:
                self._judge(value)
        last = {id(frame): value.number for value, frame in sums if value.number in self.residual}
        found = [
            self._describe(value, frame, last[id(frame)] == value.number, *branch)
            for value, frame in sums
            for branch in self.residual.get(value.number, ())
        ]
        return _nested(found)

    # ---- judging -------------------------------------------------------------------------------------------

    def _judge(self, value: Value) -> None:
        terms = _terms(value)
        if len(terms) == 2:
            for skip, branch in (terms, terms[::-1]):
                pair = self._pair(skip, branch)
                if pair is not None:
                    self.residual[value.number] = self._split(skip, branch, pair)
                    return
        inner: list[int] = []
        flat = [t for term in terms for t in self._flat(term, inner)]
        if not 2 < len(flat) <= _MOST_TERMS:
            return
        for skip in flat:
            found = self._all(skip, [branch for branch in flat if branch is not skip])
            if found:
                for number in inner:  # all of it is one sum
                    self.residual.pop(number, None)
                self.residual[value.number] = found
                return

    def _all(self, skip: Term, branches: Sequence[Term]) -> list[tuple[_Pair, Term]]:
        """Parallel branches beside one skip; none if one of them is no branch with weights."""
        found = []
        for branch in branches:
            pair = self._pair(skip, branch)
            if pair is None or not pair.branch.weights:
                return []
            found.append((pair, branch))
        return found

    def _split(self, skip: Term, branch: Term, pair: _Pair) -> list[tuple[_Pair, Term]]:
        """A branch that is itself a sum of branches, if it is nothing else, as parallel ones."""
        flat = self._flat(branch, [], residual=False)
        return (self._all(skip, flat) if 1 < len(flat) <= _MOST_TERMS else []) or [(pair, branch)]

    def _flat(self, term: Term, inner: list[int], residual: bool = True) -> list[Term]:
        """The terms of a term that is a sum which nothing else uses; inner: numbers of these sums. residual: whether
        residual sums are opened too."""
        value, factor = term
        shape = value.shape
        while value.uses == 1 and value.shape == shape:
            if value.kind == "sum":
                if not residual and value.number in self.residual:
                    break
                inner.append(value.number)
                opened = [(v, _times(factor, f)) for v, f in _terms(value)]
                return [t for each in opened for t in self._flat(each, inner, residual)]
            if value.kind == "scale":
                factor = _times(factor, value.factors[0])
            elif not self._passes(value):
                break
            value = value.parents[0]
        return [term]

    def _passes(self, value: Value) -> bool:
        """Whether a value is another view of its parent, what a module made of other nodes returns, or dropout."""
        if value.kind == "view":
            return True
        node = self.nodes.get(value.node or "")
        one = value.kind == "node" and len(value.parents) == 1
        return one and node is not None and node.transparent and node.role != "pool"

    def _pair(self, skip: Term, branch: Term) -> _Pair | None:
        """Both, if skip and branch are what they are called."""
        (first, factor), (second, _) = skip, branch
        if first.shape != second.shape or first is second or (factor is not None and factor < 0):
            return None
        if not (first.floating and second.floating) or self._is_cut_off(second) or self._is_tapped(second):
            return None
        before = ancestors(second, self._lowest(first))
        found = self._start(first, before)
        if found is None:
            return None
        start, way = found
        own = [before[n] for n in sorted(before) if n > start.number]
        inside = [v for v in between(start, [*own, second]) if v not in way]
        side, other = (_Side(v, o, self._nodes_of(o)) for v, o in ((first, way), (second, inside)))
        if not inside or not _is_skip(side) or not self._is_branch(other, side):
            return None
        for value in way:
            if value.kind == "scale":
                factor = _times(factor, value.factors[0])
            elif value.kind == "product":
                factor = None
        return _Pair(side, other, start, factor)

    def _start(self, value: Value, before: Mapping[int, Value]) -> tuple[Value, list[Value]] | None:
        """(the start, the values from there to the skip's end): the nearest tensor on the skip's way back that the
        branch was computed from too. Of a product that is what the gate multiplies."""
        way: list[Value] = []
        first = value
        while value.number not in before:
            if not self._goes_on(value):
                return None
            way.append(value)
            parents = [p for p in value.parents if p.signal]
            if value.kind == "product":
                ways = [self._start(p, before) for p in parents if p.shape == value.shape]
                found = [w for w in ways if w is not None]
                if not found:
                    return None
                start, rest = min(found, key=lambda w: w[0].number)
                ends = {start.number, *(v.number for v in rest)}
                gates = [p for p in parents if p.number not in ends]
                if not all(start.number in ancestors(gate, start.number) for gate in gates):
                    return None
                return start, [*rest, *way[::-1]]
            if len(parents) != 1:
                return None
            value = parents[0]
        return (value, way[::-1]) if value.floating and (value.signal or value is first) else None

    def _lowest(self, value: Value) -> int:
        """The number of the earliest tensor that a skip which ends in this one can have come from."""
        seen, stack = {value.number}, [value]
        while stack:
            step = stack.pop()
            if self._goes_on(step):
                stack += [p for p in step.parents if p.signal and p.number not in seen]
                seen.update(p.number for p in step.parents if p.signal)
        return min(seen)

    def _goes_on(self, value: Value) -> bool:
        """Whether a value may lie on a skip path."""
        if value.picked or value.kind in ("sum", "concat", "stack", "weight"):
            return False
        if value.kind == "other":
            return value.name in _MOVES
        node = self.nodes.get(value.node or "")
        if node is None:
            return True
        if node.role == "product":
            return value.kind == "product"
        return node.role not in _NO_SKIP and not (node.role == "other" and node.kind != "module")

    def _nodes_of(self, values: Sequence[Value]) -> list[Node]:
        names = dict.fromkeys(v.node for v in values if v.node is not None)
        return [self.nodes[n] for n in names if n in self.nodes]

    def _is_cut_off(self, value: Value) -> bool:
        while True:
            if value.name in ("detach", "data"):
                return True
            if len(value.parents) != 1 or not (value.kind == "scale" or self._passes(value)):
                return False
            value = value.parents[0]

    def _is_tapped(self, value: Value) -> bool:
        """Whether it is a residual stream that goes on elsewhere, as where the outputs of all layers are added up."""
        uses = value.uses
        while value.kind == "scale" or self._passes(value):
            value = value.parents[0]
            uses = max(uses, value.uses)
        return uses > 1 and value.number in self.residual

    def _is_branch(self, branch: _Side, skip: _Side) -> bool:
        weights, beside = branch.weights, skip.weights
        if weights == beside == 0:
            changes = ("norm", "pool", "product")
            return not skip.has(*changes) and any(_is_layer(n) for n in branch.nodes)
        bends = branch.has("activation", "softmax", "attention", "recurrent")
        if not (weights > beside or (weights == beside and bends)):
            return False
        return not (beside and any(v.number in self.residual for v in branch.own))

    # ---- describing ----------------------------------------------------------------------------------------

    def _describe(self, value: Value, frame: Frame, last: bool, pair: _Pair, term: Term) -> Branch:
        end, scale = self._end(*term)
        block, after = value, ""
        if last and frame.path and frame.last is not None and frame.last.shape == value.shape:
            block, after = frame.last, self._between(value, frame.last)
        site, scaled = self._site(term[0])
        sum_node = value.node or ""
        starts = [self.nodes[n] for n in pair.start.sources if n in self.nodes]
        sides = [
            [n for n in side.nodes if n.name != sum_node and n.kind != "block"]
            for side in (pair.branch, pair.skip)
        ]
        nodes, skip = (tuple(n.name for n in side) for side in sides)
        axes = (pair.skip.term.axis, end.axis, value.axis)
        return Branch(
            sum=sum_node, path=frame.path, call=self.nodes[sum_node].call if not frame.path else frame.call,
            start=max(starts, key=lambda n: n.position).name if starts else "".join(pair.start.parameters), nodes=nodes,
            end=self._maker(end), site=site, scaled=scaled, skip=skip, transition=pair.skip.weights > 0,
            skip_end=self._maker(pair.skip.term) if pair.skip.own else None, scale=scale, skip_scale=pair.skip_scale,
            order=self._order(sum_node, sides[0], starts, frame.path), after=after, last=last and bool(frame.path),
            block=block.node or (block.sources[0] if block.sources else sum_node), shape=value.shape,
            axis=next((a for a in axes if a is not None), None),
            places=(frame.given.number if frame.given is not None and frame.path else None, end.number, block.number),
        )  # fmt: skip

    def _end(self, value: Value, factor: float | None) -> tuple[Value, float | None]:
        """(what the branch brings before factors and dropout, the product of the factors)."""
        end = value
        while True:
            if value.kind == "scale":
                by = value.factors[0]
                if by is not None and abs(by) > 1 and value.constant:
                    break  # a gain of the branch itself, as that of 2 behind a gate
                factor = _times(factor, by)
                end = value.parents[0]
            elif not self._passes(value):
                break
            elif value.kind == "node" and self.nodes[value.node or ""].role == "dropout":
                end = value.parents[0]
            value = value.parents[0]
        return end, factor

    def _maker(self, value: Value) -> str | None:
        """The layer or norm that made these values, seen through views, factors and gates."""
        while True:
            node = self.nodes.get(value.node or "")
            if node is not None and node.kind not in ("product", "concat") and not self._passes(value):
                return node.name
            if value.kind == "product":
                value = max(value.parents, key=lambda v: _size(v.shape))
            elif value.kind == "scale" or self._passes(value):
                value = value.parents[0]
            else:
                return None

    def _site(self, value: Value) -> tuple[str | None, bool]:
        """(the site whose tensor is added, whether it goes through arithmetic before)."""
        scaled = False
        while True:
            node = self.nodes.get(value.node or "")
            if node is not None and node.site:
                return node.name, scaled
            if value.kind == "product":
                value, scaled = max(value.parents, key=lambda v: _size(v.shape)), True
                continue
            sites = {s for p in value.parents for s in p.sources}
            if len(value.parents) != 1 and len(sites) != 1:
                return None, scaled
            scaled = scaled or not (value.kind == "view" or node is not None)
            value = value.parents[0]

    def _between(self, start: Value, end: Value) -> str:
        """What is between the sum and the block's end: "", "relu" or "other"."""
        found: list[Node] = []
        value = end
        while value is not start:
            node = self.nodes.get(value.node or "")
            if not self._passes(value):
                if node is None:
                    return "other"
                found.append(node)
            if len(value.parents) != 1:
                return "other"
            value = value.parents[0]
        if not found:
            return ""
        names = {n.activation.name if n.activation is not None else n.type for n in found}
        return "relu" if names == {"relu"} else "other"

    def _order(self, sum_node: str, branch: Sequence[Node], starts: Sequence[Node], path: str) -> str:
        for node in branch:
            if node.role in ("norm", "activation"):
                return "pre"
            if node.role in _WEIGHTED:
                break
        following = self.consumers.get(sum_node, [])
        while len(following) == 1 and following[0].transparent:
            following = self.consumers.get(following[0].name, [])
        if (
            len(following) == 1
            and following[0].role in ("norm", "activation")
            and _within(path, following[0])
        ):
            return "post"
        shared = any(n.role in ("norm", "activation") and _within(path, n) for n in starts)
        return "pre" if shared and path else ""  # norm and activation come before skip and branch part


def _is_skip(side: _Side) -> bool:
    """No activation function but before the first weight."""
    weighted = [i for i, n in enumerate(side.nodes) if n.role in _WEIGHTED]
    bends = [i for i, n in enumerate(side.nodes) if n.role == "activation"]
    return not bends or (bool(weighted) and bends[-1] < weighted[0])


def _is_layer(node: Node) -> bool:
    return node.role in _LAYERS or (node.role == "product" and node.type != "mul")


def _within(path: str, node: Node) -> bool:
    return not path or node.path == path or node.path.startswith(f"{path}.")


def _nested(branches: list[Branch]) -> list[Branch]:
    found = []
    members = [(b, frozenset(b.nodes)) for b in branches]
    for branch in branches:
        around = [(len(b.nodes), b.sum) for b, nodes in members if branch.sum in nodes]
        found.append(replace(branch, inside=min(around)[1]) if around else branch)
    return found


def _terms(value: Value) -> list[Term]:
    return list(zip(value.parents, value.factors))


def _times(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
