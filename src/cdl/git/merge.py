"""A merge made in memory: a tree, or the names of the files that two people changed differently.

`git merge-tree --write-tree` merges as `git merge` would and touches neither refs nor work tree:

    out:  <tree> NUL                          exit 0
    out:  <tree> NUL path NUL path NUL NUL    exit 1; the tree holds conflict marks and is of no use here
"""

from dataclasses import dataclass

from cdl.git.process import GitFailed, GitProcess, text_of


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """The merged tree, or None and the paths in conflict."""

    tree: str | None
    conflicts: tuple[str, ...] = ()


def merge_in_memory(git: GitProcess, ours: str, theirs: str) -> MergeResult:
    """Merges two commits. GitFailed where one is unknown or they have no commit in common."""
    answer = git.call("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    if answer.code not in (0, 1) or not answer.out:
        raise GitFailed(f"git merge-tree: {answer.err.strip()}", where=str(git.root))
    tree, *paths = answer.out.split(b"\0")
    if answer.code == 0:
        return MergeResult(tree=tree.decode())
    return MergeResult(tree=None, conflicts=tuple(dict.fromkeys(text_of(path) for path in paths if path)))
