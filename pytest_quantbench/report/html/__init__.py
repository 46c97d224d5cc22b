"""Records and raw samples → one HTML file that needs no network: answers, a table, charts, a page for each cell.

Names, texts and notes in it come from other people's models. They are escaped where they stand in HTML, set as text
where the script shows them, and the page's policy lets no script run but its own two.
"""

from pytest_quantbench.report.html.page import page

__all__ = ["page"]
