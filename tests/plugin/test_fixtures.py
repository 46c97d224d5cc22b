from gates import GATE


def test_a_recipe_of_ones_own_has_a_suite_of_its_own(suite):
    source = """
        def test_size(cell, settle):
            settle(cell.judge("size"))

        def test_suite(suite, settle):
            settle(suite)
            assert (suite.recipe, suite.level, suite.incomplete) == ("int4-rtn", "int4", 1)
    """
    result = suite(source, "-k", "Tiny", "--recipe", "int4-rtn", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_suite[[]int4-rtn[]] PASSED*", "Tiny-int4-rtn is undecided: *"])


def test_a_suite_without_a_measured_model_is_skipped(suite):
    source = GATE + "\ndef test_models(suite, settle):\n    settle(suite)\n"
    result = suite(source, "-k", "test_models", "-rs")
    assert result.parseoutcomes()["skipped"] == 3
    result.stdout.fnmatch_lines(["*no cell of int4 was measured in this session*"])
