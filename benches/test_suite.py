"""Over all models of a level: how many meet every criterion."""


def test_models_meeting_all_criteria(suite, settle):
    settle(suite)
