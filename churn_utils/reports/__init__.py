"""What people open: HTML pages, evidently's report, and figures."""
