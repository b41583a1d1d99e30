from prometheus_client import generate_latest

from churn_utils.serving.metrics import ServingMetrics


def test_two_applications_count_apart():
    first, second = ServingMetrics(), ServingMetrics()
    first.predictions_of(1, "champion").inc(3)
    assert (
        'churn_predictions_total{arm="champion",model_version="1"} 3.0'
        in generate_latest(first.registry).decode()
    )
    assert "model_version" not in generate_latest(second.registry).decode()


def test_the_same_labels_count_together():
    metrics = ServingMetrics()
    metrics.seconds_of("/v1/scores", "POST", 200).observe(0.0004)
    metrics.seconds_of("/v1/scores", "POST", 200).observe(0.02)
    text = generate_latest(metrics.registry).decode()
    labels = 'method="POST",route="/v1/scores",status="200"'
    assert f'churn_request_seconds_bucket{{le="0.0005",{labels}}} 1.0' in text
    assert f"churn_request_seconds_count{{{labels}}} 2.0" in text


def test_only_versions_that_answer_are_shown():
    metrics = ServingMetrics()
    metrics.show_serving({"champion": 1, "challenger": 2})
    metrics.show_serving({"champion": 2})
    text = generate_latest(metrics.registry).decode()
    assert (
        'churn_model_serving{arm="champion",model_version="2"} 1.0' in text
        and "challenger" not in text
    )
    assert "churn_lineup_changes_total 2.0" in text
