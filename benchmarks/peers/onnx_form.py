"""Convert a calibrated model's estimator to ONNX and compare it with the model.

Prints one line of JSON: ``microseconds`` and ``difference``.
"""

import json
import re
import sys
import time

import joblib
import lightgbm
import numpy as np
import onnxruntime
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

update_registered_converter(
    lightgbm.LGBMClassifier,
    "LightGBM",
    calculate_linear_classifier_output_shapes,
    convert_lightgbm,
    options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
)


def convert(pipeline, encoded: np.ndarray):
    """Build a session and its feed for encoded rows.

    A linear model knows its columns by name, so each is an input of its own.
    """
    estimator, names = pipeline[-1], list(pipeline[0].get_feature_names_out())
    by_name = type(estimator).__name__ == "Pipeline"
    columns = [(name, FloatTensorType([None, 1])) for name in names]
    inputs = columns if by_name else [("rows", FloatTensorType([None, len(names)]))]
    graph = to_onnx(
        estimator,
        initial_types=inputs,
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    if by_name:
        return session, lambda rows: {name: rows[:, [i]] for i, name in enumerate(names)}
    return session, lambda rows: {"rows": rows}


def main() -> None:
    """Measure the model that is named on the command line."""
    model, inputs, own = joblib.load(sys.argv[1])
    calibrated = model.calibrated_classifiers_[0]
    pipeline, sigmoid = calibrated.estimator.estimator, calibrated.calibrators[0]
    encoded = pipeline[0].transform(inputs).to_numpy(dtype=np.float32)
    try:
        session, feed = convert(pipeline, encoded)
    except (MissingConverter, MissingShapeCalculator) as error:
        missing = re.findall(r"\w+(?='>)", str(error))[:1] or [type(error).__name__]
        print(json.dumps({"microseconds": "–", "difference": f"no converter for {missing[0]}"}))
        return
    probability = session.run(None, feed(encoded))[1][:, 1].astype(float)
    on_log_odds = hasattr(pipeline[-1], "decision_function")
    score = np.log(probability / (1 - probability)) if on_log_odds else probability
    one, blocks = feed(encoded[:1]), []
    for _ in range(5):
        started = time.process_time()
        for _ in range(2000):
            session.run(None, one)
        blocks.append((time.process_time() - started) / 2000 * 1e6)
    difference = float(np.abs(sigmoid.predict(score) - own).max())
    print(
        json.dumps(
            {"microseconds": round(float(np.median(blocks)), 1), "difference": f"{difference:.1g}"}
        )
    )


if __name__ == "__main__":
    main()
