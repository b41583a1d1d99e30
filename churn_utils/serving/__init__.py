"""The prediction API: routes, middleware, models that are kept ready, and A/B tests."""
