"""Tables in Markdown."""

from textcosm.evaluation.markdown import markdown_table


def test_a_table_keeps_its_cells_apart():
    assert markdown_table(("a", "b"), [("1", "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"
    assert markdown_table(["a"], [["5 *\n6"]]).splitlines()[2] == "| 5 \\*<br>6 |"


def test_no_rows_are_no_table():
    assert markdown_table(("a",), []) == ""
