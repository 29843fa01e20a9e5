from benchmarks.report import machine, machine_line, table


def test_table_lines_up_and_shows_what_is_missing_as_a_dash():
    text = table(["who", "rate"], [["ours", 12345.6], ["theirs", None], ["third", 0.98765]])
    assert text.splitlines() == [
        "who       rate",
        "ours    12,346",
        "theirs       -",
        "third   0.9877",
    ]


def test_machine_names_cores_and_versions():
    assert {"cores", "python", "numpy", "gymnasium", "torch", "stable-baselines3"} <= machine().keys()
    assert "numpy" in machine_line()
