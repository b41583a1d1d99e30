"""Requests, responses and errors of the API as pydantic models, with an example of each."""
