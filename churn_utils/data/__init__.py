"""What arrives and how it is kept: IBM's extract, the data contract, and the Delta tables."""
