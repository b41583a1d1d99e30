"""A FastAPI route that returns a constant: what the framework itself costs."""

import sys

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/constant")
async def constant() -> dict:
    """Answer always the same."""
    return {
        "predictions": [
            {"customer_id": "7590-VHVEG", "churn_probability": 0.5, "decision": "offer"}
        ]
    }


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
