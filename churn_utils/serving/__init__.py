"""The prediction API: routes, schemas, middleware, predictor with its loaded models, A/B tests."""
