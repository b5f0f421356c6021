"""What handlers may rely on, embedded and at a broker, by the same text."""


def test_an_event_that_comes_later_keeps_the_order_of_its_key(build, run, bus, request):
    """Its key waits for it, the other does not; where a broker has no such order, its time is kept all the same."""
    lines = run(build("tests/library/later.c"), bus)
    assert len(lines) == 5 and lines[0] == "a1 attempt 1" and "a1 attempt 2 later" in lines and {"b1 attempt 1", "b2 attempt 1"} <= set(lines)
    if request.config.getoption("--against") == "godwit":
        assert lines[-2:] == ["a1 attempt 2 later", "a2 attempt 1 later"]
