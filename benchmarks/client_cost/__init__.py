"""What measuring costs: CPU of the load generator and of the fake worker per streamed token."""
