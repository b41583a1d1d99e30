import numpy as np
import pytest

from churn_utils.errors import DataError
from churn_utils.monitoring.champion import Champion


def test_scored_rows_are_not_scored_again(simulated, simulated_champion):
    scored = simulated_champion.with_score(simulated[2])
    other = scored.assign(champion_score=0.5)
    assert simulated_champion.with_score(other).equals(other)


def test_partly_scored_rows_are_refused(simulated, simulated_champion):
    scored = simulated_champion.with_score(simulated[2])
    kept = scored["champion_score"].where(np.arange(len(scored)) < 7000)
    with pytest.raises(DataError, match="43 of 7043 rows have no champion_score"):
        simulated_champion.with_score(scored.assign(champion_score=kept))


def test_reference_has_no_scores_of_an_earlier_champion(simulated_champion):
    stale = simulated_champion.training_rows.assign(champion_score=0.5)
    champion = Champion(2, simulated_champion.model, stale, simulated_champion.trained_to)
    assert champion.reference["champion_score"].nunique() > 1000
