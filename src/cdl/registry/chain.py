"""A chain: several commits that land in one move of a branch, or not at all."""

from collections.abc import Iterable, Mapping

from cdl.git.commit import advance, make_commit, make_tree, tip_of
from cdl.registry.records import Head, Record
from cdl.registry.registry import Registry, contents, message


class Chain:
    """Commits made one on the other in memory; nothing is seen before `land`, which moves the branch once."""

    def __init__(self, registry: Registry, branch: str) -> None:
        self.registry = registry
        self.branch = branch
        self.start = self.tip = tip_of(registry.git, branch)

    def commit(
        self,
        *records: Record,
        heads: Iterable[tuple[str, Head]] = (),
        files: Mapping[str, bytes] | None = None,
        command: str,
        line: str,
        merged: str | None = None,
        tree: str | None = None,
    ) -> tuple[str, ...]:
        """Adds a commit; with `merged` a merge of that commit whose tree (before the files) is `tree`."""
        git = self.registry.git
        ids, content = contents(records, heads, files or {})
        parents = [self.tip] + ([merged] if merged else [])
        made = make_tree(git, tree or self.tip, content)
        self.tip = make_commit(git, made, parents, message(command, line, ids))
        return ids

    def added(self) -> dict[str, bytes]:
        """The files that the commits so far added or changed; a merge of `start` needs them again."""
        lines = self.registry.git.text(
            "diff-tree", "-r", "--name-only", "--diff-filter=AM", "--end-of-options", self.start, self.tip
        )
        return self.registry.git.read_many(self.tip, [p for p in lines.splitlines() if p])

    def land(self) -> str:
        """Moves the branch to the last commit; Conflict when somebody else moved it since."""
        advance(self.registry.git, self.branch, self.tip, expect=self.start)
        self.registry.observe()
        return self.tip
