import numpy as np
import pandas as pd

from churn_utils.reports.figures import serving

TRAFFIC = pd.DataFrame(
    {
        "second": np.linspace(0, 2, 5000),
        "milliseconds": np.linspace(1, 9, 5000),
        "status": 200,
        "model_version": np.where(np.arange(5000) < 2000, 1, 2),
    }
)


def test_latencies_end_at_one_and_show_percentiles():
    figure = serving.plot_latencies(TRAFFIC, "latencies")
    assert figure.data[0].y[-1] == 1 and len(figure.data[0].x) <= 300
    assert [a.text for a in figure.layout.annotations] == ["median: 5.0 ms", "99 %: 8.9 ms"]


def test_ab_test_shows_its_interval_or_that_none_exists():
    figure = serving.plot_ab_test(70.0, 10.0, 130.0, "A/B test")
    assert list(figure.data[0].x) == [10.0, 130.0] and list(figure.data[1].x) == [70.0]
    empty = serving.plot_ab_test(np.nan, np.nan, np.nan, "A/B test")
    assert len(empty.data) == 0 and "not enough" in empty.layout.annotations[0].text


def test_promotion_shows_both_versions_and_failures():
    figure = serving.plot_promotion(TRAFFIC, "promotion")
    assert [trace.name for trace in figure.data] == ["version 1", "version 2"]
    assert max(figure.data[0].x) < min(figure.data[1].x) and len(figure.data[0].x) <= 1500
    lost = serving.plot_promotion(
        TRAFFIC.assign(status=np.where(TRAFFIC.index == 7, 503, 200)), "promotion"
    )
    assert lost.data[-1].name == "failed" and len(lost.data[-1].x) == 1
