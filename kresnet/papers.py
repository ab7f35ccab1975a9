"""How a paper is cited: by its number in arXiv, or by its DOI where it is not there."""

from __future__ import annotations


def cited(paper: str) -> str:
    """Returns how a text names a paper: "arXiv:1512.03385", "doi:10.1109/5.726791".

    Args:
        paper: its number in arXiv, or its DOI, which begins with "10.".
    """
    return f"doi:{paper}" if paper.startswith("10.") else f"arXiv:{paper}"


def link(paper: str) -> str:
    """Returns a paper's address. Argument: as in `cited`."""
    return f"https://doi.org/{paper}" if paper.startswith("10.") else f"https://arxiv.org/abs/{paper}"
